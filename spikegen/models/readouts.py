"""Readouts: weighted sums over SNN time, which the host computes from the currents of a population."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class TemporalReadout(nn.Module, ABC):
    """Weighted sum over SNN time, ``(T * N, C, H, W) -> (N, C, H, W)``: ``sum_t weights[t] x[t]``.

    Args:
        timesteps: T, the number of SNN steps folded into the batch axis.
    """

    def __init__(self, timesteps: int) -> None:
        super().__init__()
        self.timesteps = timesteps

    @abstractmethod
    def weights(self) -> Tensor:
        """The T weights, float64 [T], first SNN step first."""

    def forward(self, x: Tensor) -> Tensor:
        weights = self.weights().to(x)
        return torch.einsum("tnchw,t->nchw", x.unflatten(0, (self.timesteps, -1)), weights)


class MembraneReadout(TemporalReadout):
    """``sum_t decay^(T-1-t) x[t]``, as in SDDPM (arXiv 2306.17046; decay 0.8)."""

    def __init__(self, timesteps: int, decay: float = 0.8) -> None:
        super().__init__(timesteps)
        self.decay = decay

    def weights(self) -> Tensor:
        """See :meth:`TemporalReadout.weights`."""
        return torch.tensor([self.decay ** (self.timesteps - 1 - t) for t in range(self.timesteps)], dtype=torch.double)


class MeanReadout(TemporalReadout):
    """``1/T sum_t x[t]``: of spikes, the firing rate."""

    def weights(self) -> Tensor:
        """See :meth:`TemporalReadout.weights`."""
        return torch.full((self.timesteps,), 1 / self.timesteps, dtype=torch.double)


class FusedReadout(MembraneReadout):
    """``(1 - alpha) sum_t decay^(T-1-t) x[t] + alpha/T sum_t x[t]`` with a learnable ``alpha``.

    The fusion of the latent spikes of the VQ-SVAE (Spiking-Diffusion, arXiv 2308.10187); ``alpha`` starts at 0.5.
    """

    def __init__(self, timesteps: int, decay: float = 0.8) -> None:
        super().__init__(timesteps, decay)
        self.alpha = nn.Parameter(torch.tensor(0.5))

    def weights(self) -> Tensor:
        """See :meth:`TemporalReadout.weights`; differentiable in ``alpha``."""
        alpha = self.alpha.double()
        weights: Tensor = (1 - alpha) * super().weights().to(alpha.device) + alpha / self.timesteps
        return weights
