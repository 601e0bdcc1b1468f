"""The layer graph that grows while a NIR graph is walked."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from spikegen.errors import ExchangeError
from spikegen.exporters.nir.structure import NirNode
from spikegen.lowering.graph import AddOp, ConvOp, FloatArray, NeuronOp, Op, Shape
from spikegen.program.ir import NEURONS_MAX

AnyOp = TypeVar("AnyOp", bound=Op)

# What one graph may ask for: a hostile file of a few bytes could declare paddings and layers that take days.
GRAPH_NEURONS_MAX = NEURONS_MAX
GRAPH_MACS_MAX = 1 << 38
FLATTENED_MAX = 4096  # neurons of a value that must be brought into one column; the kernel has their square
_NAME_MAX = 48


@dataclass(frozen=True, eq=False)
class Wire:
    """A value of the NIR graph.

    Attributes:
        op: the operation that makes it, of shape (C, H, W).
        shape: in NIR, without batch and time: (C, H, W), (C, L) or (N,). Elements are in the same order in both, so a
            Flatten changes this shape only.
        shared: more than one node reads it.
    """

    op: Op
    shape: tuple[int, ...]
    shared: bool = False


@dataclass(eq=False)
class Builder:
    """Operations in topological order, and what the walk wants to tell.

    Attributes:
        timesteps: T.
        dt: seconds per timestep.
        at_threshold: neurons fire when they reach their threshold, not only above it.
        spikes: the input is spikes.
        ops: by name.
        decays: neuron operation -> its real decays per timestep (current, membrane), which ``du`` and ``dv`` round.
        told: what the user should know -> the nodes that it is about.
    """

    timesteps: int
    dt: float
    at_threshold: bool = False
    spikes: bool = False
    ops: dict[str, Op] = field(default_factory=dict)
    decays: dict[str, tuple[float, float]] = field(default_factory=dict)
    told: dict[str, list[str]] = field(default_factory=dict)
    neurons: int = 0
    macs: int = 0

    def warn(self, text: str, node: str) -> None:
        """Tell the user ``text`` about a node."""
        self.told.setdefault(text, []).append(node)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Each text with its nodes."""
        return tuple(f"{', '.join(nodes)}: {text}" for text, nodes in self.told.items())

    def name(self, node: str) -> str:
        """A free name for an operation of a NIR node, of the characters that a Program takes."""
        plain = re.sub(r"[^A-Za-z0-9_.\[\]-]", "_", node)[-_NAME_MAX:] or "_"
        free, number = plain, 1
        while free in self.ops:
            number += 1
            free = f"{plain}_{number}"
        return free

    def add(self, op: AnyOp) -> AnyOp:
        """``op``, after the sizes of the graph were checked; it takes the place of one of its name."""
        self.neurons += math.prod(op.shape) * self.timesteps
        if isinstance(op, ConvOp):
            self.macs += math.prod(op.shape) * math.prod(op.weight.shape[1:]) * self.timesteps
        if self.neurons > GRAPH_NEURONS_MAX or self.macs > GRAPH_MACS_MAX:
            raise ExchangeError(
                f"{op.name}: with it the graph has {self.neurons} values and {self.macs} multiply-accumulates over "
                f"{self.timesteps} timesteps, the limits are {GRAPH_NEURONS_MAX} and {GRAPH_MACS_MAX}"
            )
        self.ops[op.name] = op
        return op

    def column(self, wire: Wire, node: str) -> Wire:
        """The value as one column (N, 1, 1), by an exact convolution if it is not one yet."""
        channels, height, width = wire.op.shape
        if (height, width) == (1, 1):
            return wire
        size = math.prod(wire.op.shape)
        if size > FLATTENED_MAX:
            raise ExchangeError(
                f"{node}: it needs its {size} inputs in one column, limit is {FLATTENED_MAX}; put a Linear between"
            )
        weight = np.eye(size).reshape(size, channels, height, width)
        conv = ConvOp(self.name(f"{node}.flat"), (wire.op.name,), (size, 1, 1), weight, np.zeros(size))
        return Wire(self.add(conv), wire.shape)

    def sum(self, wires: Sequence[Wire], node: str) -> Wire:
        """Several edges into ``node`` add up.

        Raises:
            ExchangeError: they have different shapes.
        """
        if len({wire.shape for wire in wires}) > 1:
            shapes = ", ".join(f"{wire.op.name} {wire.shape}" for wire in wires)
            raise ExchangeError(f"{node}: its inputs have different shapes ({shapes}); only equal ones add up")
        if len({wire.op.shape for wire in wires}) > 1:
            wires = [self.column(wire, node) for wire in wires]
        total = wires[0]
        for wire in wires[1:]:
            names = (total.op.name, wire.op.name)
            total = Wire(self.add(AddOp(self.name(f"{node}.sum"), names, total.op.shape)), total.shape)
        return total

    def fire(self, wire: Wire, neuron: NeuronOp, decays: tuple[float, float]) -> Wire:
        """A population on ``wire``."""
        self.decays[neuron.name] = decays
        return dataclasses.replace(wire, op=self.add(neuron))


def program_shape(shape: tuple[int, ...]) -> Shape:
    """(C, H, W) for a NIR shape: (N,) is (N, 1, 1), (C, L) is (C, 1, L).

    Raises:
        ExchangeError: it has another number of axes, or an axis without elements.
    """
    if not 1 <= len(shape) <= 3 or min(shape) < 1 or math.prod(shape) > NEURONS_MAX:
        raise ExchangeError(
            f"a value has shape {shape}; (C, H, W), (C, L) and (N,) without batch and time are supported, of at most "
            f"{NEURONS_MAX} elements"
        )
    if len(shape) == 2:
        return (shape[0], 1, shape[1])
    padded = (*shape, 1, 1)
    return (padded[0], padded[1], padded[2])


def array(node: NirNode, key: str) -> FloatArray:
    """A parameter as float64."""
    value = node.fields[key]
    if isinstance(value, str):
        raise ExchangeError(f"{node.name}: {key} is the text {value!r}, expected numbers")
    return value.astype(np.float64)


def integers(node: NirNode, key: str, count: int) -> tuple[int, ...]:
    """A parameter as ``count`` whole numbers; one number is taken for every axis."""
    values = array(node, key)
    if values.size not in {1, count} or values.ndim > 1 or (values != np.floor(values)).any():
        raise ExchangeError(f"{node.name}: {key} is {_shown(values)}, expected {count} whole numbers")
    if np.abs(values).max() > NEURONS_MAX:
        raise ExchangeError(f"{node.name}: {key} is {_shown(values)}, limit is {NEURONS_MAX}")
    return tuple(int(value) for value in np.broadcast_to(values.reshape(-1), count))


def _shown(values: npt.NDArray[np.float64]) -> str:
    return str(values.tolist()) if values.size <= 4 else f"an array of shape {values.shape}"
