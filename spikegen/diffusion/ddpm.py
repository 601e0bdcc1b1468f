"""DDPM's sampler with its two fixed variances (Ho et al. 2020, arXiv 2006.11239)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spikegen.diffusion.ancestral import Ancestral, posterior_variance, strided_beta
from spikegen.errors import ConfigError

VARIANCES = ("fixed_small", "fixed_large")
VARIANCE_MIN = 1e-20  # diffusers' lower bound


class DDPM(Ancestral):
    """DDPM's sampler, equal to diffusers' ``DDPMScheduler`` for predicted noise.

    With fewer than K steps both variances are those of the chain that is walked (improved DDPM, arXiv 2102.09672,
    equation 19). SDDPM's own code (arXiv 2306.17046, sampler "ddpm2") takes the mean of that chain with the ``beta_t``
    of a single diffusion step, which is too little noise; it is not reproduced here.

    Args:
        schedule, train_steps, clip_sample, spacing: see :class:`EpsilonSolver`.
        variance: ``fixed_small`` is the posterior variance of equation 7, ``fixed_large`` is ``beta_t`` (section 3.2),
            which SDDPM uses.

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

    def reverse_variance(self, t: int) -> float:
        """See :meth:`Ancestral.reverse_variance`."""
        alpha_bars = self._alpha_bars(t)
        if self.variance == "fixed_large":
            return strided_beta(*alpha_bars)
        return max(posterior_variance(*alpha_bars), VARIANCE_MIN)

    def identity(self) -> Mapping[str, Any]:
        """See :meth:`Solver.identity <spikegen.diffusion.solver.Solver.identity>`."""
        return {**super().identity(), "variance": self.variance}
