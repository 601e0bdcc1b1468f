"""Help is fast and whole: no heavy import for `spikegen --help`, an example in every command's."""

import subprocess
import sys
from pathlib import Path

import pytest
import rich_click as click
from click.testing import CliRunner

import spikegen
from spikegen.cli import COMMANDS, main
from spikegen.cli._lazy import LazyCommand, LazyGroup
from spikegen.errors import SpikegenError

HEAVY = ("torch", "lava", "numpy", "h5py", "PIL", "scipy", "diffusers", "spikegen.program")

ROOT = Path(spikegen.__file__).parents[1]  # where a fresh interpreter finds the package, installed or not

PROBE = """
import sys
from click.testing import CliRunner
{before}
from spikegen.cli import main
for arguments in {lines!r}:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    print(",".join(name for name in {heavy!r} if name in sys.modules))
"""


def imported(*lines: list[str], before: str = "") -> list[set[str]]:
    """The heavy modules that a fresh interpreter has imported after each of several command lines in a row."""
    script = PROBE.format(before=before, lines=lines, heavy=HEAVY)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return [set(filter(None, line.split(","))) for line in result.stdout.splitlines()]


def test_the_overview_imports_nothing_heavy() -> None:
    assert imported(["--help"], ["--version"]) == [set(), set()]


def test_the_probe_detects_an_import() -> None:
    assert imported(["--help"], before="import h5py") == [{"numpy", "h5py"}]
    assert imported(["--help"], ["report", "--help"], before="import torch")[1] >= {"torch"}


def test_help_of_a_command_needs_neither_torch_nor_lava() -> None:
    found = dict(zip(COMMANDS, imported(*([name, "--help"] for name in COMMANDS)), strict=True))
    culprits = [name for name, heavy in found.items() if heavy & {"torch", "lava", "diffusers"}]
    assert culprits == []  # the first one imports it


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"], prog_name="spikegen", env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert f"Usage: spikegen {name}" in result.output
    assert f"spikegen {name} " in result.output[result.output.index("Example") :]


def test_the_overview_lists_every_command_in_the_order_of_the_pipeline() -> None:
    output = CliRunner().invoke(main, ["--help"], env={"COLUMNS": "200"}).output
    places = [output.index(entry.summary) for entry in COMMANDS.values()]
    assert places == sorted(places)
    order = (
        "data train import export tune inspect check verify statistics sample run deploy submit status fetch "
        "reconstruct report"
    )
    assert list(COMMANDS) == order.split()


def test_the_module_is_the_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "spikegen", "--version"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout.startswith("spikegen ")


def test_an_unknown_command_is_an_error_of_the_command_line() -> None:
    result = CliRunner().invoke(main, ["smaple"])
    assert result.exit_code == 2
    assert "smaple" in result.output


def failing(error: BaseException) -> click.Group:
    """A group with one command that raises ``error``."""

    @click.command()
    def fail() -> None:
        raise error

    class Loaded(LazyGroup):
        def load(self, name: str) -> click.Command:  # noqa: ARG002
            return fail

    return Loaded(name="spikegen", table={"fail": LazyCommand("", "", "Fails.", "")})


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [(SpikegenError("the layer x is [unknown]"), 1, "Error: the layer x is [unknown]\n"),
     (KeyboardInterrupt(), 130, "Interrupted.\n")],
)  # fmt: skip
def test_errors_are_one_line_and_an_exit_code(error: BaseException, code: int, message: str) -> None:
    result = CliRunner().invoke(failing(error), ["fail"])
    assert result.exit_code == code
    assert result.stderr == message
    assert result.stdout == ""


def test_errors_that_are_not_ours_are_not_hidden() -> None:
    assert isinstance(CliRunner().invoke(failing(ZeroDivisionError()), ["fail"]).exception, ZeroDivisionError)


@pytest.mark.parametrize(
    "entry",
    [
        LazyCommand("spikegen.cli.nothing", "run", "", ""),
        LazyCommand("spikegen.cli.sample", "nothing", "", ""),
        LazyCommand("spikegen.cli.sample", "Path", "", ""),
    ],
)
def test_a_command_that_cannot_be_loaded_says_so(entry: LazyCommand) -> None:
    result = CliRunner().invoke(LazyGroup(name="spikegen", table={"absent": entry}), ["absent"])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: the command absent cannot be loaded: ")
    assert result.stderr.count("\n") == 1
