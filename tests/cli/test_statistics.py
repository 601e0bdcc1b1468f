"""`spikegen statistics` and the solvers of `spikegen sample`, driven as a user does."""

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikegen.diffusion import DDPM, Analytic, default_solver
from spikegen.program import ImageDiffusion, digest, load, save
from spikegen.runtime import NoisePower, Session
from spikegen.runtime.statistics import FORMAT
from spikegen.simulator import Simulator
from spikegen.training.datasets import load_images, split
from tests.cli.commands import names, refuse, run, succeed, summary


@pytest.fixture(autouse=True)
def folder(made: Path, working_folder: Path) -> Path:
    """A working folder with one pipeline file in it."""
    shutil.copy(made / "small.h5", ".")
    return working_folder


def test_it_writes_the_pipeline_with_the_measured_power() -> None:
    found = summary("statistics", "small.h5", "-o", "m.h5", "-n", 4, "--every", 7, "--seed", 3)
    before, after = load("small.h5"), load("m.h5")
    assert names() == ["m.h5", "small.h5"]
    assert (found["images"], found["dataset"], found["timesteps"]) == (4, "digits", [0, 7, 14, 19])
    assert (found["digest"], found["measured_digest"]) == (digest(after), digest(before))
    assert digest(after) != digest(before)
    assert "noise_power not measured)" in succeed("inspect", "small.h5").stdout
    assert "noise_power measured)" in succeed("inspect", "m.h5").stdout
    program = before.network("denoiser")
    images, _ = split(load_images("digits"), 0)
    chosen = images[np.random.default_rng(3).permutation(len(images))[:4]]
    expected = NoisePower(before, Simulator(program), chosen, every=7, seed=3).run()
    assert isinstance(after.host, ImageDiffusion)
    np.testing.assert_array_equal(after.host.noise_power, expected)
    np.testing.assert_array_equal(found["noise_power"], expected[[0, 7, 14, 19]])
    assert after.provenance["noise_power"] == "4 images of digits, every 7 steps, seed 3"
    assert {**after.provenance, "noise_power": ""} == {**before.provenance, "noise_power": ""}


def test_it_shows_progress_and_a_table() -> None:
    result = succeed("statistics", "small.h5", "-o", "m.h5", "-n", 2, "--every", 19, "--batch", 1)
    assert "4/4 evaluations" in result.stderr
    assert "2 of digits" in result.stdout
    assert "2 of 20" in result.stdout
    assert "Wrote m.h5" in result.stdout
    result = succeed("statistics", "small.h5", "-o", "quiet.h5", "-n", 2, "--every", 19, "--quiet")
    assert result.output == ""
    assert digest(load("quiet.h5")) == digest(load("m.h5"))


def test_it_goes_on_from_a_state_and_removes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("statistics", "small.h5", "-n", 2, "--every", 7, "--state", "s.json")
    step, left = NoisePower.step, [2]

    def stopping(self: NoisePower, progress: Any = None) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        step(self, progress)

    monkeypatch.setattr(NoisePower, "step", stopping)
    assert run(*arguments, "-o", "m.h5").exit_code == 130
    assert names() == ["s.json", "small.h5"]
    assert FORMAT in Path("s.json").read_text()
    left[0] = 2  # half of the four steps are left
    succeed(*arguments, "-o", "m.h5")
    assert names() == ["m.h5", "small.h5"]
    left[0] = 4
    succeed("statistics", "small.h5", "-n", 2, "--every", 7, "-o", "whole.h5")
    assert digest(load("whole.h5")) == digest(load("m.h5"))


def test_held_out_images_are_not_taken() -> None:
    pipeline = load("small.h5")
    save(dataclasses.replace(pipeline, provenance={**pipeline.provenance, "held_out": "1795"}), "two.h5")
    assert summary("statistics", "two.h5", "-o", "a.h5", "-n", 9, "--every", 30)["images"] == 2
    assert (
        summary("statistics", "two.h5", "-o", "b.h5", "-n", 9, "--every", 30, "--dataset", "noise:1x8x8")["images"] == 9
    )


@pytest.mark.parametrize(
    ("code", "source", "arguments", "message"),
    [
        (2, "small.h5", ("--every", 0), "--every"),
        (2, "small.h5", ("-n", 0), "-n"),
        (2, "small.h5", ("-o", "small.h5"), "must be different files"),
        (2, "small.h5", ("--state", "m.h5"), "must be different files"),
        (2, "small.h5", ("--synapses", "conv"), "--synapses is an option of the backends lava-unrolled"),
        (1, "small.h5", ("--dataset", "cats"), "unknown data set 'cats'"),
        (1, "small.h5", ("--dataset", "noise:1x4x4"), "the images of noise:1x4x4 are 1 x 4 x 4"),
        (1, "vq.h5", (), "vq is a TokenDiffusion: only an ImageDiffusion predicts noise"),
        (1, "none.h5", (), "none.h5: there is no such pipeline file"),
        (1, "nameless.h5", (), "does not say which data set it was made from; name one with --dataset"),
    ],
)
def test_what_cannot_be_measured_is_one_error(
    code: int, source: str, arguments: tuple[Any, ...], message: str, made_tokens: Path
) -> None:
    if source == "vq.h5":
        shutil.copy(made_tokens / "vq.h5", ".")
    if source == "nameless.h5":
        save(dataclasses.replace(load("small.h5"), provenance={}), source)
    refuse(code, message, "statistics", source, *(arguments if "-o" in arguments else ("-o", "m.h5", *arguments)))


def test_analytic_needs_the_statistics_and_uses_them() -> None:
    sample = ("-n", 2, "--steps", 4, "--solver", "analytic", "-o", "a.png")
    refuse(2, "`spikegen statistics PIPELINE -o OUT` measures it", "sample", "small.h5", *sample)
    succeed("statistics", "small.h5", "-o", "m.h5", "-n", 2, "--every", 5)
    found = summary("sample", "m.h5", *sample, "--npy", "a.npy")
    assert (found["solver"], found["steps"]) == ("analytic", 4)
    pipeline = load("m.h5")
    solver = default_solver(pipeline, "analytic")
    assert isinstance(solver, Analytic)
    target = Simulator(pipeline.network("denoiser"))
    expected = Session(pipeline, target, solver, steps=4, images=2).run().sample
    np.testing.assert_array_equal(np.load("a.npy"), expected)
    other = Session(pipeline, target, DDPM("squaredcos_cap_v2", 20), steps=4, images=2).run().sample
    assert (other != expected).any()


def test_every_solver_of_images_samples() -> None:
    pytest.importorskip("diffusers", reason="diffusers is not installed; it comes with the extra 'diffusers'")
    made = {}
    for name, options in (
        ("ddim", ()), ("ddpm", ()), ("ddpm", ("--variance", "fixed_large")), ("dpm-solver++", ()),
        ("dpm-solver++", ("--spacing", "trailing")),
    ):  # fmt: skip
        key = f"{name}{options}"
        found = summary(
            "sample", "small.h5", "-n", 2, "--steps", 5, "--solver", name, *options, "-o", "a.png", "--npy", "a.npy"
        )
        assert found["solver"] == name
        made[key] = np.load("a.npy")
        assert np.abs(made[key]).max() <= 1.0
    assert len({images.tobytes() for images in made.values()}) == len(made)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--solver", "euler"), "'euler' is not one of 'ddim', 'ddpm', 'analytic', 'dpm-solver++', 'absorbing'"),
        (("--solver", "ddim", "--variance", "fixed_large"), "solver ddim has no option variance; it has eta, spacing"),
        (("--solver", "ddpm", "--eta", 1), "solver ddpm has no option eta; it has variance, spacing"),
        (("--solver", "dpm-solver++", "--eta", 1), "solver dpm-solver++ has no option eta; it has spacing"),
        (("--solver", "ddpm", "--variance", "learned"), "'learned' is not one of 'fixed_small', 'fixed_large'"),
        (("--solver", "ddim", "--spacing", "linspace"), "'linspace' is unknown; known are leading, trailing"),
        (("--solver", "dpm-solver++", "--steps", 20), "finds no 20 different timesteps of 20"),
    ],
)
def test_wrong_solvers_and_options(arguments: tuple[Any, ...], message: str) -> None:
    refuse(2, message, "sample", "small.h5", "-o", "a.png", *arguments)


def test_without_diffusers_one_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    refuse(2, "pip install 'spikegen[diffusers]'", "sample", "small.h5", "-o", "a.png", "--solver", "dpm-solver++")
