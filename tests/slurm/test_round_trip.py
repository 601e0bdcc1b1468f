"""Jobs through a real Slurm: the way there and back, lost shards, refusals. Networks run on Lava's CPU simulator."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikegen.program import save
from tests.cli.commands import refuse, run, succeed, summary
from tests.runtime.programs import tiny
from tests.slurm.conftest import PARTITION

pytestmark = [pytest.mark.slow, pytest.mark.lava]


@pytest.fixture
def folder(slurm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with one pipeline file in it, on a machine with Slurm."""
    monkeypatch.chdir(tmp_path)
    save(tiny(), "tiny.h5")
    return tmp_path


@pytest.fixture(scope="session", autouse=True)
def sleeper(configuration: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job of one shard that does nothing for longer than its time limit, a minute; it begins before all others."""
    folder = tmp_path_factory.mktemp("sleeper")
    save(tiny(), folder / "tiny.h5")
    script = folder / "sleep"
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    script.chmod(0o755)
    place = ("--partition", PARTITION, "--backend", "lava", "--python", script, "--time-limit", 1)
    succeed("deploy", folder / "tiny.h5", *place, "-o", folder / "job")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", configuration)
        succeed("submit", folder / "job")
    return folder / "job"


def deploy(*options: Any, backend: str = "lava", python: str = sys.executable, partition: str = "oheogulch") -> None:
    place = ("--partition", partition, "--backend", backend, "--python", python)
    succeed("deploy", "tiny.h5", *place, *options, "-o", "job")


def wait(what: Callable[[], Any], seconds: float = 120) -> Any:
    """The first answer that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} seconds; status: {run('status', 'job').output}")


def stages(job: str = "job") -> list[str]:
    return [shard["stage"] for shard in summary_of(job)["shards"]]


def summary_of(job: str) -> Any:
    return json.loads(run("status", job, "--json").stdout)


def assert_equals_a_local_run(*options: Any) -> None:
    """What is fetched is, byte for byte, what `spikegen sample` writes here."""
    succeed("fetch", "job", "-o", "job.png", "--npy", "job.npy", "--counts", "job.json")
    succeed("sample", "tiny.h5", *options, "-o", "here.png", "--npy", "here.npy", "--counts", "here.json")
    for suffix in ("png", "npy", "json"):
        assert Path(f"job.{suffix}").read_bytes() == Path(f"here.{suffix}").read_bytes(), suffix


def processes() -> dict[int, list[bytes]]:
    """The processes that run in the job folder: number -> command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):  # it has ended since, or is none
            if (entry / "cwd").resolve() == Path("job").resolve():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().split(b"\0")
    return found


def test_there_and_back(folder: Path) -> None:
    options = ("-n", 7, "--steps", 4, "--seed", 5, "--solver", "ddpm")
    deploy(*options, "--shards", 3)
    assert stages() == ["not submitted"] * 3
    submitted = summary("submit", "job")
    assert submitted["shards"] == [0, 1, 2]
    assert summary("submit", "job")["shards"] == []  # they are in the queue
    early = run("fetch", "job", "-o", "early.png")
    assert early.exit_code == 1
    assert "Error: " in early.stderr
    assert "of 3 shards have no result" in early.stderr
    assert not Path("early.png").exists()
    done = summary("status", "job", "--wait", "--interval", 0.2)
    assert done["done"]
    assert [shard["stage"] for shard in done["shards"]] == ["finished"] * 3
    assert [shard["images"] for shard in done["shards"]] == [2, 2, 3]
    assert_equals_a_local_run(*options)
    written = {path: path.stat().st_mtime_ns for path in Path("job/results").rglob("*")}
    assert summary("submit", "job")["shards"] == []  # nothing is run twice
    assert {path: path.stat().st_mtime_ns for path in Path("job/results").rglob("*")} == written
    assert not list(Path("job/states").iterdir())


def test_shards_that_are_killed_are_queued_again_and_the_images_stay_the_same(folder: Path) -> None:
    options = ("-n", 20, "--steps", 40, "--seed", 1, "--solver", "ddpm")
    deploy(*options, "--shards", 3, "--batch", 1)
    job = summary("submit", "job")["job"]
    states = [Path(f"job/states/shard-{shard:04d}.state") for shard in (0, 1)]
    for state in states:
        wait(state.exists)
    (process,) = (number for number, words in processes().items() if words[1:3] == [b"run.py", b"0"])
    os.kill(process, signal.SIGKILL)  # as the kernel does when memory runs out
    subprocess.run(["scancel", f"{job}_1"], check=True)  # as the site does
    result = run("status", "job", "--wait", "--interval", 0.2)
    assert result.exit_code == 1
    assert "Error: job: 2 of 3 shards are lost or damaged; shard 0: FAILED" in result.stderr
    assert "`spikegen submit job` queues them again" in result.stderr
    wait(lambda: not processes())  # of Lava's none is left
    assert stages() == ["lost", "lost", "finished"]
    assert summary_of("job")["shards"][1]["state"] == "CANCELLED"
    refuse(1, "2 of 3 shards have no result (0, 1)", "fetch", "job", "-o", "job.png")
    again = summary("submit", "job")
    assert again["shards"] == [0, 1]
    assert summary("status", "job", "--wait", "--interval", 0.2)["done"]
    for shard in (0, 1):  # from where they were
        assert f"shard {shard}: goes on after step" in Path(f"job/logs/{again['job']}_{shard}.log").read_text()
    assert_equals_a_local_run(*options)


def test_a_damaged_result_is_found_and_run_again(folder: Path) -> None:
    options = ("-n", 2, "--steps", 2)
    deploy(*options, "--shards", 2, backend="simulator")
    succeed("submit", "job")
    summary("status", "job", "--wait", "--interval", 0.2)
    path = Path("job/results/shard-0001/images.npy")
    images = np.load(path)
    np.save(path, -images)
    message = (
        f"{path.absolute()}: it is not what the shard wrote (its digest differs); `spikegen submit` runs the shard"
    )
    refuse(1, message, "fetch", "job", "-o", "job.png")
    wait(lambda: stages() == ["finished", "damaged"])  # while Slurm is completing the task it counts as running
    refuse(1, message, "status", "job")
    assert summary("submit", "job")["shards"] == [1]
    assert summary("status", "job", "--wait", "--interval", 0.2)["done"]
    np.testing.assert_array_equal(np.load(path), images)
    assert_equals_a_local_run(*options)


def test_a_partition_that_is_not_there(folder: Path) -> None:
    deploy(partition="kp")
    refuse(
        1,
        "Error: sbatch failed on this machine: invalid partition specified: kp; Batch job submission failed: Invalid "
        "partition name specified",
        "submit",
        "job",
    )
    assert stages() == ["not submitted"]


def test_a_job_that_fails_says_why(folder: Path) -> None:
    script = folder / "bare"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')  # sees no installed package
    script.chmod(0o755)
    deploy("-n", 1, "--steps", 1, python=str(script))
    job = summary("submit", "job")["job"]
    wait(lambda: stages() == ["lost"])
    refuse(
        1,
        f"Error: job: 1 of 1 shards are lost or damaged; shard 0: FAILED, NonZeroExitCode; {sys.executable} "
        "cannot import spikegen (No module named 'spikegen'); see requirements.txt; `spikegen submit job` queues them",
        "status",
        "job",
    )
    assert Path(f"job/logs/{job}_0.log").exists()
    refuse(1, "1 of 1 shards have no result (0)", "fetch", "job", "-o", "job.png")


@pytest.mark.after_a_minute
def test_a_job_that_runs_out_of_time(slurm: str, sleeper: Path) -> None:
    result = run("status", sleeper, "--wait", "--interval", 0.5)
    assert result.exit_code == 1
    assert f"Error: {sleeper}: 1 of 1 shards are lost or damaged; shard 0: TIMEOUT, TimeLimit" in result.stderr
    assert "DUE TO TIME LIMIT" in result.stderr
    assert summary("submit", sleeper)["shards"] == [0]
