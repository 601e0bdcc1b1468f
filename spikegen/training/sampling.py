"""Sampling with the float model, with the very noise that a :class:`spikegen.runtime.Session` of the same seed uses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from spikegen.diffusion import Absorbing, Sample, Solver
from spikegen.models import SpikingDiffusion
from spikegen.models.vqsvae import PIXEL_SCALE
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
    sample: npt.NDArray[np.float64] = _walk(
        lambda x, t: model(x, torch.full((len(x),), t)), shape, solver, steps, images, seed
    )
    return sample


def sample_tokens(
    model: nn.Module, solver: Absorbing, grid: tuple[int, int], *, steps: int, images: int, seed: int = 0
) -> npt.NDArray[np.int64]:
    """Sample ``images`` grids of tokens int64 [N, h, w] with a model that predicts their logits.

    Args:
        model: ``model(x)`` in evaluation mode; ``x`` float32 [N, 2, h, w] holds the tokens (K: mask) and the diffusion
            step, the answer [N, K, h, w] the logits.
        solver: its timesteps are set here.
        grid: (h, w).
        steps: solver steps, 1 .. T_d, at most as many as there are sites.
        images: N, at least 1.
        seed: 0 .. 2^64 - 1; image n depends on (seed, n) only, up to float rounding.
    """
    tokens: npt.NDArray[np.int64] = _walk(lambda x, _: model(x), (2, *grid), solver, steps, images, seed)
    return tokens


def decode_model(model: SpikingDiffusion, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The images float64 [N, C, H, W] in [-1, 1] of ``tokens`` int64 [N, h, w], decoded by the float model."""
    autoencoder = model.autoencoder
    with torch.no_grad():
        parts = torch.from_numpy(tokens).split(BATCH)
        pixels = torch.cat([torch.tanh(autoencoder.decoder(autoencoder.code_vectors(part))) for part in parts])
    decoded: npt.NDArray[np.float64] = np.clip(pixels.double().numpy() / PIXEL_SCALE, -1.0, 1.0)
    return decoded


def reconstruct_images(model: SpikingDiffusion, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """``images`` float32 [N, C, H, W] in [-1, 1], encoded and decoded by the float model; float64."""
    autoencoder = model.autoencoder
    with torch.no_grad():
        parts = torch.from_numpy(images * np.float32(PIXEL_SCALE)).split(BATCH)
        tokens = torch.cat([autoencoder.tokens(autoencoder.encoder(part)) for part in parts])
    return decode_model(model, tokens.numpy())


def _walk(
    predict: Callable[[Tensor, int], Tensor],
    shape: tuple[int, int, int],
    solver: Solver,
    steps: int,
    images: int,
    seed: int,
) -> Sample:
    """The loop of a session, with a float model in place of the Program."""
    solver.set_timesteps(steps)
    sample = solver.initial_sample(images, shape, ImageNoise(seed, 0))
    for index, t in enumerate(solver.timesteps.tolist()):
        seen = torch.from_numpy(solver.model_input(sample, t)).float()
        with torch.no_grad():
            output = torch.cat([predict(part, t) for part in seen.split(BATCH)])
        sample = solver.advance(output.double().numpy(), t, sample, ImageNoise(seed, 1 + index))
    return solver.finish(sample)
