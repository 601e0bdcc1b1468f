"""The neurons of the torch engine, in float32 that holds every integer exactly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikegen.program import Lif
from spikegen.program.numerics import DECAY_MAX, DECAY_UNITY, STATE_SHIFT


@dataclass(frozen=True)
class Neurons:
    """A Lif population that interval bounds prove never to wrap or clip.

    Membranes are kept negated, because torch has a fast function for the reset then: ``threshold(x, a, 0)`` is x where
    ``x > a``, else 0. With ``n = -v``, a neuron fires where ``n < -threshold``.

    Attributes:
        threshold: ``vth << 6``.
        du, dv: decays as in :class:`~spikegen.program.Lif`.
    """

    threshold: int
    du: int
    dv: int

    @staticmethod
    def of(population: Lif) -> Neurons:
        """The neurons of ``population``."""
        return Neurons(population.vth << STATE_SHIFT, population.du, population.dv)

    def fire(self, charge: Tensor, bias: Tensor, spikes: Tensor) -> None:
        """Spikes over all timesteps: :func:`spikegen.program.numerics.lif_step`, integer for integer.

        Args:
            charge: ``-(a << 6)``, float32 (n, T, H, W, C), or (n, 1, H, W, C) where it is the same at every timestep.
                Is overwritten.
            bias: ``-(bias_mant << bias_exp)``, float32 (C,).
            spikes: bool (n, T, H, W, C), written.
        """
        timesteps = spikes.shape[1]
        limit = float(-self.threshold)
        steady = charge.shape[1] == 1
        no_memory = self.du == DECAY_MAX  # nothing of the current is left
        if no_memory:
            charge.add_(bias)
        current = charge[:, 0]
        membrane = current if no_memory else current + bias
        torch.lt(membrane, limit, out=spikes[:, 0])
        for t in range(1, timesteps):
            a = charge[:, 0 if steady else t]
            if not no_memory:
                current = a.add_(_decayed(current, self.du + 1)) if not steady else a + _decayed(current, self.du + 1)
                a = current + bias
            # Integers: n > -threshold - 1/2 where the neuron did not fire.
            kept = torch.threshold(membrane, limit - 0.5, 0.0)
            membrane = (_decayed(kept, self.dv) if self.dv else kept).add_(a)
            torch.lt(membrane, limit, out=spikes[:, t])


def _decayed(state: Tensor, amount: int) -> Tensor:
    """``trunc(state * (4096 - amount) / 4096)`` for a state of at most 23 bits.

    The product may have 35 bits. With ``state = 4096 h + l``, h and l of one sign, it is ``h k + trunc(l k / 4096)``,
    of which every part has at most 24.
    """
    kept = DECAY_UNITY - amount
    if kept & (kept - 1) == 0:  # a power of two only moves the point
        return _truncated(state * (kept / DECAY_UNITY))
    high = _truncated(state * (1 / DECAY_UNITY))
    low = torch.add(state, high, alpha=-DECAY_UNITY)
    return _truncated(low.mul_(kept / DECAY_UNITY)).add_(high, alpha=kept)


def _truncated(x: Tensor) -> Tensor:
    """``trunc(x)`` by way of int32: many times faster than ``torch.trunc`` (torch 2.3)."""
    return x.to(torch.int32).float()
