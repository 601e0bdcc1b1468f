"""Pass: a gain per timestep (TSM) becomes what stays and what changes.

``g[t] W = c W + (g[t] - c) W``: a projection without gains and a second one from the same source whose payloads are the
small ``g[t] - c``. Gains that are learnt lie within a few percent of one another. As one payload they would need 5 bits
and more, which the state of the neuron does not leave beside the weights, or would be rounded to one number: an error
that all spikes of a timestep share, and that no average takes back. Of the second projection, a payload of 1 or 2 bits
is near enough.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from spikegen.lowering.blocks import materialised
from spikegen.lowering.currents import weight_of
from spikegen.lowering.graph import FloatArray
from spikegen.lowering.network import FloatNetwork, FloatProjection
from spikegen.lowering.payloads import payload


def split_gains(network: FloatNetwork, payload_bits: int) -> FloatNetwork:
    """``network`` with every projection split whose gains are of one sign and no integers of ``payload_bits`` bits."""
    shapes = network.shapes()
    parts: list[FloatProjection] = []
    for projection in network.projections:
        gains = projection.kernel.gains
        if gains is None or gains.min() * gains.max() <= 0 or payload(gains, payload_bits).error == 0.0:
            parts.append(projection)
        else:
            parts += _parts(projection, gains, shapes[projection.source][0])
    return dataclasses.replace(network, projections=tuple(parts))


def _parts(projection: FloatProjection, gains: FloatArray, channels: int) -> Iterator[FloatProjection]:
    kernel = materialised(projection.kernel, channels)
    steady = (gains.max() + gains.min()) / 2
    rest = gains - steady
    largest = np.abs(rest).max()
    yield dataclasses.replace(
        projection, kernel=dataclasses.replace(kernel, weight=weight_of(kernel) * steady, gains=None)
    )
    yield dataclasses.replace(
        projection,
        name=f"{projection.name}:gains",
        kernel=dataclasses.replace(kernel, weight=weight_of(kernel) * largest, gains=rest / largest),
        share=float(np.linalg.norm(rest) / np.linalg.norm(gains)),
    )
