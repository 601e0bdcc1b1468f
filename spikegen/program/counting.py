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

from spikegen.program.ir import Conv, Node, Program, Projection, Readout, neurons

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


class FanOut:
    """Synapses of the neurons of ``source`` in ``projection``, without a number per neuron.

    The synapses of a neuron of a convolution are the taps that reach it, and how often tap (i, j) reaches position
    (y, x) is a product of a vertical and a horizontal number, so an event map is counted by two small matrix products.
    """

    def __init__(self, projection: Projection, source: Node) -> None:
        nonzero = projection.weight != 0
        self.shape = source.shape
        if not isinstance(projection, Conv):  # as a convolution whose kernel is the whole source
            self.per_tap = len(nonzero)
            self.effective_taps = nonzero.sum(axis=0, dtype=np.int64).reshape(-1, 1, 1)
            self.vertical = self.horizontal = np.ones((1, 1), dtype=np.int64)
            self.flat = (self.effective_taps.shape[0], 1, 1)
            return
        out, inputs, *_ = projection.weight.shape
        self.per_tap = out // projection.groups
        # [in channel over all groups, kh, kw]: how many output channels see this tap with a nonzero weight
        effective = nonzero.reshape(projection.groups, self.per_tap, inputs, *nonzero.shape[2:]).sum(axis=1)
        self.effective_taps = effective.astype(np.int64).reshape(-1, *nonzero.shape[2:])
        taps = zip(conv_taps(projection, source), source.shape[1:], strict=True)
        # [kernel taps, source positions]: how many target positions see this source position through this tap
        self.vertical, self.horizontal = (
            np.stack([np.bincount(index[index >= 0], minlength=size) for index in axis]) for axis, size in taps
        )
        self.flat = source.shape

    def synapses(self) -> tuple[IntArray, IntArray]:
        """Synapses of each neuron: stored and effective, int64 [C, H, W] each."""
        reached = self.per_tap * np.outer(self.vertical.sum(axis=0), self.horizontal.sum(axis=0))
        effective = np.swapaxes(self.vertical, 0, 1) @ self.effective_taps @ self.horizontal
        stored = np.broadcast_to(reached, self.flat).astype(np.int64)
        return stored.reshape(self.shape), effective.reshape(self.shape)

    def operations(self, events: IntArray) -> tuple[int, int]:
        """Synaptic operations, stored and effective, of ``events`` int64 [C, H, W]: how often each neuron sent."""
        reached = self.vertical @ events.reshape(self.flat) @ self.horizontal.T  # [C, kh, kw]
        return self.per_tap * int(reached.sum()), int((self.effective_taps * reached).sum())


def fan_out(projection: Projection, source: Node) -> tuple[IntArray, IntArray]:
    """Synapses of each neuron of ``source`` in ``projection``: stored and effective, int64 [C, H, W] each."""
    return FanOut(projection, source).synapses()


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


class Counter:
    """Counts of ``program`` from the events of its neurons.

    Args:
        program: a valid Program.
    """

    def __init__(self, program: Program) -> None:
        self.fans = {
            name: {p.name: FanOut(p, node) for p in program.out_of(name)}
            for name, node in program.nodes.items()
            if not isinstance(node, Readout)
        }

    def counts(self, images: int, events: Mapping[str, IntArray]) -> Counts:
        """Counts of ``images`` evaluations.

        Args:
            images: number of evaluations.
            events: node -> nonzero messages of each neuron over all of them and all timesteps, int64 [C, H, W].
        """
        operations = {
            projection: fan.operations(events[name])
            for name, fans in self.fans.items()
            for projection, fan in fans.items()
        }
        return Counts(
            images,
            {name: int(events[name].sum()) for name in self.fans},
            {projection: stored for projection, (stored, _) in operations.items()},
            {projection: effective for projection, (_, effective) in operations.items()},
        )
