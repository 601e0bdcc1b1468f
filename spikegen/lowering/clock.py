"""A bias that changes over SNN time, as the spikes of a clock.

A Lif adds the same bias at every timestep. TSM (SDM, arXiv 2408.16467) scales the bias of a convolution by a gain of
each timestep, so what is added changes. Its value at timestep 0 stays the bias; the rest is the current of a *clock*: a
population that hears nothing, whose neurons fire at fixed times by their own bias, through an ordinary 1x1 projection.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spikegen.errors import LoweringError
from spikegen.lowering.graph import FloatArray
from spikegen.lowering.network import FloatPopulation
from spikegen.program.numerics import BIAS_MANT_MAX, DECAY_MAX, STATE_SHIFT

VTH = BIAS_MANT_MAX >> STATE_SHIFT  # 63: the bias that exceeds it at the second timestep is one mantissa
TIMESTEPS_MAX = VTH + 1  # the k-th neuron needs k (k + 1) units of bias below the threshold of 63 * 64


def clock_name(height: int, width: int) -> str:
    """Name of the clock of all populations of this resolution."""
    return f"clock:{height}x{width}"


def clock(timesteps: int, height: int, width: int) -> FloatPopulation:
    """The clock for populations of ``height`` x ``width``: channel ``k - 1`` first fires at timestep k = 1 .. T - 1.

    IF neurons with threshold 63 and a bias of ``floor(64 * 63 / k) / 64`` per timestep: it is at most 64 * 63 / k after
    k timesteps, and above it after k + 1. Its unit of current is 1, so that quantising it changes nothing.
    """
    limit = VTH << STATE_SHIFT
    bias = np.array([limit // k for k in range(1, timesteps)], dtype=np.float64) / (1 << STATE_SHIFT)
    return FloatPopulation(
        clock_name(height, width), (timesteps - 1, height, width), bias, neuron=(float(VTH), DECAY_MAX, 0)
    )


def spikes(timesteps: int) -> npt.NDArray[np.int64]:
    """What a clock sends, int64 [T, T - 1]: after a spike the membrane starts again at 0, so the period is k + 1."""
    steps, channels = np.arange(1, timesteps + 1), np.arange(1, timesteps)
    fired: npt.NDArray[np.int64] = (steps[:, None] % (channels + 1) == 0).astype(np.int64)
    return fired


def clocked(name: str, bias: FloatArray) -> tuple[FloatArray, FloatArray | None]:
    """A bias [C] or [T, C] of population ``name`` as a constant and a clock's weights.

    ``bias[t] = constant + sum_k weight[:, k] spikes[t, k]``; the spikes of channel k begin at timestep k + 1, so the
    weights follow one from the other.

    Returns:
        the constant float64 [C], and the weight float64 [C, T - 1, 1, 1] of the 1x1 projection from the clock, or None
        if the bias does not change.

    Raises:
        LoweringError: it changes over more timesteps than a clock has.
    """
    if bias.ndim == 1 or (bias == bias[0]).all():
        return np.atleast_2d(bias)[0], None
    timesteps = len(bias)
    if timesteps > TIMESTEPS_MAX:
        raise LoweringError(
            f"{name}: its bias differs between {timesteps} timesteps, limit is {TIMESTEPS_MAX}; use fewer timesteps, "
            "or no gains"
        )
    fired = spikes(timesteps)
    weight = np.zeros((bias.shape[1], timesteps - 1))
    for t in range(1, timesteps):
        weight[:, t - 1] = bias[t] - bias[0] - weight[:, : t - 1] @ fired[t, : t - 1]
    return bias[0], weight[:, :, None, None]
