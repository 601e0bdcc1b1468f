"""`spikegen sample`, driven as a user does, on a tiny pipeline of images."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import Result

import spikegen
import spikegen.lowering
from spikegen.cli._pipeline import is_checkpoint, shipped_models
from spikegen.cli.reconstruct import reconstruct
from spikegen.cli.sample import sample
from spikegen.diffusion import dpm_solver, make_solver
from spikegen.diffusion.ddpm import VARIANCES
from spikegen.diffusion.epsilon import SPACINGS
from spikegen.diffusion.solvers import OPTIONS
from spikegen.program import Pipeline, save
from spikegen.program.storage import digest
from spikegen.runtime import BACKENDS, Session, SessionState, read_counts, write_png
from spikegen.runtime.backends import SYNAPSES
from spikegen.runtime.counts import GENERATORS
from spikegen.runtime.state import save_state
from spikegen.simulator import Simulator
from tests.cli import commands
from tests.cli.commands import names
from tests.runtime.programs import STEPS, tiny
from tests.runtime.test_session import Broken


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with one pipeline file in it."""
    monkeypatch.chdir(tmp_path)
    save(tiny(), "tiny.h5")
    return tmp_path


def run(*arguments: Any) -> Result:
    return commands.run("sample", *arguments)


def test_it_writes_the_images_of_the_session(folder: Path) -> None:
    result = run("tiny.h5", "-n", 5, "--steps", 4, "--seed", 3, "-o", "a.png", "--npy", "a.npy", "--counts", "a.json")
    assert result.exit_code == 0, result.output
    solver = make_solver("ddim", train_steps=STEPS)
    expected = Session(tiny(), Simulator(tiny().network("denoiser")), solver, steps=4, seed=3, images=5).run()
    np.testing.assert_array_equal(np.load("a.npy"), expected.sample)
    assert read_counts("a.json", tiny()).networks == {"denoiser": expected.counts}
    write_png("b.png", expected.sample)
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert names() == ["a.json", "a.npy", "a.png", "b.png", "tiny.h5"]
    assert "5 x 4 (ddim, seed 3)" in result.stdout
    assert "synaptic operations per evaluation" in result.stdout
    assert "Wrote a.png, a.npy, a.json" in result.stdout
    assert "20/20 evaluations" in result.stderr


def test_the_summary_as_json(folder: Path) -> None:
    result = run("tiny.h5", "-n", 2, "--steps", 4, "-o", "a.png", "--json")
    summary = json.loads(result.stdout)
    assert summary["pipeline"] == "tiny"
    assert summary["digest"] == digest(tiny())
    assert summary["timesteps"] == [30, 20, 10, 0]
    assert (summary["images"], summary["steps"], summary["solver"], summary["generator"]) == (2, 4, "ddim", None)
    assert list(summary["networks"]) == ["denoiser"]
    figures = summary["networks"]["denoiser"]
    assert figures["evaluations"] == 8
    assert summary["seconds"] > 0
    assert figures["stored_per_evaluation"] >= figures["effective_per_evaluation"] > 0
    assert (summary["output"], summary["npy"]) == ("a.png", None)


def test_brackets_in_names_are_printed_as_they_are(folder: Path) -> None:
    save(dataclasses.replace(tiny(), name="tiny[red]"), "named[bold].h5")
    shown = run("named[bold].h5", "-n", 1, "--steps", 1, "-o", "a[red].png").stdout
    assert "tiny[red] on simulator" in shown
    assert "Wrote a[red].png" in shown
    assert "tiny[red]: ImageDiffusion" in commands.succeed("inspect", "named[bold].h5").stdout


def test_quiet_prints_nothing(folder: Path) -> None:
    result = run("tiny.h5", "-n", 2, "--steps", 2, "-o", "a.png", "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert Path("a.png").exists()


@pytest.mark.parametrize(
    "options", [("--solver", "ddpm"), ("--eta", "0.5"), ("--spacing", "trailing"), ("--seed", "1")]
)
def test_options_matter_and_batches_do_not(folder: Path, options: tuple[str, ...]) -> None:
    common = ("tiny.h5", "-n", 3, "--steps", 4, "--quiet", "-o")
    for name, extra in {"plain": (), "chosen": options, "batched": (*options, "--batch", "2")}.items():
        assert run(*common, f"{name}.png", "--npy", f"{name}.npy", *extra).exit_code == 0
    assert not np.array_equal(np.load("plain.npy"), np.load("chosen.npy"))
    np.testing.assert_array_equal(np.load("chosen.npy"), np.load("batched.npy"))


def test_a_run_that_was_killed_goes_on_from_its_state(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("tiny.h5", "-n", 2, "--steps", 6, "--solver", "ddpm", "--npy")
    assert run(*arguments, "whole.npy", "-o", "a.png").exit_code == 0

    def save_and_interrupt(path: Path, state: SessionState) -> None:
        save_state(path, state)
        if state.completed == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("spikegen.runtime.session.save_state", save_and_interrupt)
        result = run(*arguments, "resumed.npy", "-o", "b.png", "--state", "run.state")
    assert result.exit_code == 130
    assert names() == ["a.png", "run.state", "tiny.h5", "whole.npy"]
    result = run(*arguments, "resumed.npy", "-o", "b.png", "--state", "run.state", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["networks"]["denoiser"]["evaluations"] == 12
    np.testing.assert_array_equal(np.load("resumed.npy"), np.load("whole.npy"))
    assert "run.state" not in names()


def test_interrupted_by_a_signal(folder: Path) -> None:
    # A shell's background job ignores SIGINT and hands that on; only a caught signal is reset to its default by exec.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "spikegen", "sample", folder / "tiny.h5", "-n", "2000", "--steps", "40",
         "-o", folder / "a.png", "--state", folder / "run.state", "--batch", "20"],
        stderr=subprocess.PIPE, cwd=Path(spikegen.__file__).parents[1],
    )  # fmt: skip
    signal.signal(signal.SIGINT, before)
    while not Path("run.state").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.decode().rstrip().endswith("Interrupted.")
    assert names() == ["run.state", "tiny.h5"]


def test_a_target_that_fails_leaves_no_output(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Broken(tiny().network("denoiser"), 2)
    closed: list[bool] = []
    monkeypatch.setattr(target, "close", lambda: closed.append(True))
    monkeypatch.setattr("spikegen.runtime.open_target", lambda *_, **__: target)
    result = run("tiny.h5", "-n", 2, "--steps", 4, "-o", "a.png", "--npy", "a.npy", "--counts", "a.json")
    assert result.exit_code == 1
    assert result.stderr.endswith("Error: a process ended\n")
    assert closed
    assert names() == ["tiny.h5"]


@pytest.mark.lava
def test_lava_and_the_simulator_write_the_same_files(folder: Path) -> None:
    for backend in sorted({*BACKENDS} - {"loihi2"}):  # that needs hardware
        files = ("-o", f"{backend}.png", "--npy", f"{backend}.npy", "--counts", f"{backend}.json")
        result = run("tiny.h5", "-n", 3, "--batch", 2, "--steps", 3, "--backend", backend, *files, "--quiet")
        assert result.exit_code == 0, result.output
        for suffix in ("png", "npy", "json"):
            assert Path(f"{backend}.{suffix}").read_bytes() == Path(f"lava.{suffix}").read_bytes()


def test_a_checkpoint_is_exported_on_the_fly(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def export(source: str) -> Pipeline:
        asked.append(source)
        return tiny()

    monkeypatch.setattr(spikegen.lowering, "export_checkpoint", export)
    Path("checkpoint").mkdir()
    result = run("checkpoint", "-n", 2, "--steps", 2, "-o", "a.png")
    assert result.exit_code == 0, result.output
    assert asked == ["checkpoint"]
    assert "exporting it first" in result.stderr
    assert run("checkpoint", "-n", 2, "--steps", 2, "-o", "b.png", "--quiet").stderr == ""


def test_shipped_models_are_checkpoints() -> None:
    assert all(is_checkpoint(name) for name in shipped_models())
    assert not is_checkpoint("tiny.h5")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-n", 0), "-n"),
        (("-n", "many"), "-n"),
        (("--steps", 0), "--steps"),
        (("--steps", STEPS + 1), f"number of solver steps is {STEPS + 1}"),
        (("--solver", "euler"), "euler"),
        (("--backend", "loihi3"), "loihi3"),
        (("--eta", 1.5), "--eta"),
        (("--eta", "nan"), "eta is nan"),
        (("--solver", "ddpm", "--eta", 0.5), "solver ddpm has no option eta"),
        (
            ("--solver", "absorbing"),
            "solver 'absorbing' does not fit this pipeline; its solvers are analytic, ddim, ddpm, dpm-solver++",
        ),
        (("--temperature", 0.5), "solver ddim has no option temperature"),
        (("--generator", "lookup"), "--generator is an option of pipelines of tokens; tiny samples images"),
        (("--tokens", "a.npy"), "--tokens is an option of pipelines of tokens; tiny samples images"),
        (("--seed", -1), "--seed"),
        (("--batch", 0), "--batch"),
        (("--synapses", "conv"), "option of the backends lava-unrolled, loihi2, loihi2-sim, not of simulator"),
        (("--backend", "lava", "--synapses", "conv"), "loihi2-sim, not of lava"),
        (("--npy", "a.png"), "must be different files"),
        (("--counts", "./tiny.h5"), "must be different files"),
        (("--colour", "red"), "--colour"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2(folder: Path, arguments: tuple[Any, ...], message: str) -> None:
    before = Path("tiny.h5").read_bytes()
    result = run("tiny.h5", "-o", "a.png", *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert names() == ["tiny.h5"]
    assert Path("tiny.h5").read_bytes() == before


def test_the_output_must_be_named(folder: Path) -> None:
    assert run("tiny.h5").exit_code == 2
    assert run("-o", "a.png").exit_code == 2


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("absent.h5", (), "absent.h5: there is no such pipeline file"),
        ("text.h5", (), "text.h5: not a readable pipeline file"),
        ("tiny.h5", ("-o", "absent/a.png"), "the folder absent does not exist"),
        ("tiny.h5", ("-o", "/proc/self/a.png"), "cannot be written"),
        ("tiny.h5", ("-o", "sub"), "no ordinary file"),
        ("tiny.h5", ("--npy", "absent/a.npy"), "does not exist"),
        ("tiny.h5", ("--counts", "absent/a.json"), "does not exist"),
        ("tiny.h5", ("--state", "absent/a.state"), "does not exist"),
        ("tiny.h5", ("--state", "text.h5"), "text.h5: not a readable state file"),
        ("two.h5", (), "these images have 2; write the raw arrays instead"),
        ("strange.h5", (), "noise schedule 'strange' is unknown"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    folder: Path, source: str, options: tuple[str, ...], message: str
) -> None:
    Path("text.h5").write_text("hello")
    Path("sub").mkdir()
    save(tiny(channels=2), "two.h5")
    save(tiny(schedule="strange"), "strange.h5")
    before = names()
    result = run(source, "-n", 2, "--steps", 2, *(options if "-o" in options else ("-o", "a.png", *options)))
    assert result.exit_code in (1, 2), result.output
    assert message in " ".join(result.stderr.split())
    assert result.exit_code == 2 or (result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1)
    assert names() == before


def test_the_choices_are_the_tables() -> None:
    tables: dict[str, Any] = {
        "solver": OPTIONS,
        "spacing": {*SPACINGS, *dpm_solver.SPACINGS},
        "variance": VARIANCES,
        "backend": BACKENDS,
        "synapses": {name for names in SYNAPSES.values() for name in names},
        "generator": GENERATORS,
    }
    for command in (sample, reconstruct):
        choices = {p.name: p.type.choices for p in command.params if isinstance(p.type, click.Choice)}
        assert {name: sorted(values) for name, values in choices.items()} == {
            name: sorted(tables[name]) for name in choices
        }
        assert choices.keys() >= {"backend", "synapses", "generator"}
