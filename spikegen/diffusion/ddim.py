"""DDIM sampling (Song et al. 2021, arXiv 2010.02502). The paper writes ``alpha_t`` for what is ``alpha_bar_t`` here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from spikegen.diffusion.epsilon import EpsilonSolver, SolverStep
from spikegen.diffusion.schedule import FloatArray
from spikegen.errors import ConfigError


class DDIM(EpsilonSolver):
    """DDIM's sampler, equal to diffusers' ``DDIMScheduler`` for predicted noise.

    Args:
        schedule, train_steps, clip_sample, spacing: see :class:`EpsilonSolver`.
        eta: 0 .. 1; 0 is deterministic, 1 has the variance of DDPM.

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
        eta: float = 0.0,
    ) -> None:
        super().__init__(schedule, train_steps, clip_sample=clip_sample, spacing=spacing)
        if not 0.0 <= eta <= 1.0:
            raise ConfigError(f"eta is {eta}, it must lie in 0..1")
        self.eta = float(eta)

    def takes_noise(self, t: int) -> bool:
        """Whether eta is positive, but for the last step, whose variance is 0."""
        return self.eta > 0.0 and t != int(self.timesteps[-1])

    def step(self, model_output: FloatArray, t: int, sample: FloatArray, noise: FloatArray | None = None) -> SolverStep:
        """See :meth:`EpsilonSolver.step`. The predicted noise is not derived again from a clamped image."""
        alpha_bar, alpha_bar_prev = self._alpha_bars(t)
        original = self._predict_original(model_output, alpha_bar, sample)
        # DDIM, equation 16: sigma_t = eta sqrt((1 - alpha_prev) / (1 - alpha_t)) sqrt(1 - alpha_t / alpha_prev)
        variance = (1.0 - alpha_bar_prev) / (1.0 - alpha_bar) * (1.0 - alpha_bar / alpha_bar_prev)
        sigma = self.eta * np.sqrt(variance)
        # DDIM, equation 12, "direction pointing to x_t": sqrt(1 - alpha_prev - sigma_t^2) eps;
        # rounding may put the difference just below its lower bound 0
        direction = np.sqrt(max(1.0 - alpha_bar_prev - sigma**2, 0.0)) * model_output
        # DDIM, equation 12: x_prev = sqrt(alpha_prev) x_0 + direction + sigma_t eps_t
        previous = np.sqrt(alpha_bar_prev) * original + direction
        if self.takes_noise(t):
            previous = previous + sigma * self._noise(t, noise)
        return SolverStep(previous, original)

    def identity(self) -> Mapping[str, Any]:
        """See :meth:`Solver.identity <spikegen.diffusion.solver.Solver.identity>`."""
        return {**super().identity(), "eta": self.eta}
