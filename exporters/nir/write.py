"""A Program as a NIR graph: real weights, thresholds and time constants; what NIR cannot say is refused or told.

Units: the real value of a message is the message times that of its node: ``scale`` of the input and of a relay, 1 for a
spike. A current is worth ``scale`` of its population, the membrane is counted in currents, so a weight in the graph is
``(mantissa << exponent) * scale / value of the source's message`` and a threshold ``vth * scale``.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import nir
import numpy as np
import numpy.typing as npt

from spikegen.errors import ConfigError, ExchangeError
from spikegen.exporters.lossy import LossyFormat
from spikegen.exporters.nir.losses import losses, refusals
from spikegen.exporters.nir.shapes import is_flat
from spikegen.lowering.graph import FloatArray
from spikegen.lowering.kernels import dense_weight
from spikegen.program import Conv, Dense, Input, Lif, Pipeline, Program, Projection, Readout, Relay, validate
from spikegen.program.ir import Node, Population
from spikegen.program.numerics import DECAY_MAX, DECAY_UNITY, STATE_SHIFT

NIR = LossyFormat("a NIR file", ".nir", "what NIR cannot say", refusals, losses)


def write_nir(pipeline: Pipeline, output: str | os.PathLike[str], dt: float = 1e-4) -> tuple[list[Path], list[str]]:
    """Write every network of ``pipeline`` as NAME.nir: see :meth:`spikegen.exporters.lossy.LossyFormat.write`.

    ``dt`` is the timestep in seconds, > 0 and finite.
    """
    return NIR.write(pipeline, output, lambda program: _content(nir_graph(program, dt)))


def nir_graph(program: Program, dt: float = 1e-4) -> nir.NIRGraph:
    """The NIR graph of ``program``, its types not checked (nir 1.0.8 takes the height of a kernel for its width too).

    Args:
        program: a valid Program.
        dt: seconds per timestep, > 0: a neuron loses ``dt / tau`` per timestep (forward Euler).

    Raises:
        ExchangeError: every reason why its meaning would change.
        ConfigError: dt is not > 0 and finite.
    """
    if not 0.0 < dt < math.inf:
        raise ConfigError(f"dt is {dt}; it must be > 0 and finite")
    validate(program)
    NIR.refuse(refusals(program))
    return _Writer(program, dt).graph()


def _content(graph: nir.NIRGraph) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.nir"
        nir.write(path, graph)
        return path.read_bytes()


class _Writer:
    """Nodes and edges of one graph."""

    def __init__(self, program: Program, dt: float) -> None:
        self.program, self.dt = program, dt
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.keys = {name: self._key(name) for name in program.nodes}
        self.sent = dict(self.keys)  # node -> key of its messages, behind a Delay if it has one
        self.lists: dict[str, str] = {}  # key of values -> key of its Flatten

    def graph(self) -> nir.NIRGraph:
        port = self.program.input
        self.nodes[self.keys[port.name]] = nir.Input(input_type={"input": self._shape(port.name)})
        for population in self.program.populations:
            into = self.program.into(population.name)
            bias = self._bias(population)
            for index, projection in enumerate(into):
                self._projection(projection, bias if index == 0 else np.zeros_like(bias))
            self.nodes[self.keys[population.name]] = self._population(population)
            if isinstance(population, Lif) and population.delays.any():
                self._delay(population)
        return nir.NIRGraph(self.nodes, self.edges, metadata={}, type_check=False)

    def _key(self, name: str) -> str:
        """A free key: frameworks make module names of them, which have no dots."""
        plain = re.sub(r"\W", "_", name)
        taken = {*self.nodes, *getattr(self, "keys", {}).values()}
        free, number = plain, 1
        while free in taken:
            number += 1
            free = f"{plain}_{number}"
        return free

    def _shape(self, name: str) -> npt.NDArray[Any]:
        shape = self.program.nodes[name].shape
        return np.array([math.prod(shape)] if is_flat(self.program, name) else shape)

    def _unit(self, node: Node) -> float:
        """Real value of a message of 1."""
        return node.scale if isinstance(node, Input | Relay) else 1.0

    def _bias(self, population: Population) -> FloatArray:
        """Real bias per channel and timestep, float64 [C], in currents."""
        if isinstance(population, Lif):
            return np.zeros(population.shape[0]) if population.du != DECAY_MAX else self._membrane_bias(population)
        if isinstance(population, Readout):
            return np.array(population.bias[0])
        return np.zeros(population.shape[0])

    def _membrane_bias(self, population: Lif) -> FloatArray:
        """What is added to the membrane at every timestep, float64 [C], in currents."""
        mantissa = self.program.bias_mant(population, 0).astype(np.float64)
        return mantissa * 2.0 ** (population.bias_exp - STATE_SHIFT) * population.scale

    def _projection(self, projection: Projection, bias: FloatArray) -> None:
        source, target = self.program.nodes[projection.source], self.program.nodes[projection.target]
        gain = float(projection.gains[0]) if projection.gains.size else 1.0
        value = gain * 2.0**projection.exponent * target.scale / self._unit(source)
        weight = projection.weight.astype(np.float64) * value
        start, end = self.sent[source.name], self.keys[target.name]
        if isinstance(projection, Conv) and _is_scale(projection) and not bias.any():
            factors = np.broadcast_to(weight.reshape(-1, 1, 1), target.shape)
            if (factors == 1.0).all() and (start, end) not in self.edges:
                self.edges.append((start, end))
                return
            made: nir.NIRNode = nir.Scale(factors.reshape(self._shape(target.name)))
        elif is_flat(self.program, target.name):
            start = self._flattened(start, source)
            matrix = self._matrix(projection, weight, source)
            each = np.repeat(bias, math.prod(target.shape[1:]))
            made = nir.Affine(matrix, each) if bias.any() else nir.Linear(matrix)
        else:
            conv = projection
            if isinstance(conv, Dense):  # refused before: a target of a Dense is flat
                raise ExchangeError(f"{conv.name}: a Dense into an image")
            made = nir.Conv2d(
                source.shape[1:], dense_weight(weight, conv.groups), conv.stride, conv.padding, conv.dilation, 1, bias
            )
        key = self._key(f"{start}_to_{end}")
        self.nodes[key] = made
        self.edges += [(start, key), (key, end)]

    def _delay(self, population: Lif) -> None:
        """A Delay of the spikes of ``population``, in seconds."""
        neurons = self.keys[population.name]
        key = self.sent[population.name] = self._key(f"{neurons}_delay")
        delays = population.delays.reshape(self._shape(population.name))
        self.nodes[key] = nir.Delay(delays * self.dt)
        self.edges.append((neurons, key))

    def _matrix(self, projection: Projection, weight: FloatArray, source: Node) -> FloatArray:
        """The weight as (out, in)."""
        if isinstance(projection, Conv):
            weight = dense_weight(weight, projection.groups)
        return np.ascontiguousarray(weight.reshape(len(weight), math.prod(source.shape)))

    def _flattened(self, start: str, source: Node) -> str:
        """The key of the values of ``source`` as a list."""
        if is_flat(self.program, source.name):
            return start
        if start not in self.lists:
            key = self.lists[start] = self._key(f"{start}_flat")
            self.nodes[key] = nir.Flatten(self._shape(source.name), start_dim=0, end_dim=-1)
            self.edges.append((start, key))
        return self.lists[start]

    def _population(self, population: Population) -> nir.NIRNode:
        shape = self._shape(population.name)

        def full(value: float) -> npt.NDArray[Any]:
            return np.full(shape, value)

        if isinstance(population, Readout):
            return nir.Output(output_type={"output": shape})
        if isinstance(population, Relay):
            return nir.Scale(full(1.0))
        threshold, zero = full(population.vth * population.scale), full(0.0)
        if population.dv == 0:
            return nir.IF(full(1.0 / self.dt), threshold, zero)
        tau = self.dt * DECAY_UNITY / population.dv
        if population.du == DECAY_MAX:
            return nir.LIF(full(tau), full(tau / self.dt), zero, threshold, zero)
        tau_syn = self.dt * DECAY_UNITY / (population.du + 1)
        # forward Euler adds dt / tau_mem of v_leak to the membrane, past the decay of the current
        rest = self._membrane_bias(population)[:, None, None] * tau / self.dt
        leak = np.broadcast_to(rest, population.shape).reshape(shape).copy()
        return nir.CubaLIF(
            full(tau_syn), full(tau), full(tau / self.dt), leak, threshold, zero, w_in=full(tau_syn / self.dt)
        )


def _is_scale(conv: Conv) -> bool:
    """Whether every channel goes to the same channel with a factor."""
    plain = (conv.stride, conv.padding, conv.shuffle) == ((1, 1), (0, 0), 1)
    return plain and conv.weight.shape == (conv.groups, 1, 1, 1)
