"""The host's part behind the network: from the currents of a readout to real values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spikegen.program import Readout
from spikegen.runtime.tail import swish_tail


def host_readout(readout: Readout, currents: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """``y = sum_t weights[t] * tail(scale * a[t] + bias[t])``, summed over t in ascending order.

    Every operation is one elementwise float64 operation, rounded by itself, in an order that neither the number of
    images nor the target changes, so the result is the same bit for bit.

    Args:
        readout: the readout population, with or without a tail.
        currents: int32 [N, T, C, H, W], its current at every timestep.

    Returns:
        float64 [N, O, H, W], (O, H, W) being ``readout.output_shape``.
    """
    total = np.zeros((len(currents), *readout.output_shape), dtype=np.float64)
    for t, weight in enumerate(readout.weights):
        value = currents[:, t].astype(np.float64)
        value *= readout.scale
        value += readout.bias[t][:, None, None]
        if readout.tail is not None:
            value = swish_tail(readout.tail, t, value)
        value *= weight
        total += value
    return total
