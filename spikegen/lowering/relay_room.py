"""How fine a relay can be: its readers add up its largest possible message, and their state has 24 bits."""

from __future__ import annotations

import numpy as np

from spikegen.lowering.currents import is_uniform, weight_of
from spikegen.lowering.kernels import dense_weight
from spikegen.lowering.network import FloatNetwork
from spikegen.program import Input

# A reader adds a relay's message for T timesteps to a membrane of 2^17 units of current; this share leaves room for its
# bias and its other inputs.
RELAY_SHARE = 0.5
# Where a convolution reads a relay, its weights need the room: then messages are as short as those of the input.
RELAY_WEIGHTED_MAX = (1 << 7) - 1
# A relay adds its weights up once for all readers, in units that are never finer than the floor: with fewer units in
# the largest weight, the error of a stream is several per cent.
RELAY_LEVELS = 32


def relay_floor(network: FloatNetwork, port: Input) -> float:
    """The smallest LSB a relay may have: its largest possible message must leave the membranes of its readers room.

    One value for all relays, since a relay that reads another one cannot be coarser than it.
    """
    reach = {"input": np.maximum(-port.low, port.high) * port.scale}
    relays = {p.name for p in network.populations if p.is_relay}
    weighted = {p.source for p in network.projections if p.source in relays and not is_uniform(p)}
    largest = coarse = 0.0
    for population in network.populations:
        reach[population.name] = np.ones(population.shape[0])
        if not population.is_relay:
            continue
        total = np.zeros(population.shape[0])
        for projection in network.incoming[population.name]:
            kernel = projection.kernel
            weight = np.abs(dense_weight(kernel.weight, kernel.groups)).sum(axis=(2, 3))
            if kernel.gains is not None:
                weight = weight * np.abs(kernel.gains).max()
            total = total + (weight @ reach[projection.source]).reshape(-1, kernel.shuffle**2).max(axis=1)
        reach[population.name] = total
        largest = max(largest, float(total.max()))
        if population.name in weighted:
            coarse = max(coarse, float(total.max()) / RELAY_WEIGHTED_MAX)
    return max(coarse, largest * network.timesteps / (RELAY_SHARE * (1 << 17)))


def relays_fit(network: FloatNetwork, port: Input) -> bool:
    """Whether the weights into every relay keep :data:`RELAY_LEVELS` units of the floor."""
    relays = {p.name for p in network.populations if p.is_relay}
    floor = relay_floor(network, port) if relays else 0.0
    scales = {"input": port.scale}
    return all(
        float(np.abs(weight_of(p.kernel)).max()) * scales.get(p.source, 1.0) >= RELAY_LEVELS * floor
        for p in network.projections
        if p.target in relays and p.source not in relays and not is_uniform(p)
    )
