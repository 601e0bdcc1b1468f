"""Pass: compose every linear path between two populations into one kernel, or break it with a Relay.

A value of the layer graph is a list of channel *blocks*; a block is a sum of kernels applied to populations, plus a
bias. Concatenation only lists blocks: a neuron on a concatenation becomes one population per block, a convolution
splits its kernel along the input channels. Two neurons of equal parameters on one block fire alike and become one
population, which is what makes the skips of a U-Net cost a projection only.

A real-valued stream that several layers read (the residual stream) can be composed, so that every reader receives the
spikes of every contributor, or be computed once in a Relay, whose graded messages the readers receive.
:func:`compose_linear` tries each stream both ways and keeps what costs fewer operations. Neurons and sums read a relay
as it is; a convolution of a stream is always composed where that is exact, because graded messages times 8-bit weights
leave the 24-bit state no room.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from spikegen.errors import LoweringError
from spikegen.lowering import clock, kernels
from spikegen.lowering.blocks import IDENTITY, Algebra, Block, Made, materialised, resplit
from spikegen.lowering.graph import (
    AddOp,
    ConcatOp,
    ConditionOp,
    ConvOp,
    FloatArray,
    InputOp,
    LayerGraph,
    NeuronOp,
    Op,
    ReadoutOp,
    Shape,
    UpsampleOp,
)
from spikegen.lowering.kernels import Kernel
from spikegen.lowering.network import FloatNetwork, FloatPopulation, FloatProjection, zero_bias
from spikegen.program.numerics import DECAY_MAX


@dataclass(frozen=True)
class Stream:
    """One decision about a real-valued value that several layers read.

    Attributes:
        name: the operation that makes the value.
        readers: how many operations read it.
        composed_operations, relay_operations: estimated operations of one evaluation of the whole network with each
            choice (all earlier streams as decided). NaN where a Relay was the only exact way.
        relay: True if a Relay was chosen.
        fits: False if a Relay would have left the weights into it too few units.
    """

    name: str
    readers: int
    composed_operations: float
    relay_operations: float
    relay: bool
    fits: bool = True


class _InexactError(Exception):
    """Composing is not exact here; a Relay at value ``name`` is needed."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)


STREAMS = ("cheapest", "composed", "relayed")


def compose_linear(
    graph: LayerGraph,
    rates: Mapping[str, float],
    policy: str = "cheapest",
    fits: Callable[[FloatNetwork], bool] = lambda _: True,
) -> tuple[FloatNetwork, list[Stream]]:
    """Populations and composed kernels of ``graph`` (without norms), and the decision for each stream.

    Args:
        graph: folded layer graph.
        rates: neuron layer -> mean spikes per neuron and timestep, measured on calibration data.
        policy: one of :data:`STREAMS`: each stream as it costs fewer operations, or all of them composed (but where
            only a relay is exact), or all relayed.
        fits: whether the relays of a network are fine enough to be chosen because they cost less.

    Raises:
        LoweringError: a path that neither composing nor a Relay can express exactly, or an unknown policy.
    """
    if policy not in STREAMS:
        raise LoweringError(f"stream policy {policy!r} is unknown; choose one of {', '.join(STREAMS)}")
    relays: set[str] = set()
    streams: list[Stream] = []
    made: Made = {}

    def build(chosen: set[str]) -> FloatNetwork:
        try:
            return _Composer(graph, chosen, made).network()
        except _InexactError as inexact:
            name = inexact.name
            if name in chosen:
                raise LoweringError(
                    f"{name}: a value with a bias feeds a layer that reads across the border or has other taps in "
                    "each phase; neither a composed kernel nor a relay is exact there; put a neuron between them or "
                    "drop the bias"
                ) from inexact
        relays.add(name)
        streams.append(Stream(name, len(graph.consumers(name)), math.nan, math.nan, relay=True))
        return build(chosen | {name})

    best = build(set(relays))
    cost = best.operations(rates)
    for op in graph.ops:
        readers = graph.consumers(op.name)
        if op.name in relays or len(readers) < 2 or not isinstance(op, AddOp | ConvOp | ConditionOp | UpsampleOp):
            continue
        known = set(made)
        candidate = build(relays | {op.name})
        relay_cost = candidate.operations(rates)
        room = fits(candidate)
        relay = policy == "relayed" or (policy == "cheapest" and relay_cost < cost and room)
        streams.append(Stream(op.name, len(readers), cost, relay_cost, relay, room))
        if relay:
            relays.add(op.name)
            best, cost = candidate, relay_cost
        else:
            for key in made.keys() - known:
                del made[key]
    return best, streams


class _Composer:
    """One walk over the layer graph with a fixed choice of relays."""

    def __init__(self, graph: LayerGraph, relays: set[str], made: Made) -> None:
        self.graph = graph
        self.relays = relays
        self.algebra = Algebra(made)
        self.values: dict[str, list[Block]] = {}
        self.populations: list[FloatPopulation] = []
        self.projections: list[FloatProjection] = []
        self.clocks: dict[str, FloatPopulation] = {}
        self.neurons: dict[tuple[int, float, int, int, bytes, float | None, bytes], Block] = {}
        self.keep: list[Block] = []  # blocks whose id() is a key of `neurons` must stay alive

    def network(self) -> FloatNetwork:
        handlers: dict[type[Op], Any] = {
            ConvOp: self._conv,
            AddOp: self._add,
            ConditionOp: self._condition,
            ConcatOp: lambda op: [block for name in op.inputs for block in self.values[name]],
            UpsampleOp: self._upsample,
            NeuronOp: self._neuron,
            ReadoutOp: self._readout,
        }
        for op in self.graph.ops:
            if isinstance(op, InputOp):
                identity = ((op.name, IDENTITY),)
                self.values[op.name] = [Block(op.shape, identity, identity, zero_bias(op.shape))]
                continue
            blocks = handlers[type(op)](op)
            if op.name in self.relays:
                blocks = [self._relay(op.name, index, block) for index, block in enumerate(blocks)]
            self.values[op.name] = blocks
        return self._pruned(
            FloatNetwork(
                self.graph.timesteps,
                self.graph.steps,
                self.graph.ops[0].shape,
                (*self.clocks.values(), *self.populations),
                tuple(self.projections),
            )
        )

    def _conv(self, op: ConvOp) -> list[Block]:
        blocks = self.values[op.inputs[0]]
        groups = op.groups
        weight = op.weight
        if len(blocks) > 1:
            weight, groups = kernels.dense_weight(weight, groups), 1
        result = Block(op.shape, (), (), op.bias)
        start = 0
        for block in blocks:
            part = weight if len(blocks) == 1 else weight[:, start : start + block.shape[0]]
            terms = self.algebra.convolved(block.direct, op, part, groups, start) or self.algebra.convolved(
                block.terms, op, part, groups, start
            )
            if terms is None:
                raise _InexactError(op.inputs[0])
            bias, table = block.bias, block.table
            if bias.any() or table is not None:
                if op.padding != (0, 0) or op.shuffle != 1:  # the padding is 0, not the bias; phases have other taps
                    raise _InexactError(op.inputs[0])
                mix = kernels.dense_weight(part, groups).sum(axis=(2, 3))
                bias, table = bias @ mix.T, None if table is None else table @ mix.T
                if op.gains is not None:
                    if table is not None:
                        raise LoweringError(
                            f"{op.name}: its gain differs between timesteps and scales a value that depends on the "
                            "diffusion step; a bias table is the same at every timestep; put the gain before the "
                            "conditioning, or a neuron between them"
                        )
                    bias = op.gains[:, None] * bias
            else:
                bias = zero_bias(op.shape)
            result = self.algebra.sum(result, Block(op.shape, terms, terms, bias, table))
            start += block.shape[0]
        return [result]

    def _add(self, op: AddOp) -> list[Block]:
        left, right = (self.values[name] for name in op.inputs)
        if [block.shape for block in left] != [block.shape for block in right]:
            left, right = resplit(left, right), resplit(right, left)
        return [self.algebra.sum(a, b) for a, b in zip(left, right, strict=True)]

    def _condition(self, op: ConditionOp) -> list[Block]:
        start, blocks = 0, []
        for block in self.values[op.inputs[0]]:
            table = op.table[:, start : start + block.shape[0]]
            start += block.shape[0]
            blocks.append(self.algebra.sum(block, Block(block.shape, (), (), zero_bias(block.shape), table)))
        return blocks

    def _upsample(self, op: UpsampleOp) -> list[Block]:
        blocks = []
        for block in self.values[op.inputs[0]]:
            shape = (block.shape[0], *op.shape[1:])
            terms, direct = (self.algebra.upsampled(side, op.factor) for side in (block.terms, block.direct))
            if terms is None:
                raise _InexactError(op.inputs[0])
            blocks.append(replace(block, shape=shape, terms=terms, direct=direct or terms))
        return blocks

    def _neuron(self, op: NeuronOp) -> list[Block]:
        start, blocks = 0, []
        for block in self.values[op.inputs[0]]:
            if op.du != DECAY_MAX and (block.bias.any() or block.table is not None):
                raise LoweringError(
                    f"{op.name}: its current decays and its input has a bias; a bias enters the membrane of a Lif, "
                    "past the decay; set current_decay to 1, or drop the bias, the BatchNorm or the conditioning"
                )
            own = zero_bias(block.shape) if op.bias is None else op.bias[start : start + block.shape[0]]
            delays = op.delays[start : start + block.shape[0]]
            key = (id(block), op.threshold, op.du, op.dv, own.tobytes(), op.unit, delays.tobytes())
            if key not in self.neurons:
                self.keep.append(block)
                name = (
                    op.name
                    if start == 0 and block.shape == op.shape
                    else f"{op.name}[{start}:{start + block.shape[0]}]"
                )
                bias, weight = clock.clocked(name, block.bias + own)
                neuron = (op.threshold, op.du, op.dv)
                self._population(
                    FloatPopulation(
                        name, block.shape, bias, block.table, neuron, None, op.name, start, None, op.unit, delays
                    ),
                    block,
                )
                if weight is not None:
                    self._clock(name, block.shape, weight)
                identity = ((name, IDENTITY),)
                self.neurons[key] = Block(block.shape, identity, identity, zero_bias(block.shape))
            blocks.append(self.neurons[key])
            start += block.shape[0]
        return blocks

    def _readout(self, op: ReadoutOp) -> list[Block]:
        blocks = self.values[op.inputs[0]]
        if op.tail is not None and len(blocks) > 1:
            raise LoweringError(
                f"{op.name}: its tail reads a concatenation of {len(blocks)} values; put a convolution between them"
            )
        for index, block in enumerate(blocks):
            if block.table is not None:
                raise LoweringError(
                    f"{op.name}: a readout cannot depend on the diffusion step other than through neurons"
                )
            name = op.name if index == 0 else f"{op.name}:{index}"
            self._population(FloatPopulation(name, block.shape, block.bias, weights=op.weights, tail=op.tail), block)
        return []

    def _relay(self, name: str, index: int, block: Block) -> Block:
        """The same block, its currents taken from a Relay. The bias travels with the block: a Relay has none."""
        if block.is_messages:
            return block
        name = f"{name}:relay" if index == 0 else f"{name}:relay{index}"
        self._population(FloatPopulation(name, block.shape, zero_bias(block.shape)), block)
        return replace(block, terms=((name, IDENTITY),))

    def _population(self, population: FloatPopulation, block: Block) -> None:
        if not block.terms:
            raise LoweringError(f"{population.name}: it receives nothing but a constant")
        self.populations.append(population)
        seen: dict[str, int] = {}
        for source, kernel in block.terms:
            index = seen[source] = seen.get(source, -1) + 1
            name = f"{source}->{population.name}" + (f":{index}" if index else "")
            self.projections.append(
                FloatProjection(name, source, population.name, materialised(kernel, block.shape[0]))
            )

    def _clock(self, name: str, shape: Shape, weight: FloatArray) -> None:
        """A projection of ``weight`` into population ``name`` from the clock of its resolution."""
        source = clock.clock_name(*shape[1:])
        if source not in self.clocks:
            self.clocks[source] = clock.clock(self.graph.timesteps, *shape[1:])
        self.projections.append(FloatProjection(f"{source}->{name}", source, name, Kernel(weight)))

    def _pruned(self, network: FloatNetwork) -> FloatNetwork:
        """Without populations that no readout hears."""
        needed = {p.name for p in network.populations if p.weights is not None}
        if not needed:
            raise LoweringError("the model has no readout; end it with one, such as MembraneReadout")
        for population in reversed(network.populations):
            if population.name in needed:
                needed.update(p.source for p in network.incoming.get(population.name, ()))
        return replace(
            network,
            populations=tuple(p for p in network.populations if p.name in needed),
            projections=tuple(p for p in network.projections if p.target in needed),
        )
