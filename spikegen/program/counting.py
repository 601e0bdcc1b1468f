"""Exact operation counts from declared message types; the definitions that every target shares.

An *event* is a nonzero message of a node at one timestep. A *synaptic operation* is one (event, synapse) pair: an event
of a neuron fetches every synapse of that neuron, so a projection costs ``sum over events of the true fan-out``, where
taps that fall outside the target (borders, strides) have no synapse. *Stored* counts the synapses whose weight is zero,
*effective* does not (NeuroBench's "Dense" and "Effective" synaptic operations, restricted to events).

A nonzero message is an event whatever payload a projection with gains makes of it, 0 among them: gains change the kind
of the operations (graded), never their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spikegen.program.ir import Conv, Node, Program, Projection, neurons

IntArray = npt.NDArray[np.int64]


def conv_taps(projection: Conv, source: Node) -> tuple[list[IntArray], list[IntArray]]:
    """Geometry of ``projection`` per axis: for each kernel tap, the source index of each output position (-1 outside).

    Returns:
        two lists (vertical, horizontal) of one int64 array [output size before the shuffle] per kernel tap.
    """
    taps = []
    for axis in (0, 1):
        size, kernel = source.shape[1 + axis], projection.weight.shape[2 + axis]
        stride, padding, dilation = projection.stride[axis], projection.padding[axis], projection.dilation[axis]
        outputs = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        found = []
        for tap in range(kernel):
            index = np.arange(outputs) * stride + tap * dilation - padding
            found.append(np.where((index >= 0) & (index < size), index, -1))
        taps.append(found)
    return taps[0], taps[1]


def fan_out(projection: Projection, source: Node) -> tuple[IntArray, IntArray]:
    """Synapses of each neuron of ``source`` in ``projection``: stored and effective, int64 [C, H, W] each."""
    nonzero = projection.weight != 0
    if not isinstance(projection, Conv):
        stored = np.full(source.shape, projection.weight.shape[0], dtype=np.int64)
        return stored, nonzero.sum(axis=0, dtype=np.int64).reshape(source.shape)
    out, inputs, *_ = projection.weight.shape
    per_group = out // projection.groups
    # [in channel over all groups, kh, kw]: how many output channels see this tap with a nonzero weight
    effective_taps = nonzero.reshape(projection.groups, per_group, inputs, *nonzero.shape[2:]).sum(
        axis=1, dtype=np.int64
    )
    effective_taps = effective_taps.reshape(-1, *nonzero.shape[2:])
    rows, columns = conv_taps(projection, source)
    stored, effective = np.zeros(source.shape, dtype=np.int64), np.zeros(source.shape, dtype=np.int64)
    for i, row in enumerate(rows):
        y = np.bincount(row[row >= 0], minlength=source.shape[1])
        for j, column in enumerate(columns):
            x = np.bincount(column[column >= 0], minlength=source.shape[2])
            reached = y[:, None] * x[None, :]
            stored += per_group * reached
            effective += effective_taps[:, i, j, None, None] * reached
    return stored, effective


def tap_rows(program: Program, name: str) -> IntArray:
    """What to multiply the 0/1 event map of node ``name`` with to count it: int64 [1 + 2 P, neurons].

    Row 0 counts events; rows 1 + 2 p and 2 + 2 p count the stored and effective operations of the node's p-th outgoing
    projection.
    """
    node = program.nodes[name]
    rows = [np.ones(neurons(node), dtype=np.int64)]
    for projection in program.out_of(name):
        rows += [side.ravel() for side in fan_out(projection, node)]
    return np.stack(rows)


@dataclass(frozen=True)
class Counts:
    """Counts of one or more evaluations.

    Attributes:
        images: number of network evaluations counted (images x diffusion steps).
        events: node -> nonzero messages.
        stored: projection -> synaptic operations, zero weights included.
        effective: projection -> synaptic operations through nonzero weights.
    """

    images: int
    events: Mapping[str, int]
    stored: Mapping[str, int]
    effective: Mapping[str, int]

    @staticmethod
    def from_taps(program: Program, images: int, taps: Mapping[str, IntArray]) -> Counts:
        """From ``tap_rows(program, name) @ event_map`` of every node, int64 [1 + 2 P] each."""
        events, stored, effective = {}, {}, {}
        for name, values in taps.items():
            events[name] = int(values[0])
            for index, projection in enumerate(program.out_of(name)):
                stored[projection.name] = int(values[1 + 2 * index])
                effective[projection.name] = int(values[2 + 2 * index])
        return Counts(images, events, stored, effective)

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.images + other.images,
            {k: v + other.events[k] for k, v in self.events.items()},
            {k: v + other.stored[k] for k, v in self.stored.items()},
            {k: v + other.effective[k] for k, v in self.effective.items()},
        )
