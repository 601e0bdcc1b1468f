"""What all networks that predict the noise of an image share: their time embedding, and being one."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn


class DenoiserConfig(Protocol):
    """The sizes that every denoiser of images has."""

    @property
    def image_size(self) -> int:
        """Height and width of the image [pixels]."""

    @property
    def channels(self) -> int:
        """Image channels."""

    @property
    def timesteps(self) -> int:
        """T, SNN steps per evaluation."""

    @property
    def diffusion_steps(self) -> int:
        """K, diffusion steps that the time embedding knows."""


class ImageDenoiser(nn.Module):
    """Base of the networks that predict the noise in ``x`` at diffusion step ``t``.

    Shapes:
        ``forward(x: (N, channels, size, size) float, t: (N,) int) -> (N, channels, size, size)``
    """

    config: DenoiserConfig


class TimeEmbedding(nn.Module):
    """Sinusoidal embedding of the diffusion step and its two-layer Swish MLP, ``(N,) -> (N, out_features)``.

    Embedding: ``w_i = exp(-(2 i / dim) ln 10000)``, sines and cosines interleaved (SDDPM, ``model/SpikingUNet.py``).
    """

    def __init__(self, dim: int, out_features: int) -> None:
        super().__init__()
        frequencies = torch.exp(-(torch.arange(0, dim, 2) / dim * math.log(10000.0)))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.frequencies: Tensor
        self.mlp = nn.Sequential(
            nn.Linear(dim, out_features), nn.SiLU(), nn.Linear(out_features, out_features), nn.SiLU()
        )

    def sinusoids(self, t: Tensor) -> Tensor:
        """The embedding in front of the MLP, ``(N,) -> (N, dim)``."""
        angles = t.to(self.frequencies.dtype)[:, None] * self.frequencies
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)

    def forward(self, t: Tensor) -> Tensor:
        embedding: Tensor = self.mlp(self.sinusoids(t))
        return embedding


class TimeBias(nn.Module):
    """The bias that the diffusion step adds to every neuron of a channel, ``(N, E) -> (T * N, C, 1, 1)``."""

    def __init__(self, embedding_features: int, channels: int, timesteps: int) -> None:
        super().__init__()
        self.timesteps = timesteps
        self.linear = nn.Linear(embedding_features, channels)

    def forward(self, embedding: Tensor) -> Tensor:
        bias: Tensor = self.linear(embedding)
        return bias.repeat(self.timesteps, 1)[:, :, None, None]
