import numpy as np
import pytest

from spikegen.diffusion import SCHEDULES, alphas_cumprod, betas
from spikegen.errors import ConfigError


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 50, 1000])
def test_variances_are_within_bounds_and_the_signal_decreases(name: str, steps: int) -> None:
    variances, signal = betas(name, steps), alphas_cumprod(name, steps)
    assert variances.shape == signal.shape == (steps,)
    assert variances.dtype == signal.dtype == np.float64
    assert ((variances > 0) & (variances < 1)).all()
    assert (np.diff(signal) < 0).all()
    assert ((signal > 0) & (signal < 1)).all()


def test_linear_has_the_end_points_of_the_paper() -> None:
    variances = betas("linear", 1000)
    assert variances[0] == 1e-4
    assert variances[-1] == 0.02
    np.testing.assert_allclose(np.diff(variances), (0.02 - 1e-4) / 999, rtol=1e-9)  # rounding of differences


def test_cosine_follows_equation_17_until_the_cap() -> None:
    steps = 1000
    time = np.arange(1, steps + 1) / steps
    f = np.cos((time + 0.008) / 1.008 * np.pi / 2) ** 2
    start = np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    signal = alphas_cumprod("squaredcos_cap_v2", steps)
    np.testing.assert_allclose(signal[:-1], (f / start)[:-1], rtol=1e-9)  # a product of ratios against one ratio
    assert betas("squaredcos_cap_v2", steps)[-1] == 0.999


def test_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'cosine' is unknown; known are linear, squaredcos_cap_v2"):
        betas("cosine", 10)


@pytest.mark.parametrize("steps", [0, -1, 65537])
def test_steps_out_of_range_are_refused(steps: int) -> None:
    with pytest.raises(ConfigError, match="diffusion steps"):
        alphas_cumprod("linear", steps)
