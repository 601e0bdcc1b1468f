"""Ancestral sampling: DDPM's reverse chain (Ho et al. 2020, arXiv 2006.11239), on all or some of the timesteps."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from spikegen.diffusion.epsilon import EpsilonSolver, SolverStep
from spikegen.diffusion.schedule import FloatArray


class Ancestral(EpsilonSolver):
    """Base of solvers that draw each sample from a Gaussian around DDPM's mean; they differ in its variance."""

    @abstractmethod
    def reverse_variance(self, t: int) -> float:
        """Variance of the noise that the step at ``t`` adds to every pixel, at least 0; unused at the last timestep.

        Raises:
            ConfigError: ``t`` is not one of the timesteps.
        """

    def takes_noise(self, t: int) -> bool:
        """All but the last step (DDPM, algorithm 2, line 3: z = 0 at the last)."""
        return t != int(self.timesteps[-1])

    def step(self, model_output: FloatArray, t: int, sample: FloatArray, noise: FloatArray | None = None) -> SolverStep:
        """See :meth:`EpsilonSolver.step`."""
        alpha_bar, alpha_bar_prev = self._alpha_bars(t)
        beta = strided_beta(alpha_bar, alpha_bar_prev)
        original = self._predict_original(model_output, alpha_bar, sample)
        # DDPM, equation 7: mean = sqrt(alpha_bar_prev) beta_t / (1 - alpha_bar_t) x_0
        #                        + sqrt(alpha_t) (1 - alpha_bar_prev) / (1 - alpha_bar_t) x_t
        previous = (
            np.sqrt(alpha_bar_prev) * beta / (1.0 - alpha_bar) * original
            + np.sqrt(1.0 - beta) * (1.0 - alpha_bar_prev) / (1.0 - alpha_bar) * sample
        )
        if self.takes_noise(t):
            # DDPM, algorithm 2, line 4: x_prev = mean + sigma_t z
            previous = previous + np.sqrt(self.reverse_variance(t)) * self._noise(t, noise)
        return SolverStep(previous, original)


def strided_beta(alpha_bar: float, alpha_bar_prev: float) -> float:
    """``beta`` of one step of a chain that visits some of the timesteps: ``1 - alpha_bar_t / alpha_bar_prev``.

    Improved DDPM (Nichol & Dhariwal 2021, arXiv 2102.09672), equation 19. It is the schedule's own ``beta_t`` only
    where the two timesteps are neighbours.
    """
    return 1.0 - alpha_bar / alpha_bar_prev


def posterior_variance(alpha_bar: float, alpha_bar_prev: float) -> float:
    """Variance of ``x_prev`` given ``x_t`` and the image, ``(1 - alpha_bar_prev) / (1 - alpha_bar_t) beta``.

    DDPM, equation 7, for neighbours; improved DDPM, equation 19, for any two timesteps.
    """
    return (1.0 - alpha_bar_prev) / (1.0 - alpha_bar) * strided_beta(alpha_bar, alpha_bar_prev)
