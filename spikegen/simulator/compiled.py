"""The neurons in machine code: one sweep over the currents of a population, states in the first-level cache."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float32]

_BLOCK = 1024  # neurons whose state is kept at a time


@njit(nogil=True, cache=True)
def integrate(
    charge: Floats,
    bias: Floats,
    spikes: npt.NDArray[np.uint8],
    events: npt.NDArray[np.int32],
    limit: np.float32,
    first: int,
    last: int,
) -> None:
    """Neurons that forget their current and keep their membrane (du = 4095, dv = 0); states negated.

    Args:
        charge: [n, T or 1, neurons].
        bias: [neurons].
        spikes: [n, T, neurons], written.
        events: [neurons], added to.
        limit: minus the threshold.
        first: first neuron to compute.
        last: the neuron after the last one to compute.
    """
    images, given, _ = charge.shape
    zero = np.float32(0.0)
    membrane = np.empty(_BLOCK, dtype=np.float32)
    fired = np.empty(_BLOCK, dtype=np.int32)
    for start in range(first, last, _BLOCK):
        size = min(_BLOCK, last - start)
        constant = bias[start : start + size]
        fired[:size] = 0
        for i in range(images):
            membrane[:size] = zero
            for t in range(spikes.shape[1]):
                a = charge[i, t if given > 1 else 0, start : start + size]
                s = spikes[i, t, start : start + size]
                for j in range(size):
                    n = membrane[j] + a[j] + constant[j]
                    fires = n < limit
                    s[j] = fires
                    fired[j] += fires
                    membrane[j] = zero if fires else n
        for j in range(size):
            events[start + j] += fired[j]


@njit(nogil=True, cache=True)
def leak(
    charge: Floats,
    bias: Floats,
    spikes: npt.NDArray[np.uint8],
    events: npt.NDArray[np.int32],
    limit: np.float32,
    current_kept: float,
    membrane_kept: float,
    first: int,
    last: int,
) -> None:
    """Neurons of any decays; as :func:`integrate`, with the shares of current and membrane that a timestep keeps.

    A state of 23 bits times a share of 12 bits is exact in float64.
    """
    images, given, _ = charge.shape
    zero = np.float32(0.0)
    current = np.empty(_BLOCK, dtype=np.float32)
    membrane = np.empty(_BLOCK, dtype=np.float32)
    fired = np.empty(_BLOCK, dtype=np.int32)
    for start in range(first, last, _BLOCK):
        size = min(_BLOCK, last - start)
        constant = bias[start : start + size]
        fired[:size] = 0
        for i in range(images):
            current[:size] = zero
            membrane[:size] = zero
            for t in range(spikes.shape[1]):
                a = charge[i, t if given > 1 else 0, start : start + size]
                s = spikes[i, t, start : start + size]
                for j in range(size):
                    u = np.float32(np.trunc(np.float64(current[j]) * current_kept)) + a[j]
                    n = np.float32(np.trunc(np.float64(membrane[j]) * membrane_kept)) + u + constant[j]
                    fires = n < limit
                    s[j] = fires
                    fired[j] += fires
                    current[j] = u
                    membrane[j] = zero if fires else n
        for j in range(size):
            events[start + j] += fired[j]
