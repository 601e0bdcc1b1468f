"""Direct coding: a real-valued frame becomes the same input at every SNN step."""

from __future__ import annotations

from torch import Tensor, nn


class DirectCoding(nn.Module):
    """Repeats a frame at every SNN step: ``(N, C, H, W) -> (T * N, C, H, W)`` (SDDPM's "direct coding")."""

    def __init__(self, timesteps: int) -> None:
        super().__init__()
        self.timesteps = timesteps

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat(self.timesteps, 1, 1, 1)
