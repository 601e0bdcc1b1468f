"""Analytic-DPM (Bao et al. 2022, arXiv 2201.06503): the optimal variance of the reverse chain, from statistics.

The paper writes ``beta_bar_n`` for ``1 - alpha_bar_n`` and ``s_n = -eps / sqrt(beta_bar_n)`` for the score (footnote
1), so its ``beta_bar_n Gamma_n`` (equation 8) is the mean square of the predicted noise, ``h_n``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from spikegen.diffusion.ancestral import Ancestral, posterior_variance, strided_beta
from spikegen.errors import ConfigError

LAST_NOISE = 2.0  # appendix F.2: y = 2 for Analytic-DDPM on CIFAR-10 and CelebA, which is also what SDM's code takes


class Analytic(Ancestral):
    """Analytic-DDPM, which SDM (arXiv 2408.16467) calls Analytic-SDPM: DDPM's mean with the optimal variance.

    Args:
        schedule, train_steps, clip_sample, spacing: see :class:`EpsilonSolver`.
        noise_power: float64 [K], ``h_t = E[|eps|^2 / d]`` of the network at every diffusion step; of
            :attr:`ImageDiffusion.noise_power <spikegen.program.ImageDiffusion>`.
        last_noise: y > 0; the noise before the last step changes a pixel by at most y of 255 grey levels on average
            (appendix F.2). Infinite: it is not limited.

    Raises:
        ConfigError: unknown name, a number out of range, or statistics of another number of steps.
    """

    def __init__(
        self,
        schedule: str = "linear",
        train_steps: int = 1000,
        *,
        noise_power: npt.ArrayLike,
        clip_sample: bool = True,
        spacing: str = "leading",
        last_noise: float = LAST_NOISE,
    ) -> None:
        super().__init__(schedule, train_steps, clip_sample=clip_sample, spacing=spacing)
        self.noise_power = np.array(noise_power, dtype=np.float64)
        if self.noise_power.shape != (train_steps,):
            raise ConfigError(f"noise_power has shape {self.noise_power.shape}, it must be ({train_steps},)")
        if not (np.isfinite(self.noise_power) & (self.noise_power >= 0.0)).all():
            raise ConfigError("noise_power holds numbers that are negative or not finite")
        if not last_noise > 0.0:
            raise ConfigError(f"last_noise is {last_noise}, it must be positive")
        self.last_noise = float(last_noise)

    def reverse_variance(self, t: int) -> float:
        """See :meth:`Ancestral.reverse_variance`: the estimate of equation 9, within the bounds of theorem 2."""
        alpha_bar, alpha_bar_prev = self._alpha_bars(t)
        # equation 7 is lambda^2 + c^2 Cov (lemma 13), where Cov is the mean variance of a pixel of the image given x_t;
        # lemma 11: Cov = (1 - alpha_bar_t) / alpha_bar_t (1 - h_t)
        covariance = (1.0 - alpha_bar) / alpha_bar * (1.0 - float(self.noise_power[t]))
        # theorem 2: equation 11 says Cov >= 0 (its upper bound is h_t >= 0), equation 12 Cov <= ((b - a) / 2)^2 with
        # the range [a, b] = [-1, 1] of pixels
        covariance = min(max(covariance, 0.0), 1.0)
        # equation 13 and below, for some of the timesteps; appendix D for lambda^2 = the posterior variance of DDPM,
        # where c = sqrt(alpha_bar_prev) beta / (1 - alpha_bar_t)
        scale = math.sqrt(alpha_bar_prev) * strided_beta(alpha_bar, alpha_bar_prev) / (1.0 - alpha_bar)
        variance = posterior_variance(alpha_bar, alpha_bar_prev) + scale**2 * covariance
        if t == int(self.timesteps[-2:][0]):  # the last step that adds noise
            # appendix F.2: E|sigma z| = sigma sqrt(2 / pi) <= 2 / 255 y
            variance = min(variance, (2.0 / 255.0 * self.last_noise * math.sqrt(math.pi / 2.0)) ** 2)
        return variance

    def identity(self) -> Mapping[str, Any]:
        """See :meth:`Solver.identity <spikegen.diffusion.solver.Solver.identity>`."""
        return {
            **super().identity(),
            "noise_power": self.noise_power[self.timesteps].tolist(),
            "last_noise": "inf" if math.isinf(self.last_noise) else self.last_noise,
        }
