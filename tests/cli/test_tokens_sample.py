"""`spikegen sample` on tokens: seeds, batches, steps, interruption."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikegen.errors import BackendError
from spikegen.program import Conv, Pipeline, save
from spikegen.runtime import Session
from tests.cli.commands import names, refuse, run, succeed, summary
from tests.cli.test_tokens import assert_equal_files, files, sample
from tests.runtime.programs import tiny_tokens


@pytest.fixture
def pipeline(made_tokens: Path, working_folder: Path) -> Path:
    return made_tokens / "vq.h5"


@pytest.mark.parametrize("batch", [1, 2, 3, 50])
def test_batches_change_no_file(pipeline: Path, batch: int) -> None:
    sample(pipeline, "whole", "--seed", 9)
    sample(pipeline, "batched", "--seed", 9, "--batch", batch)
    assert_equal_files("whole", "batched")


def test_an_image_depends_on_the_seed_and_its_number_only(pipeline: Path) -> None:
    for name, images, seed in (("many", 6, 1), ("few", 2, 1), ("other", 6, 2)):
        succeed("sample", pipeline, "-n", images, "--seed", seed, *files(name), "--quiet")
    np.testing.assert_array_equal(np.load("few.tokens.npy"), np.load("many.tokens.npy")[:, :2])
    np.testing.assert_array_equal(np.load("few.npy"), np.load("many.npy")[:2])
    assert not np.array_equal(np.load("other.tokens.npy"), np.load("many.tokens.npy"))
    assert len({image.tobytes() for image in np.load("many.tokens.npy")[-1]}) > 1


def test_temperature_and_steps_matter(pipeline: Path) -> None:
    for name, options in {"plain": (), "cold": ("--temperature", 0.05), "short": ("--steps", 3)}.items():
        sample(pipeline, name, *options)
    tokens = {name: np.load(f"{name}.tokens.npy") for name in ("plain", "cold", "short")}
    assert not np.array_equal(tokens["plain"], tokens["cold"])
    assert tokens["short"].shape == (3, 3, 4, 4)
    sample(pipeline, "one", "--temperature", 1)
    assert_equal_files("plain", "one")


@pytest.mark.parametrize("stop", [1, 8, 15])
@pytest.mark.parametrize("generator", ["chip", "lookup"])
def test_a_run_that_failed_goes_on_from_its_state(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch, stop: int, generator: str
) -> None:
    sample(pipeline, "whole", "--generator", generator)
    step = Session.step

    def failing(self: Session, progress: Any = None) -> None:
        if self.completed == stop:
            raise BackendError("a process ended")
        step(self, progress)

    resumed = ("sample", pipeline, "-n", 3, *files("resumed"), "--generator", generator, "--state", "run.state")
    before = names()
    with monkeypatch.context() as patch:
        patch.setattr(Session, "step", failing)
        result = run(*resumed)
    assert result.exit_code == 1
    assert result.stderr.rstrip().endswith("Error: a process ended")
    assert names() == sorted([*before, "run.state"])
    found = summary(*resumed, "--batch", 2)
    assert found["networks"]["denoiser"]["evaluations"] == 48
    assert_equal_files("whole", "resumed")
    assert "run.state" not in names()


def test_a_decoder_that_failed_repeats_no_denoising(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample(pipeline, "whole")
    resumed = ("sample", pipeline, "-n", 3, *files("resumed"), "--quiet", "--state", "run.state")

    def fail(*_: Any, **__: Any) -> None:
        raise BackendError("a process ended")

    with monkeypatch.context() as patch:
        patch.setattr("spikegen.runtime.decode_tokens", fail)
        assert run(*resumed).exit_code == 1
    assert "run.state" in names()
    assert "resumed.png" not in names()
    with monkeypatch.context() as patch:
        patch.setattr(Session, "step", fail)
        succeed(*resumed)
    assert_equal_files("whole", "resumed")
    assert "run.state" not in names()


def test_the_state_of_another_run_is_refused(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Session, progress: Any = None) -> None:
        raise BackendError("a process ended")

    step = Session.step
    common = ("sample", pipeline, "-n", 2, "-o", "a.png", "--state", "run.state")
    with monkeypatch.context() as patch:
        patch.setattr(Session, "step", lambda self, _=None: step(self) if self.completed < 2 else fail(self))
        assert run(*common).exit_code == 1
    for option in (("--seed", 1), ("-n", 3), ("--temperature", 0.5), ("--steps", 4)):
        refuse(1, "run.state: this is the state of another run", *common, *option)
    succeed(
        *common, "--generator", "lookup", "--quiet"
    )  # the place of the generator is none of the denoiser's business


def few_sites() -> Pipeline:
    """10 diffusion steps on a grid of 2 x 3 sites."""
    return tiny_tokens(steps=10)


def test_by_default_there_are_as_many_steps_as_sites_at_most(working_folder: Path) -> None:
    save(few_sites(), "few.h5")
    assert summary("sample", "few.h5", "-n", 1, "-o", "a.png")["steps"] == 6
    refuse(2, "7 steps are more steps than the 6 sites of the grid", "sample", "few.h5", "--steps", 7, "-o", "b.png")
    small = tiny_tokens(grid=(1, 3))
    save(small, "small.h5")
    assert "x 3 steps, seed 0" in succeed("report", "small.h5").stdout
    refuse(2, "4 steps are more steps than the 3 sites", "report", "small.h5", "--steps", 4)


def without_generator() -> Pipeline:
    """A decoder whose first population sees more than its own site."""
    pipeline = tiny_tokens()
    decoder = pipeline.network("decoder")
    first = decoder.projections[0]
    assert isinstance(first, Conv)
    wide = dataclasses.replace(first, weight=np.repeat(np.repeat(first.weight, 3, 2), 3, 3), padding=(1, 1))
    changed = dataclasses.replace(decoder, projections=(wide, *decoder.projections[1:]))
    return dataclasses.replace(pipeline, networks={**pipeline.networks, "decoder": changed})


def test_a_decoder_without_a_generator_has_no_table(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(without_generator(), "plain.h5")
    succeed("sample", "plain.h5", "-n", 2, "-o", "a.png", "--counts", "a.json")
    shown = succeed("report", "plain.h5", "--counts", "a.json").stdout
    assert "spike generator" not in shown

    def work(*_: Any, **__: Any) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr("spikegen.runtime.open_target", work)
    for command in ("sample", "reconstruct"):
        message = "decoder has no spike generator that a table could replace"
        refuse(1, message, command, "plain.h5", "-o", "b.png", "--generator", "lookup")
