"""Layers that hear more than one core can store, broken into partial sums.

A core stores every kernel tap of every input channel for at least one output channel. Where a population sums so many
projections that this is more than a core's synapse memory, the sum has to be made in parts: relays each add up some of
the projections and pass the partial sum on as a graded message, one timestep later. That is another Program, with other
delays; the mapping counts its cores so that the size of the problem is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from spikegen.hardware.loihi2.limits import Budget
from spikegen.hardware.loihi2.network import Form, Layer, Link, Network, Role, retimed
from spikegen.hardware.loihi2.placement import smallest_words

SUM_BITS = 8  # weight of a partial sum: one, in the widest format


def oversized(network: Network, budget: Budget) -> tuple[Layer, ...]:
    """Layers of which not even one channel fits into the synapse memory and axon table of a core."""
    return tuple(
        layer
        for layer in network.layers
        if smallest_words(network, layer) > budget.synapse_words or _axons(network, layer) > budget.axon_in
    )


def _axons(network: Network, layer: Layer) -> int:
    return sum(link.inputs for link in network.into(layer.name) if link.form is Form.DENSE)


def with_partial_sums(network: Network, budget: Budget) -> Network:
    """``network``, retimed, with oversized layers fed by relays that hear one projection, or a part of one, each."""
    layers: list[Layer] = []
    links = list(network.links)
    large = {layer.name for layer in oversized(network, budget)}
    for layer in network.layers:
        if layer.name in large:
            parts = [part for link in network.into(layer.name) for part in _parts(link, network, layer, budget)]
            relays = [
                Layer(f"{layer.name} | part {index}", layer.shape, Role.PARTIAL, layer.population)
                for index in range(len(parts))
            ]
            links = [link for link in links if link.target != layer.name]
            links += [replace(part, target=relay.name) for part, relay in zip(parts, relays, strict=True)]
            links += [_sum(relay, layer) for relay in relays]
            layers += relays
        layers.append(layer)
    return retimed(Network(network.input, tuple(layers), tuple(links)))


def _sum(relay: Layer, layer: Layer) -> Link:
    return Link(relay.name, layer.name, Form.CONV, SUM_BITS, 1, 1, groups=layer.shape[0])


def _parts(link: Link, network: Network, layer: Layer, budget: Budget) -> Iterator[Link]:
    """The link in as few parts, by its inputs, as make each fit."""
    for parts in range(1, link.inputs + 1):
        part = replace(link, inputs=math.ceil(link.inputs / parts))
        alone = Network(network.input, (layer,), (part,))
        if not oversized(alone, budget):
            yield from [part] * parts
            return
    yield link  # a single input does not fit: no way to cut helps
