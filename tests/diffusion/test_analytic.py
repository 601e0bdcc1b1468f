"""Analytic-DPM against the formulas of its paper (arXiv 2201.06503), and on data whose optimal variance is known."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from spikegen.diffusion import DDIM, DDPM, SCHEDULES, Analytic, alphas_cumprod, betas
from spikegen.diffusion.ancestral import Ancestral
from spikegen.errors import ConfigError

K = 1000
DEVIATION = 0.3  # of the data


def analytic(power: npt.ArrayLike, schedule: str = "linear", steps: int = 10, last_noise: float = math.inf) -> Analytic:
    solver = Analytic(schedule, K, noise_power=power, clip_sample=False, last_noise=last_noise)
    solver.set_timesteps(steps)
    return solver


def reference(schedule: str, power: float, t: int, s: int) -> float:
    """Section 4 with the bounds of corollary 1, written for any lambda; ``t`` and ``s`` count from 1, s < t."""
    alpha = [1.0 - float(beta) for beta in betas(schedule, K)]
    alpha_bar_t, alpha_bar_s = math.prod(alpha[:t]), math.prod(alpha[:s])
    beta_bar_t, beta_bar_s = 1.0 - alpha_bar_t, 1.0 - alpha_bar_s
    alpha_t_s = math.prod(alpha[s:t])
    lambda_2 = beta_bar_s / beta_bar_t * (1.0 - alpha_t_s)  # appendix D
    gamma = power / beta_bar_t  # equation 8 with the score of footnote 1
    factor = (math.sqrt(beta_bar_t / alpha_t_s) - math.sqrt(beta_bar_s - lambda_2)) ** 2
    estimate = lambda_2 + factor * (1.0 - beta_bar_t * gamma)  # equation 9
    upper = lambda_2 + factor  # equation 11
    bounded = (
        lambda_2
        + (math.sqrt(alpha_bar_s) - math.sqrt(beta_bar_s - lambda_2) * math.sqrt(alpha_bar_t / beta_bar_t)) ** 2
    )  # equation 12, (b - a) / 2 = 1
    return max(lambda_2, min(estimate, upper, bounded))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [2, 10, 37])
@pytest.mark.parametrize("power", [0.0, 0.3, 0.97, 1.0, 1.2])
def test_the_variance_is_that_of_the_paper(schedule: str, steps: int, power: float) -> None:
    solver = analytic(np.full(K, power), schedule, steps)
    for t, s in zip(solver.timesteps[:-1].tolist(), solver.timesteps[1:].tolist(), strict=True):
        # differences of numbers near 1 lose up to seven digits at the first timesteps
        expected = reference(schedule, power, t + 1, s + 1)
        np.testing.assert_allclose(solver.reverse_variance(t), expected, rtol=1e-8)


def test_each_step_has_its_own_power() -> None:
    power = np.linspace(0.2, 1.0, K)
    solver = analytic(power)
    for t in solver.timesteps[:-1].tolist():
        assert solver.reverse_variance(t) == analytic(np.full(K, power[t])).reverse_variance(t)


def perfect(t: int) -> float:
    """The optimal prediction for normal data of mean 0 is this times ``x_t``: ``E[eps | x_t]``."""
    alpha_bar = alphas_cumprod("linear", K)[t]
    return float(np.sqrt(1 - alpha_bar) / marginal(t))


def marginal(t: int) -> float:
    """Variance of ``x_t`` for that data."""
    alpha_bar = alphas_cumprod("linear", K)[t]
    return float(alpha_bar * DEVIATION**2 + 1 - alpha_bar)


def variances(solver: Ancestral | DDIM) -> list[float]:
    """Variance of the sample after each step, when the network is perfect; every step is linear in sample and noise."""
    one, none = np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 1))
    variance, found = marginal(int(solver.timesteps[0])), []
    for t in solver.timesteps.tolist():
        gain = solver.step(perfect(t) * one, t, one, none).prev_sample.item()
        noise = solver.step(none, t, none, one).prev_sample.item()
        variance = gain**2 * variance + noise**2
        found.append(variance)
    return found


@pytest.mark.parametrize("steps", [2, 5, 10, 100])
def test_with_a_perfect_network_every_step_has_the_variance_of_the_data(steps: int) -> None:
    power = [perfect(t) ** 2 * marginal(t) for t in range(K)]  # in closed form
    solver = analytic(power, steps=steps)
    found = variances(solver)
    expected = [marginal(t) for t in solver.timesteps[1:].tolist()]
    np.testing.assert_allclose(found[:-1], expected, rtol=1e-10)
    # the last step has no noise: what is left of the image's variance at the first diffusion step is what it lacks
    np.testing.assert_allclose(found[-1], DEVIATION**2, rtol=2e-3)


@pytest.mark.parametrize(("variance", "error"), [("fixed_small", 0.3), ("fixed_large", 0.3)])
def test_the_fixed_variances_of_ddpm_miss_it_with_few_steps(variance: str, error: float) -> None:
    solver = DDPM("linear", K, clip_sample=False, variance=variance)
    solver.set_timesteps(5)
    assert abs(variances(solver)[-1] / DEVIATION**2 - 1) > error


def test_the_last_noise_is_limited_to_two_grey_levels() -> None:
    free, limited = analytic(np.zeros(K)), analytic(np.zeros(K), last_noise=2.0)
    *others, last = free.timesteps[:-1].tolist()
    # appendix F.2: the mean of |sigma z| of a normal z is sigma sqrt(2 / pi), a grey level is 2 / 255
    assert np.sqrt(limited.reverse_variance(last)) * np.sqrt(2 / np.pi) == pytest.approx(2 * 2 / 255)
    assert free.reverse_variance(last) > limited.reverse_variance(last)
    assert [free.reverse_variance(t) for t in others] == [limited.reverse_variance(t) for t in others]
    assert Analytic("linear", K, noise_power=np.zeros(K)).last_noise == 2.0
    assert analytic(np.ones(K), last_noise=255.0).reverse_variance(last) == pytest.approx(
        analytic(np.ones(K)).reverse_variance(last)
    )


def test_one_step_and_the_last_add_no_noise() -> None:
    solver = analytic(np.zeros(K), steps=1)
    assert not solver.takes_noise(0)
    image = np.ones((1, 1, 2, 2))
    np.testing.assert_array_equal(
        solver.step(image, 0, image).prev_sample, solver.step(image, 0, image, image).prev_sample
    )


@pytest.mark.parametrize(
    ("power", "last_noise", "message"),
    [
        (np.zeros(7), 2.0, r"noise_power has shape \(7,\), it must be \(1000,\)"),
        (np.full(K, -0.1), 2.0, "negative or not finite"),
        (np.full(K, np.nan), 2.0, "negative or not finite"),
        (np.full(K, np.inf), 2.0, "negative or not finite"),
        (np.zeros(K), 0.0, "last_noise is 0.0, it must be positive"),
        (np.zeros(K), math.nan, "last_noise is nan, it must be positive"),
    ],
)
def test_bad_statistics_are_refused(power: npt.NDArray[np.float64], last_noise: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        analytic(power, last_noise=last_noise)


def test_identity_tells_everything_that_matters() -> None:
    solvers = [
        analytic(np.zeros(K)),
        analytic(np.ones(K)),
        analytic(np.zeros(K), last_noise=2.0),
        analytic(np.zeros(K), steps=9),
    ]
    assert len({str(solver.identity()) for solver in solvers}) == len(solvers)


@pytest.mark.parametrize("steps", [2, 10, 37, K])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddpm_has_the_variances_of_the_chain_that_it_walks(schedule: str, steps: int) -> None:
    small, large = (DDPM(schedule, K, variance=variance) for variance in ("fixed_small", "fixed_large"))
    alpha_bar = alphas_cumprod(schedule, K)
    for solver in (small, large):
        solver.set_timesteps(steps)
    for t, s in zip(small.timesteps[:-1].tolist(), small.timesteps[1:].tolist(), strict=True):
        a = alpha_bar[t] / alpha_bar[s]  # x_t = sqrt(a) x_s + sqrt(1 - a) z
        posterior = 1 / (1 / (1 - alpha_bar[s]) + a / (1 - a))  # Bayes: the precisions add up
        np.testing.assert_allclose(small.reverse_variance(t), posterior, rtol=1e-8)
        np.testing.assert_allclose(large.reverse_variance(t), 1 - a, rtol=1e-12)
        if t - s > 1:  # the beta of one diffusion step is too small for several
            assert betas(schedule, K)[t] < large.reverse_variance(t)
