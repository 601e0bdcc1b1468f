"""Step by step against diffusers 0.38. It computes in float32, so do these tests' inputs to it; see ``TOLERANCE``."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from spikegen.diffusion import DDIM, DDPM, SCHEDULES, ExternalSolver, make_solver
from spikegen.diffusion.epsilon import EpsilonSolver
from spikegen.errors import ConfigError

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed; it comes with the extra 'test'")
torch = pytest.importorskip("torch", reason="torch is not installed; it comes with the extra 'torch'")

SHAPE = (2, 1, 4, 4)
STEPS = [1, 2, 10, 20, 37, 1000]
# diffusers forms alpha_bar as a float32 product of up to 1000 factors: relative error up to 1000 * 2^-24 = 6e-5, which
# reaches the coefficients of the step; the samples are of order 1.
TOLERANCE = {"rtol": 2e-4, "atol": 2e-4}


def normal(seed: int) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(SHAPE)


def close(ours: npt.NDArray[np.float64], theirs: Any, scale: float = 1.0) -> None:
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=TOLERANCE["rtol"], atol=TOLERANCE["atol"] * scale)


def walk(solver: EpsilonSolver, scheduler: Any, steps: int, **options: Any) -> None:
    """Every step, both fed with the same sample, so that a difference is the step's own."""
    solver.set_timesteps(steps)
    scheduler.set_timesteps(steps)
    np.testing.assert_array_equal(solver.timesteps, scheduler.timesteps.numpy())
    assert solver.init_noise_sigma == scheduler.init_noise_sigma
    sample = normal(0)
    for index, t in enumerate(solver.timesteps):
        output = sample * 0.6 + 0.2 * normal(index + 1)
        generator = torch.Generator().manual_seed(index)
        noise = torch.randn(SHAPE, generator=generator, dtype=torch.float64).numpy()
        theirs = scheduler.step(
            torch.from_numpy(output),
            int(t),
            torch.from_numpy(sample),
            generator=torch.Generator().manual_seed(index),
            **options,
        )
        ours = solver.step(output, int(t), sample, noise)
        # the predicted image is a difference divided by sqrt(alpha_bar), which magnifies its error
        scale = 1.0 if solver.clip_sample else 1.0 / np.sqrt(solver.alphas_cumprod[t])
        close(ours.pred_original_sample, theirs.pred_original_sample, scale)
        close(ours.prev_sample, theirs.prev_sample, scale)
        sample = ours.prev_sample


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_ddpm_equals_diffusers(schedule: str, steps: int, variance: str) -> None:
    scheduler = diffusers.DDPMScheduler(beta_schedule=schedule, variance_type=variance)
    walk(DDPM(schedule, variance=variance), scheduler, steps)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_equals_diffusers(schedule: str, steps: int, eta: float) -> None:
    walk(DDIM(schedule, eta=eta), diffusers.DDIMScheduler(beta_schedule=schedule), steps, eta=eta)


@pytest.mark.parametrize("name", ["ddim", "ddpm"])
def test_without_clamping(name: str) -> None:
    kind = {"ddim": diffusers.DDIMScheduler, "ddpm": diffusers.DDPMScheduler}[name]
    walk(make_solver(name, clip_sample=False), kind(clip_sample=False), 20)


@pytest.mark.parametrize("steps", [1, 10, 20, 250])  # divisors of 1000: elsewhere diffusers' DDIM assumes even spacing
def test_trailing_timesteps(steps: int) -> None:
    walk(DDIM(spacing="trailing"), diffusers.DDIMScheduler(timestep_spacing="trailing"), steps)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_add_noise_equals_diffusers(schedule: str) -> None:
    scheduler, t = diffusers.DDPMScheduler(beta_schedule=schedule), np.array([3, 700])
    theirs = scheduler.add_noise(torch.from_numpy(normal(1)), torch.from_numpy(normal(2)), torch.from_numpy(t))
    close(DDPM(schedule).add_noise(normal(1), normal(2), t), theirs)


def test_the_adapter_refuses_what_a_program_cannot_do() -> None:
    with pytest.raises(ConfigError, match="prediction_type 'v_prediction'; a Program predicts the noise"):
        ExternalSolver(diffusers.DDIMScheduler(prediction_type="v_prediction"))
    with pytest.raises(ConfigError, match="fractional timesteps"):
        ExternalSolver(diffusers.EulerDiscreteScheduler()).set_timesteps(20)
    with pytest.raises(ConfigError, match=r"number of solver steps is 1001, the noise schedule allows 1\.\.1000"):
        ExternalSolver(diffusers.DDIMScheduler()).set_timesteps(1001)


def test_the_adapter_visits_timesteps_in_order() -> None:
    solver = ExternalSolver(diffusers.DDIMScheduler())
    solver.set_timesteps(10)
    with pytest.raises(ConfigError, match="timestep 0 is out of order"):
        solver.scale_model_input(normal(0), 0)


def test_the_adapter_leaves_the_given_scheduler_alone() -> None:
    scheduler = diffusers.DDIMScheduler()
    before = scheduler.timesteps.tolist()
    ExternalSolver(scheduler).set_timesteps(10)
    assert scheduler.timesteps.tolist() == before
