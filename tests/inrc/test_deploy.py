"""`spikegen deploy`: limits before the queue, partitions and boards, and what stands in the scripts."""

import dataclasses
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spikegen.cli import main
from spikegen.cli.deploy import _GENERATIONS, _HOST_BINARY
from spikegen.errors import ConfigError
from spikegen.hardware.inrc import Stage, find_generation
from spikegen.hardware.inrc.partitions import GENERATIONS, HOST_BINARY, LOIHI_1, NODES, PARTITIONS, find_limits
from spikegen.hardware.loihi2 import BOARDS
from spikegen.program import Pipeline, Readout, save
from tests.cli.commands import refuse, succeed, summary
from tests.runtime.programs import tiny

pytestmark = pytest.mark.usefixtures("folder")


def deploy(*options: Any) -> Any:
    return summary("deploy", "tiny.h5", *options, "-o", "job")


def lines(name: str) -> list[str]:
    return (Path("job") / name).read_text().splitlines()


def three_timesteps() -> Pipeline:
    """A pipeline whose T is no power of two, which the chip does not reset at."""
    pipeline = tiny()
    program = pipeline.network("denoiser")
    populations = tuple(
        dataclasses.replace(p, weights=p.weights[:3], bias=p.bias[:3]) if isinstance(p, Readout) else p
        for p in program.populations
    )
    odd = dataclasses.replace(program, timesteps=3, populations=populations)
    return dataclasses.replace(pipeline, networks={"denoiser": odd})


# --- what is known of the INRC


def test_every_partition_and_node_leads_to_a_board() -> None:
    assert {partition.board for partition in PARTITIONS.values()} <= set(BOARDS)
    assert set(NODES.values()) <= set(BOARDS)
    assert all(partition.source for partition in PARTITIONS.values())
    assert {partition.generation for partition in PARTITIONS.values()} <= set(GENERATIONS)
    assert [find_generation(name) for name in ("kp", "oheogulch_2h", "other", None)] == ["N3C1", "N3B3", "N3B3", "N3B3"]
    assert (_GENERATIONS, _HOST_BINARY) == (GENERATIONS, HOST_BINARY)


@pytest.mark.parametrize(
    ("partition", "node", "board"),
    [
        ("oheogulch", None, "oheogulch"),
        ("oheogulch_2h", None, "oheogulch"),
        ("kp_stack", None, "kapohopoint"),
        (None, "ncl-ext-og-04", "oheogulch"),
        ("oheogulch", "ncl-ext-og-04", "oheogulch"),
        ("oheogulch", "unheard-of", "oheogulch"),
        ("unheard-of", "ncl-og-01", "oheogulch"),
    ],
)
def test_the_board_behind_a_partition(partition: str | None, node: str | None, board: str) -> None:
    assert find_limits(partition, node) == board


@pytest.mark.parametrize(
    ("partition", "node", "message"),
    [
        ("kp", "ncl-ext-og-01", "the board ncl-ext-og-01 is oheogulch, the partition kp has kapohopoint"),
        ("gpu", None, "it is not known which board the partition gpu has; partitions that are known: oheogulch, "),
        (None, "n1", "it is not known which board the board n1 has"),
        (None, None, "it is not known which board the host has"),
        *((name, None, f"the partition {name} has Loihi 1") for name in LOIHI_1),
    ],
)
def test_boards_that_are_not_known(partition: str | None, node: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_limits(partition, node)


# --- the check


def test_a_pipeline_that_fits_is_deployed_with_what_was_found() -> None:
    made = deploy("--partition", "oheogulch", "-n", 4, "--shards", 2)
    assert made["check"]["board"] == "oheogulch"
    assert made["check"]["fits"] is True
    assert made["check"]["networks"]["denoiser"]["cores"] >= 1
    assert made["place"]["backend"] == "loihi2"
    shown = succeed("deploy", "tiny.h5", "--partition", "kp", "-o", "other").stdout
    assert "chips of kapohopoint: fits" in shown
    assert "Next: spikegen submit other" in shown


def test_a_pipeline_that_does_not_fit_is_refused_and_forced() -> None:
    save(three_timesteps(), "odd.h5")
    command = ("deploy", "odd.h5", "--partition", "oheogulch", "-o", "job")
    message = (
        "Error: tiny does not fit Oheo Gulch; `spikegen check --board oheogulch --fix` says what would, --force writes "
        "the job all the same: - denoiser: reset_period: "
    )
    refuse(1, message, *command)
    made = summary(*command, "--force")
    assert made["check"]["fits"] is False
    assert made["check"]["networks"]["denoiser"]["violations"][0]["rule"] == "reset_period"
    shown = succeed(*command[:-1], "again", "--force").stdout
    assert "1 broken limits" in shown


def test_only_the_networks_that_sampling_runs_are_checked() -> None:
    made = summary("deploy", "tokens.h5", "--partition", "oheogulch", "-o", "job")
    assert list(made["check"]["networks"]) == ["denoiser", "decoder"]
    assert made["sampling"]["generator"] == "chip"


def test_other_backends_are_checked_if_asked() -> None:
    assert deploy("--partition", "any", "--backend", "lava")["check"] is None
    made = summary("deploy", "tiny.h5", "--limits", "oheogulch", "--backend", "lava", "-o", "b")
    assert made["check"]["fits"] is True
    refuse(1, "there is no board 'og'; boards and their chips", "deploy", "tiny.h5", "--limits", "og", "-o", "c")


# --- the scripts


def sbatch() -> set[str]:
    return {line.removeprefix("#SBATCH ") for line in lines("job.sh") if line.startswith("#SBATCH")}


def test_the_scripts_for_a_partition() -> None:
    deploy("--partition", "oheogulch", "-n", 9, "--shards", 4, "--time-limit", "0:20:00")
    assert sbatch() == {
        *("--job-name=spikegen", "--array=0-3", "--nodes=1", "--ntasks=1", "--requeue", "--partition=oheogulch"),
        *("--exclusive", "--time=0:20:00", "--output=logs/%A_%a.log", "--open-mode=append"),
    }
    assert lines("environment.sh")[1:] == [
        "export SPIKEGEN_PYTHON=python3",
        "export LOIHI_GEN=N3B3",
        "export SLURM=1",
        "export PARTITION=oheogulch",
        "unset BOARD",
        "unset NOSLURM",
        "unset NXSDKHOST",
        "unset HOST_BINARY",
        'export PATH="$PATH:/nfs/ncl/bin:/opt/riscv/bin"',
    ]
    assert lines("requirements.txt")[1:] == [
        *("spikegen==0.1.0", "numpy==1.26.4", "lava-nc==0.10.0"),
        "# lava-loihi, which members of the INRC get from Intel; it is on no public index",
    ]


def test_the_scripts_for_a_board_and_for_another_queue() -> None:
    deploy("--partition", "oheogulch", "--board", "ncl-ext-og-04", "--loihi-gen", "N3C1")
    assert {"--partition=oheogulch", "--nodelist=ncl-ext-og-04"} <= sbatch()
    assert {"export BOARD=ncl-ext-og-04", "export LOIHI_GEN=N3C1"} <= set(lines("environment.sh"))
    summary("deploy", "tiny.h5", "--board", "ncl-ext-og-04", "--queue", "cpu", "-o", "b")
    script = Path("b/job.sh").read_text()
    assert "--partition=cpu" in script
    assert "nodelist" not in script
    assert "unset PARTITION" in Path("b/environment.sh").read_text()


def test_the_scripts_for_a_host_without_slurm() -> None:
    place = ("--host", "10.0.0.7", "--host-binary", "nxcore/bin/armv7l-N3C1/nx driver", "--limits", "kapohopoint")
    assert deploy(*place)["check"]["board"] == "kapohopoint"
    found = set(lines("environment.sh"))
    assert {"unset SLURM", "unset PARTITION", "export NOSLURM=1", "export NXSDKHOST=10.0.0.7"} <= found
    assert "export HOST_BINARY='nxcore/bin/armv7l-N3C1/nx driver'" in found
    refuse(1, "this job is for the board at 10.0.0.7, without Slurm: run `bash job.sh` in the folder", "submit", "job")
    assert "Next: bash job.sh in other" in succeed("deploy", "tiny.h5", *place, "-o", "other").stdout


def test_a_job_runs_without_slurm_too() -> None:
    deploy("--backend", "simulator", "-n", 3, "--steps", 2, "--shards", 2, "--python", sys.executable)
    done = subprocess.run(["bash", "job.sh"], cwd="job", capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "shard 1: finished"
    succeed("fetch", "job", "-o", "a.png")
    wrong = subprocess.run(["bash", "job/job.sh"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert wrong.stderr.endswith("is not the job folder\n")
    altered = Path("job/requirements.txt")
    altered.write_text(altered.read_text() + "torch\n")
    failed = subprocess.run(["bash", "job.sh"], cwd="job", capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert (
        failed.stderr == f"Error: {altered.absolute()}: it was altered after `spikegen deploy` wrote it; deploy again\n"
    )


# --- bad command lines


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--partition", "gpu"), "it is not known which board the partition gpu has"),
        (("--partition", "nahuku32"), "the partition nahuku32 has Loihi 1; the partitions with Loihi 2 are oheogulch"),
        ((), "it is not known which board the host has"),
        (("--partition", "a b"), "the partition 'a b' is no name"),
        (("--partition", "x\n#SBATCH --wrap=y"), "is no name"),
        (("--partition", "--all"), "the partition '--all' is no name"),
        (("--board", "$(id)"), "the board '$(id)' is no name"),
        (("--queue", ";"), "the queue ';' is no name"),
        (("--host", "a;b"), "the host 'a;b' is no name"),
        (("--host", "h", "--board", "b"), "--host is a board without Slurm: it takes neither --board nor --queue"),
        (("--time-limit", "soon"), "the time limit 'soon' is none of MINUTES, MINUTES:SECONDS"),
        (("--python", "-c"), "'-c' or 'nxcore/bin/nx_driver_server' is no path"),
        (("--python", "a\nb"), "is no path"),
        (("--loihi-gen", "N9"), "--loihi-gen"),
        (("-n", 3, "--shards", 4), "4 shards of 3 images, allowed 1..3"),
        (("--shards", 0), "--shards"),
        (("--steps", 41), "number of solver steps is 41"),
        (("--solver", "ddpm", "--eta", 0.5), "solver ddpm has no option eta"),
        (("--generator", "lookup"), "--generator is an option of pipelines of tokens; tiny samples images"),
        (("--backend", "lava", "--synapses", "conv"), "--synapses is an option of the backends"),
        (("--backend", "loihi3"), "loihi3"),
    ],
)
def test_bad_command_lines(options: tuple[Any, ...], message: str) -> None:
    board = () if {"--partition", "--board", "--host"} & {*map(str, options)} or not options else ("--partition", "kp")
    refuse(2, message, "deploy", "tiny.h5", *board, *options, "-o", "job")


def test_a_pipeline_that_is_none() -> None:
    Path("junk.h5").write_bytes(b"junk")
    refuse(1, "junk.h5", "deploy", "junk.h5", "--partition", "oheogulch", "-o", "job")
    refuse(1, "none.h5", "deploy", "none.h5", "--partition", "oheogulch", "-o", "job")


def test_the_manifest_is_what_is_printed() -> None:
    made = deploy("--partition", "oheogulch")
    assert made == {"output": "job", **json.loads(Path("job/manifest.json").read_text())}


# --- the documentation


def test_the_table_of_partitions_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "inrc.md").read_text(encoding="utf-8")
    for partition in PARTITIONS.values():
        cells = (f"`{partition.name}`", f"`{partition.board}`", partition.generation, partition.source)
        assert f"\n| {' | '.join(cells)} |\n" in page
    for stage in Stage:
        assert stage.value in page


def test_the_commands_of_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "inrc.md").read_text(encoding="utf-8")
    commands = [shlex.split(line)[1:] for line in re.findall(r"^spikegen .*$", page, re.MULTILINE)]
    assert [command[0] for command in commands] == ["export", "deploy", "submit", "status", "fetch", "report"]
    for name, *arguments in commands:
        main.load(name).make_context(name, arguments).close()
