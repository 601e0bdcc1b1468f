"""How a model takes its input and gives its output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from spikegen.lowering.calls import FOLDED
from spikegen.lowering.graph import FloatArray


def _mean(timesteps: int) -> FloatArray:
    return np.full(timesteps, 1.0 / timesteps)


def _last(timesteps: int) -> FloatArray:
    weights = np.zeros(timesteps)
    weights[-1] = 1.0
    return weights


# What the host makes of the values of all timesteps, where the model leaves that open -> the weight of each.
READOUTS: Mapping[str, Callable[[int], FloatArray]] = {"mean": _mean, "sum": np.ones, "last": _last}


@dataclass(frozen=True)
class Form:
    """Where a model has SNN time, and what it reads.

    Attributes:
        time: see :mod:`spikegen.lowering.calls`.
        flat: the input is features, (N, F) at a timestep, not pixels.
        spikes: the input is 0 or 1.
        repeats: the model takes one frame, (N, ...), and repeats it over time itself.
        readout: key of :data:`READOUTS` for a model that ends with the values of every timestep; None: it must end with
            a readout of its own.
    """

    time: str = FOLDED
    flat: bool = False
    spikes: bool = False
    repeats: bool = False
    readout: str | None = None
