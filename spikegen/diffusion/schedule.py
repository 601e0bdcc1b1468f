"""Noise schedules: the variances ``beta_t`` of the forward process, under diffusers' names."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from spikegen.errors import ConfigError

FloatArray = npt.NDArray[np.float64]

STEPS_MAX = 1 << 16  # as many diffusion steps as the conditioning of a Program may have


def _linear(steps: int) -> FloatArray:
    """DDPM (Ho et al. 2020, arXiv 2006.11239), section 4: from 1e-4 linearly to 0.02 (there over 1000 steps)."""
    return np.linspace(1e-4, 0.02, steps, dtype=np.float64)


def _squaredcos_cap_v2(steps: int) -> FloatArray:
    """Cosine schedule (Nichol & Dhariwal 2021, arXiv 2102.09672), equation 17, ``s = 0.008``, capped at 0.999."""

    def alpha_bar(time: float) -> float:
        # equation 17 without the division by f(0), which cancels in the ratio below
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    # below equation 17: beta_t = 1 - alpha_bar_t / alpha_bar_(t-1), at most 0.999
    return np.array([min(1.0 - alpha_bar((i + 1) / steps) / alpha_bar(i / steps), 0.999) for i in range(steps)])


SCHEDULES: dict[str, Callable[[int], FloatArray]] = {
    "linear": _linear,
    "squaredcos_cap_v2": _squaredcos_cap_v2,
}


def betas(name: str, steps: int = 1000) -> FloatArray:
    """The variances of the forward process, float64 [steps], each in (0, 1).

    Args:
        name: key of :data:`SCHEDULES`.
        steps: number of diffusion steps K, 1 .. 65536.

    Raises:
        ConfigError: unknown name, or steps out of range.
    """
    if name not in SCHEDULES:
        raise ConfigError(f"noise schedule {name!r} is unknown; known are {', '.join(sorted(SCHEDULES))}")
    if not 1 <= steps <= STEPS_MAX:
        raise ConfigError(f"a noise schedule has 1..{STEPS_MAX} diffusion steps, not {steps}")
    return SCHEDULES[name](steps)


def alphas_cumprod(name: str, steps: int = 1000) -> FloatArray:
    """``alpha_bar_t``, float64 [steps], decreasing within (0, 1): what is left of the image's variance at step t.

    DDPM (arXiv 2006.11239), below equation 4: ``alpha_bar_t = prod_{s<=t} (1 - beta_s)``; index 0 is the paper's t = 1.

    Raises:
        ConfigError: as :func:`betas`.
    """
    return np.cumprod(1.0 - betas(name, steps))
