"""The summed current of a population as ONNX nodes.

A Conv or MatMul of float32 is exact, whatever the order of its sums, while ``sum(|w| |m|)`` stays below 2^24. Messages
for which that cannot be proven are cut into digits for which it can.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from spikegen.errors import ConfigError
from spikegen.exporters.onnx.graph import Graph
from spikegen.program import Conv, Dense, Lif, Program, Projection
from spikegen.program.bounds import Interval, message_interval
from spikegen.program.ir import Population, Shape
from spikegen.program.numerics import STATE_SHIFT

EXACT_FLOAT32 = 1 << 24  # every integer up to it is a float32
_LARGEST = 1 << 52  # as in the simulator: 2^11 currents of this size add up within int64


class Signal(NamedTuple):
    """Messages or currents: a value of shape (T, N, C, H, W), or (1, N, C, H, W) if it is ``steady``.

    ``dtype`` is float32, or int64 where float32 may not hold the numbers.
    """

    value: str
    dtype: type
    steady: bool


def reach(projection: Projection, source: Interval) -> tuple[int, int]:
    """What no partial sum of ``projection`` can exceed, in mantissas, without gains; and the largest message."""
    message = max(1, -int(source[0].min()), int(source[1].max()))
    synapses = np.abs(projection.weight.astype(np.int64)).reshape(len(projection.weight), -1).sum(axis=1)
    return int(synapses.max()) * message, message


def largest_gain(projection: Projection) -> int:
    """Largest magnitude of the gains, 1 without any."""
    return int(np.abs(projection.gains.astype(np.int64)).max(initial=1))


class Currents:
    """Adds the nodes of currents to a graph.

    Args:
        graph: where to.
        program: a valid Program.
        bounds: its :func:`~spikegen.program.current_bounds`.
    """

    def __init__(self, graph: Graph, program: Program, bounds: dict[str, Interval]) -> None:
        self.graph, self.program = graph, program
        self.messages = {n.name: message_interval(n, bounds.get(n.name)) for n in program.nodes.values()}

    def fits_float32(self, population: Population) -> bool:
        """Whether float32 provably holds every partial sum of the current of ``population``."""
        into = self.program.into(population.name)
        smallest = min((p.exponent for p in into), default=0)
        return self._largest(population) >> smallest < EXACT_FLOAT32

    def _largest(self, population: Population) -> int:
        return sum(
            (reach(p, self.messages[p.source])[0] * largest_gain(p)) << p.exponent
            for p in self.program.into(population.name)
        )

    def total(self, population: Population, sent: dict[str, Signal], dtype: type) -> Signal | None:
        """The summed current, times 64 (the unit of the state) for a Lif; None if nothing leads into it.

        Args:
            population: any population.
            sent: the messages of the nodes before it.
            dtype: float32 if :meth:`fits_float32`, else int64.

        Raises:
            ConfigError: its current could leave int64, or has more synapses than a float32 can add up.
        """
        if self._largest(population) >= _LARGEST:
            raise ConfigError(
                f"{population.name}: its current could reach {self._largest(population)}, an ONNX model holds "
                f"{_LARGEST - 1}; use smaller weights, exponents or messages"
            )
        shift = STATE_SHIFT if isinstance(population, Lif) else 0
        found = None
        for projection in self.program.into(population.name):
            added = self._projection(projection, population.shape, sent[projection.source], shift, dtype)
            if found is None:
                found = added
            else:
                value = self.graph.add("Add", found.value, added.value)
                found = Signal(value, dtype, found.steady and added.steady)
        return found

    def _projection(self, projection: Projection, target: Shape, sent: Signal, shift: int, dtype: type) -> Signal:
        graph, steady = self.graph, sent.steady
        frames = graph.reshape(sent.value, (-1, *self.program.nodes[projection.source].shape))
        bits, digits = self._digits(projection, frames)
        total = ""
        for index, digit in enumerate(digits):
            part = self._delivered(projection, digit, projection.exponent + shift)
            if dtype is np.int64:
                part = graph.cast(part, np.int64)
            if index:
                part = graph.add("Mul", part, graph.constant(1 << bits * index, dtype))
            total = graph.add("Add", total, part) if total else part
        timesteps = 1 if steady else self.program.timesteps
        value = graph.reshape(total, (timesteps, -1, *target))
        if projection.gains.size:
            gains = projection.gains.reshape(-1, 1, 1, 1, 1)
            value, steady = graph.add("Mul", value, graph.constant(gains, dtype)), self.program.timesteps == 1
        return Signal(value, dtype, steady)

    def _digits(self, projection: Projection, frames: str) -> tuple[int, list[str]]:
        """``frames`` as ``sum(digits[i] << bits * i)``, each small enough for float32; itself where it is."""
        total, message = reach(projection, self.messages[projection.source])
        synapses = total // message
        bits = 24 - synapses.bit_length()
        if bits < 1:
            raise ConfigError(
                f"{projection.name}: the weights of a neuron sum up to {synapses}, an ONNX model takes "
                f"{EXACT_FLOAT32 // 2 - 1}; spread its synapses over several projections"
            )
        base, digits = 1 << bits, []
        while synapses * message >= EXACT_FLOAT32:
            high = self.graph.add("Floor", self.graph.add("Mul", frames, self.graph.constant(1 / base, np.float32)))
            whole = self.graph.add("Mul", high, self.graph.constant(base, np.float32))
            digits.append(self.graph.add("Sub", frames, whole))
            frames, message = high, -(-message // base)
        return bits, [*digits, frames]

    def _delivered(self, projection: Projection, frames: str, shift: int) -> str:
        """``sum(w m) << shift`` of float32 frames (B, C, H, W): exact, for a power of two changes exponents only."""
        graph = self.graph
        if isinstance(projection, Conv) and projection.is_copy:
            return graph.add("Mul", frames, graph.constant(int(projection.weight.flat[0]) << shift, np.float32))
        weight = projection.weight.T if isinstance(projection, Dense) else projection.weight
        factors = graph.cast(graph.constant(weight, np.int8), np.float32)
        factors = graph.add("Mul", factors, graph.constant(1 << shift, np.float32))
        if isinstance(projection, Dense):
            return graph.add("MatMul", graph.add("Flatten", frames, axis=1), factors)
        found = _convolved(graph, projection, frames, factors)
        if projection.shuffle > 1:
            found = graph.add("DepthToSpace", found, blocksize=projection.shuffle, mode="CRD")
        return found


def _convolved(graph: Graph, projection: Conv, frames: str, weight: str) -> str:
    return graph.add(
        "Conv",
        frames,
        weight,
        kernel_shape=list(projection.weight.shape[2:]),
        strides=list(projection.stride),
        pads=[*projection.padding, *projection.padding],
        dilations=list(projection.dilation),
        group=projection.groups,
    )
