import inspect
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from spikegen.diffusion import (
    DDIM,
    DDPM,
    SOLVERS,
    Absorbing,
    Analytic,
    DPMSolver,
    as_solver,
    default_solver,
    make_solver,
)
from spikegen.diffusion.dpm_solver import DPM_SOLVER
from spikegen.diffusion.epsilon import SPACINGS, EpsilonSolver
from spikegen.diffusion.solvers import ABSORBING, OPTIONS
from spikegen.errors import ConfigError
from spikegen.runtime import with_noise_power
from tests.runtime.programs import STEPS, tiny

SHAPE = (2, 1, 3, 3)


def chosen(name: str, schedule: str = "linear", train_steps: int = 50, **options: Any) -> EpsilonSolver:
    """A solver of any name; "analytic" gets some statistics."""
    statistics: dict[str, Any] = {"noise_power": np.linspace(0.1, 1.0, train_steps)} if name == "analytic" else {}
    return make_solver(name, schedule, train_steps, **options, **statistics)


def noise(seed: int) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(SHAPE)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 2, 7, 20, 49, 50])
def test_timesteps_descend_within_the_schedule(name: str, spacing: str, steps: int) -> None:
    solver = chosen(name, spacing=spacing)
    solver.set_timesteps(steps)
    assert solver.timesteps.shape == (steps,)
    assert solver.timesteps.dtype == np.int64
    assert (np.diff(solver.timesteps) < 0).all()
    assert solver.timesteps[0] < 50
    assert solver.timesteps[-1] >= 0


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
def test_the_true_noise_leads_back_to_the_image(name: str, schedule: str) -> None:
    solver = chosen(name, schedule, 100)
    solver.set_timesteps(10)
    image = np.clip(noise(1) / 3, -1, 1)
    first = int(solver.timesteps[0])
    sample = solver.add_noise(image, noise(2), first)
    for t in solver.timesteps:
        true = (sample - np.sqrt(solver.alphas_cumprod[t]) * image) / np.sqrt(1 - solver.alphas_cumprod[t])
        result = solver.step(true, int(t), sample, noise(int(t)))
        # float64 rounding, amplified by 1 / sqrt(alpha_bar)
        np.testing.assert_allclose(result.pred_original_sample, image, atol=1e-9)
        sample = result.prev_sample
    np.testing.assert_allclose(sample, image, atol=1e-9)


def test_add_noise_takes_one_timestep_per_image() -> None:
    solver = DDPM(train_steps=10)
    together = solver.add_noise(noise(1), noise(2), np.array([3, 8]))
    np.testing.assert_array_equal(together[:1], solver.add_noise(noise(1)[:1], noise(2)[:1], 3))
    np.testing.assert_array_equal(together[1:], solver.add_noise(noise(1)[1:], noise(2)[1:], 8))


def test_ddim_with_eta_one_is_ddpm() -> None:
    ddim, ddpm = DDIM(train_steps=100, eta=1.0, clip_sample=False), DDPM(train_steps=100, clip_sample=False)
    for solver in (ddim, ddpm):
        solver.set_timesteps(10)
    # section 4.1 of arXiv 2010.02502; equal up to float64 rounding
    for t in ddim.timesteps:
        ours, theirs = (s.step(noise(1), int(t), noise(2), noise(3)).prev_sample for s in (ddim, ddpm))
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_clip_sample_bounds_the_predicted_image() -> None:
    for clip, limit in ((True, 1.0), (False, np.inf)):
        solver = DDIM(train_steps=10, clip_sample=clip)
        solver.set_timesteps(5)
        original = solver.step(noise(1), int(solver.timesteps[0]), 9 * noise(2)).pred_original_sample
        assert np.abs(original).max() <= limit
        assert clip or np.abs(original).max() > 1.0


def test_the_last_step_adds_no_noise() -> None:
    for solver in (DDPM(train_steps=10), DDIM(train_steps=10, eta=0.5)):
        solver.set_timesteps(5)
        result = solver.step(noise(1), 0, noise(2))
        np.testing.assert_array_equal(
            result.prev_sample, solver.step(noise(1), 0, noise(2), 100 * noise(3)).prev_sample
        )


def test_missing_noise_is_refused() -> None:
    for solver in (DDPM(train_steps=10), DDIM(train_steps=10, eta=0.5)):
        solver.set_timesteps(5)
        with pytest.raises(ConfigError, match=r"needs noise at timestep 8: pass step\(\.\.\., noise=\.\.\.\)"):
            solver.step(noise(1), 8, noise(2))


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("steps", [0, -3, 51])
def test_steps_out_of_range_are_refused(name: str, steps: int) -> None:
    with pytest.raises(ConfigError, match=rf"number of solver steps is {steps}, the noise schedule allows 1\.\.50"):
        chosen(name).set_timesteps(steps)


def test_a_timestep_that_was_not_chosen_is_refused() -> None:
    solver = DDIM(train_steps=50)
    solver.set_timesteps(5)
    with pytest.raises(ConfigError, match="timestep 11 is not one of the 5"):
        solver.step(noise(1), 11, noise(2))


def test_bad_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="'euler' is unknown; known are analytic, ddim, ddpm"):
        make_solver("euler")
    with pytest.raises(ConfigError, match="solver ddpm has no option eta; it has variance, spacing"):
        make_solver("ddpm", eta=0.5)
    with pytest.raises(ConfigError, match="solver ddim has no option variance; it has eta, spacing"):
        make_solver("ddim", variance="fixed_small")
    with pytest.raises(ConfigError, match="'learned' is unknown; known are fixed_small, fixed_large"):
        make_solver("ddpm", variance="learned")
    with pytest.raises(ConfigError, match="'even' is unknown; known are leading, trailing"):
        make_solver("ddim", spacing="even")
    for eta in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match=r"it must lie in 0\.\.1"):
            make_solver("ddim", eta=eta)


def test_every_solver_has_its_options_listed() -> None:
    assert OPTIONS.keys() == {*SOLVERS, DPM_SOLVER, ABSORBING}
    solvers: dict[str, Any] = {**SOLVERS, DPM_SOLVER: DPMSolver, ABSORBING: Absorbing}
    for name, solver in solvers.items():
        assert inspect.signature(solver).parameters.keys() >= set(OPTIONS[name])


def test_analytic_needs_statistics() -> None:
    pipeline = tiny()
    with pytest.raises(ConfigError, match="solver analytic needs noise_power"):
        make_solver("analytic")
    with pytest.raises(ConfigError, match=r"needs the power of .* `spikegen statistics PIPELINE -o OUT` measures it"):
        default_solver(pipeline, "analytic")
    measured = with_noise_power(pipeline, np.linspace(0, 1, STEPS), "by hand")
    solver = default_solver(measured, "analytic", spacing="trailing")
    solver.check(measured)
    assert isinstance(solver, Analytic)
    np.testing.assert_array_equal(solver.noise_power, np.linspace(0, 1, STEPS))
    for option, value in (("eta", 1.0), ("variance", "fixed_small"), ("noise_power", 1.0)):
        with pytest.raises(ConfigError, match=f"solver analytic has no option {option}; it has spacing"):
            default_solver(measured, "analytic", **{option: value})


def test_identity_tells_everything_that_matters() -> None:
    solvers = [
        DDIM(), DDIM("squaredcos_cap_v2"), DDIM(train_steps=999), DDIM(clip_sample=False), DDIM(eta=0.5),
        DDPM(), DDPM(variance="fixed_large"),
    ]  # fmt: skip
    solvers.append(DDIM())
    solvers[-1].set_timesteps(10)
    identities = [str(solver.identity()) for solver in solvers]
    assert len(set(identities)) == len(identities)


def test_what_is_no_solver_is_refused() -> None:
    solver = DDIM()
    assert as_solver(solver) is solver
    with pytest.raises(ConfigError, match="dict is no solver: it lacks set_timesteps, step"):
        as_solver({})
