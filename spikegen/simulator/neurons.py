"""The neurons of the torch engine, in float32 that holds every integer exactly.

Only for populations that interval bounds prove never to wrap or clip. Membranes are kept negated: ``n = -v``, and a
neuron fires where ``n < -threshold``. That is what torch has a fast function for; the compiled form does the same in
one sweep over the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikegen.program import Lif
from spikegen.program.numerics import DECAY_MAX, DECAY_UNITY, STATE_SHIFT

try:
    from spikegen.simulator.compiled import integrate, leak
except ImportError:  # without numba torch's functions do it, several times slower
    COMPILED = False
else:
    COMPILED = True

_PARALLEL = 1 << 18  # messages from which threads pay


@dataclass(frozen=True)
class Neurons:
    """The constants of a Lif population.

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


Fire = Callable[[Neurons, Tensor, Tensor, Tensor, Tensor], None]
"""Spikes over all timesteps: :func:`spikegen.program.numerics.lif_step`, integer for integer.

Args:
    neurons: constants.
    charge: ``-(a << 6)``, float32 (n, T, H, W, C), or (n, 1, H, W, C) where it is the same at every timestep. May be
        overwritten.
    bias: ``-(bias_mant << bias_exp)``, float32 (C,).
    spikes: uint8 (n, T, H, W, C), written.
    events: int32 (H, W, C), to which the spikes of each neuron are added.
"""


def fire_by_torch(neurons: Neurons, charge: Tensor, bias: Tensor, spikes: Tensor, events: Tensor) -> None:
    """On any device; see :data:`Fire`."""
    limit = float(-neurons.threshold)
    fired = spikes.view(torch.bool)
    current = charge[:, 0]
    membrane = current + bias
    torch.lt(membrane, limit, out=fired[:, 0])
    for t in range(1, spikes.shape[1]):
        a = charge[:, 0 if charge.shape[1] == 1 else t]
        current = a if neurons.du == DECAY_MAX else a + _decayed(current, neurons.du + 1)
        # Integers: n > -threshold - 1/2 where the neuron did not fire; threshold(x, a, 0) is x where x > a, else 0.
        kept = torch.threshold(membrane, limit - 0.5, 0.0)
        membrane = (_decayed(kept, neurons.dv) if neurons.dv else kept).add_(current).add_(bias)
        torch.lt(membrane, limit, out=fired[:, t])
    events += spikes.flatten(0, 1).sum(dim=0, dtype=torch.int32)


class CompiledFire:
    """On the CPU, in machine code that numba makes; see :data:`Fire`.

    Args:
        threads: how many threads share the neurons of a large population.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def __call__(self, neurons: Neurons, charge: Tensor, bias: Tensor, spikes: Tensor, events: Tensor) -> None:
        """See :data:`Fire`."""
        count = events.numel()
        limit = np.float32(-neurons.threshold)
        rows = bias.expand(*events.shape).contiguous().view(count)
        arrays = (charge.flatten(2), rows, spikes.flatten(2), events.view(count))
        function: Any
        constants: tuple[Any, ...]
        if (neurons.du, neurons.dv) == (DECAY_MAX, 0):
            function, constants = integrate, (limit,)
        else:
            kept = ((DECAY_UNITY - amount) / DECAY_UNITY for amount in (neurons.du + 1, neurons.dv))
            function, constants = leak, (limit, *kept)
        sweep = partial(function, *(array.numpy() for array in arrays), *constants)
        if self._pool is None or spikes.numel() < _PARALLEL:
            sweep(0, count)
            return
        share = -(-count // self._threads)
        starts = range(0, count, share)
        for job in [self._pool.submit(sweep, first, min(first + share, count)) for first in starts]:
            job.result()


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
