"""Ancestral sampling of DDPM (Ho et al. 2020, arXiv 2006.11239), on all or some of the timesteps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from spikegen.diffusion.epsilon import EpsilonSolver, SolverStep
from spikegen.diffusion.schedule import FloatArray
from spikegen.errors import ConfigError

VARIANCES = ("fixed_small", "fixed_large")
VARIANCE_MIN = 1e-20  # diffusers' lower bound


class DDPM(EpsilonSolver):
    """DDPM's sampler, equal to diffusers' ``DDPMScheduler`` for predicted noise.

    Args:
        schedule, train_steps, clip_sample, spacing: see :class:`EpsilonSolver`.
        variance: ``fixed_small`` is the posterior variance of equation 7, ``fixed_large`` is ``beta_t`` (section 3.2).

    Raises:
        ConfigError: unknown name, or a number out of range.
    """

    def __init__(
        self,
        schedule: str = "linear",
        train_steps: int = 1000,
        *,
        clip_sample: bool = True,
        spacing: str = "leading",
        variance: str = "fixed_small",
    ) -> None:
        super().__init__(schedule, train_steps, clip_sample=clip_sample, spacing=spacing)
        if variance not in VARIANCES:
            raise ConfigError(f"variance {variance!r} is unknown; known are {', '.join(VARIANCES)}")
        self.variance = variance

    def takes_noise(self, t: int) -> bool:
        """All but the last step (algorithm 2, line 3: z = 0 at the last)."""
        return t != int(self.timesteps[-1])

    def step(self, model_output: FloatArray, t: int, sample: FloatArray, noise: FloatArray | None = None) -> SolverStep:
        """See :meth:`EpsilonSolver.step`."""
        alpha_bar, alpha_bar_prev = self._alpha_bars(t)
        # Nichol & Dhariwal (arXiv 2102.09672), equation 19, for timesteps that need not be neighbours
        beta = 1.0 - alpha_bar / alpha_bar_prev
        original = self._predict_original(model_output, alpha_bar, sample)
        # DDPM, equation 7: mean = sqrt(alpha_bar_prev) beta_t / (1 - alpha_bar_t) x_0
        #                        + sqrt(alpha_t) (1 - alpha_bar_prev) / (1 - alpha_bar_t) x_t
        previous = (
            np.sqrt(alpha_bar_prev) * beta / (1.0 - alpha_bar) * original
            + np.sqrt(1.0 - beta) * (1.0 - alpha_bar_prev) / (1.0 - alpha_bar) * sample
        )
        if self.takes_noise(t):
            # DDPM, equation 7: beta~_t = (1 - alpha_bar_prev) / (1 - alpha_bar_t) beta_t; section 3.2: or beta_t itself
            small = max((1.0 - alpha_bar_prev) / (1.0 - alpha_bar) * beta, VARIANCE_MIN)
            variance = small if self.variance == "fixed_small" else beta
            # DDPM, algorithm 2, line 4: x_prev = mean + sigma_t z
            previous = previous + np.sqrt(variance) * self._noise(t, noise)
        return SolverStep(previous, original)

    def identity(self) -> Mapping[str, Any]:
        """See :meth:`Solver.identity <spikegen.diffusion.solver.Solver.identity>`."""
        return {**super().identity(), "variance": self.variance}
