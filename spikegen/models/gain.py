"""TSM: a learnable gain for every SNN step."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TemporalGain(nn.Module):
    """``y[t] = gains[t] x[t]``, ``(T * N, C, H, W) -> (T * N, C, H, W)``.

    The temporal-wise spiking mechanism of SDM (arXiv 2408.16467; ``SDM/TSM.py``): one gain per layer and SNN step, 1 at
    first, on what a convolution delivers, its bias included, before the BatchNorm.

    Args:
        timesteps: T, the number of SNN steps folded into the batch axis.
    """

    def __init__(self, timesteps: int) -> None:
        super().__init__()
        self.timesteps = timesteps
        self.gains = nn.Parameter(torch.ones(timesteps))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gains.repeat_interleave(len(x) // self.timesteps)[:, None, None, None]
