"""A queue behind ssh, with a stand-in for ssh that runs the commands here in a home of its own."""

import os
from pathlib import Path

import pytest

from spikegen.errors import ConfigError
from spikegen.hardware.inrc import open_job
from spikegen.hardware.inrc.remote import SshHost
from tests.cli.commands import refuse, run, succeed, summary
from tests.inrc.stand_ins import Queue, only
from tests.inrc.test_queueing import shards, stages
from tests.inrc.test_shards import deploy, finish

WHERE = ("--ssh", "me@inrc", "--remote-dir", "my jobs; touch x/$(id)")
PLACE = "my jobs; touch x/$(id)"  # a name that a shell must not read


@pytest.fixture
def job(folder: Path, queue: Queue, home: Path) -> Path:
    return deploy("-n", 5, "--steps", 2, "--shards", 3)


def asked(home: Path) -> list[str]:
    return (home.parent / "ssh").read_text().splitlines()


def refuse_fetch(message: str) -> None:
    """The command must say ``message`` and write no picture; good results may have been copied."""
    result = run("fetch", "job", "-o", "a.png")
    assert result.exit_code == 1
    assert f"Error: {result.stderr.rpartition('Error: ')[2]}" == result.stderr[result.stderr.index("Error: ") :]
    assert message in " ".join(result.stderr.split())
    assert not Path("a.png").exists()


def test_there_and_back(job: Path, queue: Queue, home: Path) -> None:
    remote = home / PLACE
    assert summary("submit", "job", *WHERE)["shards"] == [0, 1, 2]
    assert queue.submitted[0].endswith(f"--array=0-2 {remote}/job.sh")
    assert f"--chdir={remote} " in queue.submitted[0]
    assert sorted(path.name for path in home.iterdir()) == ["my jobs; touch x"]
    for path in job.iterdir():
        if path.is_file() and path.name != "submissions.json":
            assert (remote / path.name).read_bytes() == path.read_bytes()
    assert all(line.startswith("-o BatchMode=yes -- me@inrc ") for line in asked(home))
    queue.answer("1|0|RUNNING|None", "1|1|PENDING|Resources", "1|2|FAILED|NonZeroExitCode")
    finish(remote, 0)
    (remote / "logs/1_2.log").write_text("Error: no board\n")
    assert stages() == ["finished", "waiting", "lost"]
    assert shards()[2]["detail"] == "NonZeroExitCode; no board"
    assert list((job / "results").iterdir()) == []  # a look copies nothing
    refuse_fetch("2 of 3 shards have no result (1, 2)")
    assert summary("submit", "job")["shards"] == [2]  # the machine is remembered
    finish(remote)
    succeed("fetch", "job", "-o", "a.png", "--npy", "a.npy", "--counts", "a.json")
    succeed("sample", "tiny.h5", "-n", 5, "--steps", 2, "-o", "b.png", "--npy", "b.npy", "--counts", "b.json")
    for suffix in ("png", "npy", "json"):
        assert Path(f"a.{suffix}").read_bytes() == Path(f"b.{suffix}").read_bytes()
    before = len(asked(home))
    succeed("fetch", "job", "-o", "a.png")  # nothing is copied twice
    assert not any(" tar " in line for line in asked(home)[before:])


def test_the_folder_there_has_a_name_of_its_own(job: Path, home: Path) -> None:
    succeed("submit", "job", "--ssh", "me@inrc")
    assert (home / "spikegen-jobs" / open_job(job).name / "manifest.json").exists()


def test_a_result_that_is_damaged_there(job: Path, queue: Queue, home: Path) -> None:
    succeed("submit", "job", *WHERE)
    remote = home / PLACE
    finish(remote)
    path = remote / "results/shard-0001/images.npy"
    path.write_bytes(path.read_bytes()[:-1])
    message = (
        "on me@inrc: shard-0001/images.npy: it is not what the shard wrote (its digest differs); `spikegen submit`"
    )
    refuse_fetch(message)
    assert not (job / "results/shard-0001").exists()
    assert summary("submit", "job")["shards"] == [1]
    finish(remote)
    succeed("fetch", "job", "-o", "a.png")


def test_a_result_with_holes_is_not_unpacked(
    job: Path, queue: Queue, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sparse file claims any size in an archive of a few bytes."""
    succeed("submit", "job", *WHERE)
    finish(home / PLACE)
    os.truncate(home / PLACE / "results/shard-0001/images.npy", 1 << 26)
    monkeypatch.setenv("TAR_OPTIONS", "--sparse")
    refuse_fetch(
        "on me@inrc: shard-0001/images.npy: a sparse file, which no result is; `spikegen submit` runs the shard again"
    )
    assert sorted(path.name for path in (job / "results").iterdir()) == ["shard-0000", "shard-0002"]


def test_a_result_that_is_damaged_here_is_copied_again(job: Path, queue: Queue, home: Path) -> None:
    succeed("submit", "job", *WHERE)
    finish(home / PLACE)
    succeed("fetch", "job", "-o", "a.png")
    (job / "results/shard-0001/images.npy").unlink()
    succeed("fetch", "job", "-o", "b.png")
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_another_job_in_the_folder_there(job: Path, queue: Queue, home: Path) -> None:
    succeed("submit", "job", *WHERE)
    deploy("--seed", 1, output="other")
    message = f"me@inrc:{home / PLACE} holds another job; name another folder with --remote-dir"
    refuse(1, message, "submit", "other", *WHERE)
    assert len(queue.submitted) == 1


def test_a_job_stays_where_it_was_submitted(job: Path, queue: Queue) -> None:
    succeed("submit", "job")
    refuse(
        1,
        f"it was submitted on this machine in {job.absolute()} before; deploy another job for me@inrc in ",
        "submit",
        "job",
        *WHERE,
    )
    refuse(2, "--remote-dir '-x' is no folder", "submit", "job", "--ssh", "me@inrc", "--remote-dir", "-x")
    refuse(2, "--remote-dir names a folder on another machine: --ssh is missing", "submit", "job", "--remote-dir", "x")


def test_ssh_does_not_get_through(job: Path, home: Path) -> None:
    (home.parent / "ssh-refusal").write_text("me@inrc: Permission denied (publickey).\n")
    refuse(1, "Error: ssh me@inrc failed: me@inrc: Permission denied (publickey).", "submit", "job", *WHERE)
    assert not (job / "submissions.json").exists()


def test_slurm_is_not_installed_there(
    folder: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{_basics(tmp_path / 'basics')}")
    message = "Slurm is not installed on me@inrc (no command sbatch); name a machine that has it: --ssh user@host"
    refuse(1, message, "submit", "job", *WHERE)


def _basics(folder: Path) -> Path:
    """What any machine has, and no Slurm."""
    import shutil

    folder.mkdir()
    for name in ("sh", "mkdir", "find", "cat", "tar", "realpath", "tail"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def test_ssh_is_not_installed_here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy()
    only(tmp_path / "nothing", monkeypatch)
    refuse(1, "ssh is not installed here; submit on the machine with the queue, without --ssh", "submit", "job", *WHERE)


@pytest.mark.parametrize("address", ["-oProxyCommand=x", "", "me@", "a b", "a;b", "me@host\n", "@host", "a@b@c"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ConfigError, match="is no address for ssh, such as user@host"):
        SshHost(address)


@pytest.mark.parametrize("address", ["host", "me@host.example.org", "me@10.0.0.1", "me@[::1]"])
def test_addresses(address: str) -> None:
    assert SshHost(address).name == address
