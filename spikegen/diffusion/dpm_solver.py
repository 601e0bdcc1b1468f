"""DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095), computed by diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from spikegen.diffusion.external import ExternalSolver
from spikegen.diffusion.schedule import betas
from spikegen.errors import ConfigError

DPM_SOLVER = "dpm-solver++"
# diffusers' default: round(i (K - 1) / n), i = n .. 1
SPACINGS = ("linspace", "leading", "trailing")
# The authors' clip of log(sqrt(alpha_bar) / sqrt(1 - alpha_bar)) in their `NoiseScheduleVP` (LuChengTHU/dpm-solver):
# the cosine schedule ends in log-SNRs too low to be computed with. The linear one of 1000 steps stays above it.
LAMBDA_MIN = -5.1


class DPMSolver(ExternalSolver):
    """diffusers' ``DPMSolverMultistepScheduler``: second order multistep (algorithm 2 of the paper), data prediction.

    The noise schedule is ours, float64 rounded to float32. Where the predicted image is clamped to [-1, 1], it is by
    the scheduler's thresholding with a maximum of 1.

    Args:
        schedule, train_steps, clip_sample: see :class:`~spikegen.diffusion.epsilon.EpsilonSolver`.
        spacing: of :data:`SPACINGS`, diffusers' ``timestep_spacing``.

    Raises:
        ConfigError: diffusers is not installed, or an unknown name.
    """

    def __init__(
        self, schedule: str = "linear", train_steps: int = 1000, *, clip_sample: bool = True, spacing: str = "linspace"
    ) -> None:
        if spacing not in SPACINGS:
            raise ConfigError(f"timestep spacing {spacing!r} is unknown; known are {', '.join(sorted(SPACINGS))}")
        trained = betas(schedule, train_steps)
        try:
            from diffusers import DPMSolverMultistepScheduler

            scheduler = DPMSolverMultistepScheduler(  # type: ignore[no-untyped-call, unused-ignore]
                num_train_timesteps=train_steps,
                trained_betas=trained,
                algorithm_type="dpmsolver++",
                thresholding=clip_sample,
                sample_max_value=1.0,
                lambda_min_clipped=LAMBDA_MIN,
                timestep_spacing=spacing,
            )
        except ImportError as error:  # also what diffusers raises if torch is missing
            raise ConfigError(
                f"solver {DPM_SOLVER} needs diffusers and PyTorch ({error}); pip install 'spikegen[diffusers]'"
            ) from error
        self._named = {
            "schedule": schedule,
            "train_steps": train_steps,
            "clip_sample": clip_sample,
            "spacing": spacing,
        }
        super().__init__(scheduler)

    def set_timesteps(self, steps: int) -> None:
        """See :meth:`ExternalSolver.set_timesteps`.

        Raises:
            ConfigError: ``steps`` is not in 1 .. K, or diffusers finds another number of timesteps, or one twice.
        """
        super().set_timesteps(steps)
        if len(self.timesteps) != steps or (np.diff(self.timesteps) >= 0).any() or self.timesteps[-1] < 0:
            raise ConfigError(
                f"{DPM_SOLVER} finds no {steps} different timesteps of {self.train_steps}: "
                f"take another number of steps, at most {self.train_steps // 2}, or another spacing"
            )

    def identity(self) -> Mapping[str, Any]:
        """See :meth:`Solver.identity <spikegen.diffusion.solver.Solver.identity>`."""
        return {"solver": DPM_SOLVER, **self._named, "timesteps": self.timesteps.tolist()}
