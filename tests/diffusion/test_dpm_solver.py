"""DPM-Solver++ is diffusers' own, with our noise schedule."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikegen.diffusion import SCHEDULES, DPMSolver, betas, default_solver
from spikegen.diffusion.dpm_solver import SPACINGS
from spikegen.errors import ConfigError
from spikegen.runtime import Session
from spikegen.simulator import Simulator
from tests.runtime.programs import STEPS, tiny

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed; it comes with the extra 'diffusers'")
torch = pytest.importorskip("torch", reason="torch is not installed; it comes with the extra 'torch'")


def native(schedule: str, steps: int, **options: Any) -> Any:
    return diffusers.DPMSolverMultistepScheduler(steps, beta_schedule=schedule, lambda_min_clipped=-5.1, **options)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 2, 10, 50])
def test_it_is_diffusers_own_loop(schedule: str, spacing: str, steps: int) -> None:
    ours = DPMSolver(schedule, 1000, clip_sample=False, spacing=spacing)
    theirs = native(schedule, 1000, timestep_spacing=spacing)
    ours.set_timesteps(steps)
    theirs.set_timesteps(steps)
    np.testing.assert_array_equal(ours.timesteps, theirs.timesteps.numpy())
    sample = np.random.default_rng(0).standard_normal((2, 1, 4, 4))
    other = torch.from_numpy(sample).float()
    for t in theirs.timesteps:
        sample = ours.advance(0.6 * ours.model_input(sample, int(t)), int(t), sample, Seeds())
        other = theirs.step(0.6 * theirs.scale_model_input(other, t), t, other).prev_sample
    # the noise schedules differ by the float32 rounding of theirs, whose product has up to 1000 factors
    np.testing.assert_allclose(sample, other.double().numpy(), rtol=2e-3, atol=2e-3)


class Seeds:
    """A source of noise that is not drawn from: the solver is deterministic, but may be handed generators."""

    def normal(self, shape: tuple[int, ...]) -> Any:  # noqa: ARG002 (the contract)
        raise AssertionError("noise was drawn")

    uniform = normal

    def seeds(self, images: int) -> list[int]:
        return list(range(images))


def test_a_session_with_it_is_one_with_the_scheduler(tmp_path: Path) -> None:
    pipeline = tiny(schedule="squaredcos_cap_v2")
    target = Simulator(pipeline.network("denoiser"))
    theirs = diffusers.DPMSolverMultistepScheduler(
        STEPS, trained_betas=betas("squaredcos_cap_v2", STEPS), thresholding=True, lambda_min_clipped=-5.1
    )
    expected = Session(pipeline, target, theirs, steps=7, seed=2, images=2).run()
    solver = default_solver(pipeline, "dpm-solver++")
    first = Session(pipeline, target, solver, steps=7, seed=2, images=2, state_file=tmp_path / "state")
    for _ in range(3):
        first.step()
    second = Session(pipeline, target, solver, steps=7, seed=2, images=2, state_file=tmp_path / "state")
    assert second.completed == 3
    np.testing.assert_array_equal(second.run().sample, expected.sample)


def test_the_predicted_image_is_clamped_where_the_pipeline_says_so() -> None:
    sample = 5 * np.random.default_rng(0).standard_normal((2, 1, 4, 4))
    for clip in (True, False):
        solver = DPMSolver(train_steps=100, clip_sample=clip)
        solver.set_timesteps(1)  # the one step goes to the predicted image
        t = int(solver.timesteps[0])
        alpha_bar = solver.alphas_cumprod[t]
        image = (sample - np.sqrt(1 - alpha_bar) * 0.1) / np.sqrt(alpha_bar)
        result = solver.advance(np.full_like(sample, 0.1), t, sample, Seeds())
        # float32 computation of numbers up to 50
        np.testing.assert_allclose(result, np.clip(image, -1, 1) if clip else image, rtol=1e-4, atol=1e-4)


def test_too_many_steps_are_refused() -> None:
    solver = DPMSolver(train_steps=20)
    for steps, message in (
        (20, "finds no 20 different timesteps of 20"),
        (21, r"allows 1\.\.20"),
        (0, r"allows 1\.\.20"),
    ):
        with pytest.raises(ConfigError, match=message):
            solver.set_timesteps(steps)
    solver.set_timesteps(10)
    assert len(solver.timesteps) == 10


def test_bad_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="'even' is unknown; known are leading, linspace, trailing"):
        DPMSolver(spacing="even")
    with pytest.raises(ConfigError, match="noise schedule 'strange' is unknown"):
        DPMSolver("strange")


def test_without_diffusers_one_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(
        ConfigError, match=r"solver dpm-solver\+\+ needs diffusers .* pip install 'spikegen\[diffusers\]'"
    ):
        default_solver(tiny(), "dpm-solver++")


def test_identity_tells_everything_that_matters() -> None:
    solvers = [
        DPMSolver(), DPMSolver("squaredcos_cap_v2"), DPMSolver(train_steps=999), DPMSolver(clip_sample=False),
        DPMSolver(spacing="trailing"),
    ]  # fmt: skip
    for solver in solvers:
        solver.set_timesteps(10)
    assert len({str(solver.identity()) for solver in solvers}) == len(solvers)
