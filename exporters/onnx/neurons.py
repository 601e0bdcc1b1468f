"""The neurons as ONNX nodes: the equations of :class:`~spikegen.program.Lif`, unrolled or as the body of a Scan."""

from __future__ import annotations

import numpy as np

from spikegen.exporters.onnx.currents import Signal
from spikegen.exporters.onnx.graph import Graph, Port
from spikegen.program import Lif
from spikegen.program.numerics import DECAY_MAX, DECAY_UNITY, STATE_LIMIT, STATE_SHIFT


class Neurons:
    """One population of neurons.

    A population that does not leak only adds and compares, so float32 is exact: currents and states are integers of 24
    bits, and what their sum with the bias has beyond 2^24 is cut off by the clip. Any other takes int64.

    Args:
        population: the neurons.
        dtype: float32 or int64, of the current, the bias and the states.
        risky: whether the current may wrap or the membrane may clip; if not, nothing is there for it.
    """

    def __init__(self, population: Lif, dtype: type, *, risky: bool) -> None:
        self.population, self.dtype, self.risky = population, dtype, risky
        self.keeps_current = population.du < DECAY_MAX

    @staticmethod
    def plain(population: Lif) -> bool:
        """Whether the neurons forget their current and keep their membrane: no product of them is ever needed."""
        return population.du == DECAY_MAX and population.dv == 0

    def step(self, graph: Graph, u: str, v: str, a: str, bias: str) -> tuple[str, str, str]:
        """One timestep.

        Args:
            graph: where to add the nodes.
            u: current state of the timestep before, not used if the population forgets it.
            v: membrane of the timestep before.
            a: synaptic input, times 64.
            bias: bias.

        Returns:
            the new u, v before its reset, and the spikes (bool).
        """
        if self.keeps_current:
            a = graph.add("Add", self._decay(graph, u, self.population.du + 1), a)
        u = self._wrap(graph, a) if self.risky else a
        v = graph.add("Add", self._decay(graph, v, self.population.dv), u)
        v = graph.add("Add", v, bias)
        if self.risky:
            low, high = (graph.constant(end, self.dtype) for end in (1 - STATE_LIMIT, STATE_LIMIT - 1))
            v = graph.add("Clip", v, low, high)
        threshold = graph.constant(self.population.vth << STATE_SHIFT, self.dtype)
        return u, v, graph.add("Greater", v, threshold)

    def reset(self, graph: Graph, v: str, spikes: str) -> str:
        """The membrane after the neurons that fired were reset."""
        return graph.add("Where", spikes, graph.constant(0, self.dtype), v)

    def _decay(self, graph: Graph, state: str, amount: int) -> str:
        """``trunc(state (4096 - amount) / 4096)``; the Div of integers rounds toward zero (ONNX, Div 14)."""
        if amount == 0:
            return state
        scaled = graph.add("Mul", state, graph.constant(DECAY_UNITY - amount, self.dtype))
        return graph.add("Div", scaled, graph.constant(DECAY_UNITY, self.dtype))

    def _wrap(self, graph: Graph, x: str) -> str:
        limit, turn = graph.constant(STATE_LIMIT, self.dtype), graph.constant(2 * STATE_LIMIT, self.dtype)
        x = graph.add("Where", graph.add("Greater", x, limit), graph.add("Sub", x, turn), x)
        lowest = graph.constant(-STATE_LIMIT, self.dtype)
        return graph.add("Where", graph.add("LessOrEqual", x, lowest), graph.add("Add", x, turn), x)

    def unrolled(self, graph: Graph, current: Signal, bias: str, rest: str, timesteps: int) -> str:
        """Spikes bool (T, N, C, H, W) of all timesteps, one after the other.

        Args:
            graph: where to add the nodes.
            current: times 64.
            bias: broadcasts to the state.
            rest: the state before the first timestep, 0 (N, C, H, W).
            timesteps: T.
        """
        if current.steady:
            inputs = [current.value] * timesteps
        else:
            inputs = list(graph.split("Split", current.value, into=[graph.name("a") for _ in range(timesteps)], axis=0))
        u = v = rest
        fired: list[str] = []
        for a in inputs:
            if fired:
                v = self.reset(graph, v, fired[-1])
            u, v, spikes = self.step(graph, u, v, a, bias)
            fired.append(spikes)
        return graph.add("Concat", *fired, axis=0)

    def scanned(self, graph: Graph, current: Signal, bias: str, rest: str, timesteps: int) -> str:
        """The same as one node, whatever T."""
        body = Graph(graph)
        before_u, before_v, a = (graph.name(hint) for hint in ("u", "v", "a"))
        state: tuple[int | str, ...] = ("N", *self.population.shape)
        u, v, spikes = self.step(body, before_u, before_v, a, bias)
        kept, given = ([u], [before_u]) if self.keeps_current else ([], [])
        v = self.reset(body, v, spikes)
        results = [body.add("Identity", value) for value in (*kept, v, spikes)]
        ports = [Port(name, self.dtype, state) for name in (*given, before_v, a)]
        outputs = [Port(name, self.dtype, state) for name in results[:-1]] + [Port(results[-1], np.bool_, state)]
        value = current.value
        if current.steady and timesteps > 1:
            value = graph.add("Concat", *[value] * timesteps, axis=0)
        *_, found = graph.split(
            "Scan",
            *[rest] * len(results[:-1]),
            value,
            into=[graph.name("last") for _ in results[:-1]] + [graph.name("spikes")],
            body=body.proto(f"{self.population.name}:step", ports, outputs),
            num_scan_inputs=1,
        )
        return found
