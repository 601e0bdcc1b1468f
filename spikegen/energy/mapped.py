"""Counted events on the cores of the mapping: load of each core, messages between cores and chips.

The mapping is that of :mod:`spikegen.hardware.loihi2`, an estimate. Counts are per node and projection, not per neuron,
so that everything here assumes that the neurons of a population send equally often; what a core does is in proportion
to its neurons. On the chip there are neurons that a Program does not know: relays for delays, relays that sum in parts
what one core cannot store, and those of readouts, updated like any other. Their operations are ``added_*``.

Hops are those of a chip of 8 x 4 tiles with four cores each, Loihi 1's mesh (SANA-FE, arch/loihi.yaml), filled in the
order of the cores, and only of messages that stay on their chip. Loihi 2's mesh is not published.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np

from spikegen.energy.operations import Operations
from spikegen.hardware.loihi2.axons import core_messages
from spikegen.hardware.loihi2.layout import Layout
from spikegen.hardware.loihi2.network import Layer, Link, Role
from spikegen.hardware.loihi2.placement import Placement
from spikegen.program import Program

MAPPED: Mapping[str, str] = MappingProxyType(
    {
        "added_updates": "updates of neurons that only the mapping has (delays, partial sums, readouts)",
        "added_messages": "messages of delays and partial sums; partial sums as if none were ever 0",
        "added_synops": "synaptic operations into delays and behind partial sums",
        "messages": "messages between cores: one for every nonzero message and every core that hears it",
        "messages_in": "messages into cores: `messages` and, counted the same way, what the host sends",
        "tile_messages": "those of `messages` that stay in a tile of four cores",
        "hops_east_west": "tiles that `messages` cross horizontally, within chips",
        "hops_north_south": "tiles that `messages` cross vertically, within chips",
        "binary_chip_messages": "those of `messages` that go to another chip and are binary",
        "graded_chip_messages": "those of `messages` that go to another chip and are graded",
        "timesteps": "timesteps, with one barrier each; those that fill and drain the pipeline not included",
    }
)
# What a core does, and so what a time model can time besides what chips and the whole system do.
IN_CORES = (
    "conv_synops",
    "dense_synops",
    "added_synops",
    "neuron_updates",
    "added_updates",
    "spikes",
    "relay_messages",
    "added_messages",
    "messages",
    "messages_in",
)
IN_CHIPS = ("binary_chip_messages", "graded_chip_messages")
TIMED = (*IN_CORES, *IN_CHIPS, "timesteps")

CORES_PER_TILE, TILES_PER_ROW = 4, 8
ASSUMPTIONS = (
    "cores as spikegen check places them, an estimate of what Intel's compiler would do",
    "neurons of one population send equally often, so that a core does its share of the neurons",
    "one message for every core that hears a neuron; partial sums send at every timestep",
    "hops as if cores filled 8 x 4 tiles of four in their order (Loihi 1's mesh)",
)


@dataclass(frozen=True)
class LayerLoad:
    """What the cores of one layer did.

    Attributes:
        placement: its cores.
        operations: name in :data:`IN_CORES` -> how many, in all its cores and all evaluations counted.
    """

    placement: Placement
    operations: Mapping[str, float]

    @property
    def share(self) -> float:
        """Part of the layer that is in its fullest core."""
        channels, height, width = self.placement.tile
        return channels * height * width / self.placement.layer.neurons

    def fullest(self) -> dict[str, float]:
        """Operations in the fullest core."""
        return {name: count * self.share for name, count in self.operations.items()}


@dataclass(frozen=True)
class MappedOperations:
    """What a number of evaluations did on the cores.

    Attributes:
        evaluations: how many.
        timesteps: T of each.
        layers: per layer of the mapping.
        routed: name in :data:`MAPPED` of what belongs to no single core -> how many.
        chips: (chip, other chip) -> binary and graded messages.
    """

    evaluations: int
    timesteps: int
    layers: tuple[LayerLoad, ...]
    routed: Mapping[str, float]
    chips: Mapping[tuple[int, int], tuple[float, float]]

    def totals(self) -> dict[str, float]:
        """Number of each of :data:`MAPPED`."""
        totals = dict.fromkeys(MAPPED, 0.0)
        for load in self.layers:
            for name in load.operations.keys() & totals.keys():
                totals[name] += load.operations[name]
        totals.update(self.routed)
        for binary, graded in self.chips.values():
            totals["binary_chip_messages"] += binary
            totals["graded_chip_messages"] += graded
        totals["timesteps"] = float(self.evaluations * self.timesteps)
        return totals


@dataclass(frozen=True)
class _Route:
    """A link on the cores: what happens if every neuron of its source sends once.

    Attributes:
        link: the link.
        heard: messages into the cores of its target.
        routed: as :attr:`MappedOperations.routed`, empty if the host sends.
        chips: (chip, other chip) -> messages.
    """

    link: Link
    heard: int
    routed: Mapping[str, int]
    chips: Mapping[tuple[int, int], int]


class CoreMap:
    """A Program on its cores.

    Args:
        program: a valid Program.
        layout: where :func:`spikegen.hardware.loihi2.place` put it.
    """

    def __init__(self, program: Program, layout: Layout) -> None:
        self.program = program
        self.layout = layout

    @property
    def depth(self) -> int:
        """Timesteps from the input to the last readout; partial sums add to those of the Program."""
        levels = {self.layout.network.input.name: 0}
        for layer in self.layout.network.layers:  # a chain of delays is never longer than what it waits for
            into = self.layout.network.into(layer.name)
            levels[layer.name] = max((levels[link.source] + 1 for link in into), default=0)
        return max(levels.values())

    @cached_property
    def _routes(self) -> tuple[_Route, ...]:
        port = self.layout.network.input
        outside = Placement(port, port.shape, (1, 1, 1), 0, {}, {})
        placed = self.layout.by_name
        return tuple(
            _route(link, placed.get(link.source, outside), placed[link.target], self.layout)
            for link in self.layout.network.links
        )

    def operations(self, counted: Operations) -> MappedOperations:
        """What the evaluations of ``counted`` did on the cores."""
        runs = counted.evaluations * self.program.timesteps
        events = {node.name: float(node.events) for node in counted.nodes}
        sent = {layer.name: self._sent(layer, events, runs) for layer in self.layout.network.by_name.values()}
        loads = {p.layer.name: self._of_neurons(p.layer, sent, runs) for p in self.layout.placements}
        self._add_synops(loads, counted, sent)
        routed: defaultdict[str, float] = defaultdict(float)
        chips: dict[tuple[int, int], list[float]] = {}
        for route in self._routes:
            source = self.layout.network.by_name[route.link.source]
            rate = sent[source.name] / source.neurons
            loads[route.link.target]["messages_in"] += rate * route.heard
            if route.link.source in loads:
                loads[route.link.source]["messages"] += rate * route.heard
            for name, crossed in route.routed.items():
                routed[name] += rate * crossed
            for ends, messages in route.chips.items():
                chips.setdefault(ends, [0.0, 0.0])[self._graded(source, route.link)] += rate * messages
        return MappedOperations(
            counted.evaluations,
            self.program.timesteps,
            tuple(LayerLoad(p, dict(loads[p.layer.name])) for p in self.layout.placements),
            dict(routed),
            {ends: (binary, graded) for ends, (binary, graded) in sorted(chips.items())},
        )

    def _sent(self, layer: Layer, events: Mapping[str, float], runs: int) -> float:
        """Messages of a layer: those of its population, which a delay repeats; a partial sum is taken never to be 0."""
        return float(layer.neurons * runs) if layer.role is Role.PARTIAL else events[layer.population]

    def _of_neurons(self, layer: Layer, sent: Mapping[str, float], runs: int) -> defaultdict[str, float]:
        updates, messages = "added_updates", "added_messages"
        if layer.role is Role.POPULATION and not layer.readout:
            updates = "neuron_updates"
            messages = "relay_messages" if self.program.message_bits(layer.population) else "spikes"
        return defaultdict(float, {updates: float(layer.neurons * runs), messages: sent[layer.name]})

    def _add_synops(
        self, loads: Mapping[str, dict[str, float]], counted: Operations, sent: Mapping[str, float]
    ) -> None:
        operations = {projection.name: projection for projection in counted.projections}
        inputs: Counter[str] = Counter()
        for link in self.layout.network.links:
            inputs[link.projection] += link.inputs
        for link in self.layout.network.links:
            if not link.projection:  # one to one: each message meets one synapse
                loads[link.target]["added_synops"] += sent[link.source]
                continue
            projection = operations[link.projection]  # cut into parts, if its target sums in parts
            part = projection.stored * link.inputs / inputs[link.projection]
            loads[link.target][f"{projection.form}_synops"] += part

    def _graded(self, source: Layer, link: Link) -> bool:
        bits = self.program.message_bits(source.population)
        return bool(source.role is Role.PARTIAL or bits or link.gains)


def _route(link: Link, source: Placement, target: Placement, layout: Layout) -> _Route:
    messages = core_messages(link, source, target)
    to, begin = np.nonzero(messages)
    sent = messages[to, begin]
    heard = int(sent.sum())
    if link.source == layout.network.input.name:
        return _Route(link, heard, {}, {})
    per_chip = layout.budget.cores_per_chip
    ends = [placement.first + cores for placement, cores in ((source, begin), (target, to))]
    chips = [cores // per_chip for cores in ends]
    tiles = [cores % per_chip // CORES_PER_TILE for cores in ends]
    inside = chips[0] == chips[1]
    across, along = (abs(a - b)[inside] for a, b in zip(*(divmod(tile, TILES_PER_ROW) for tile in tiles), strict=True))
    near = (across + along) == 0
    routed = {
        "tile_messages": int(sent[inside][near].sum()),
        "hops_east_west": int((sent[inside] * along).sum()),
        "hops_north_south": int((sent[inside] * across).sum()),
    }
    pairs, which = np.unique(np.stack([chips[0], chips[1]])[:, ~inside], axis=1, return_inverse=True)
    between = np.bincount(which.ravel(), weights=sent[~inside], minlength=pairs.shape[1])
    return _Route(link, heard, routed, {(int(a), int(b)): int(n) for a, b, n in zip(*pairs, between, strict=True)})
