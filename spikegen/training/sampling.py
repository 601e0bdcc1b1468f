"""Sampling with the float model, with the very noise that a :class:`spikegen.runtime.Session` of the same seed uses."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from spikegen.diffusion import Solver
from spikegen.runtime.noise import ImageNoise

BATCH = 250


def sample_model(
    model: nn.Module, shape: tuple[int, int, int], solver: Solver, *, steps: int, images: int, seed: int = 0
) -> npt.NDArray[np.float64]:
    """Sample ``images`` images float64 [N, C, H, W] in [-1, 1] with a model that predicts noise.

    Args:
        model: ``model(x, t)`` in evaluation mode.
        shape: (C, H, W).
        solver: a solver of :mod:`spikegen.diffusion`; its timesteps are set here.
        steps: solver steps.
        images: N, at least 1.
        seed: 0 .. 2^64 - 1; image n depends on (seed, n) only, up to float rounding.
    """
    solver.set_timesteps(steps)
    sample = ImageNoise(seed, 0).normal((images, *shape)) * solver.init_noise_sigma
    for index, t in enumerate(solver.timesteps):
        seen = torch.from_numpy(solver.scale_model_input(sample, int(t))).float()
        with torch.no_grad():
            noise = torch.cat([model(part, torch.full((len(part),), int(t))) for part in seen.split(BATCH)])
        sample = solver.advance(noise.double().numpy(), int(t), sample, ImageNoise(seed, 1 + index))
    return np.clip(sample, -1.0, 1.0)
