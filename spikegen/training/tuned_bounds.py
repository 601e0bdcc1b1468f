"""The rule that keeps a network in training free of overflow: rows whose bounds leave their widths are shrunk."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch

from spikegen.errors import ConfigError
from spikegen.program import Lif, Population, Projection
from spikegen.program.bounds import Interval, message_interval, population_risks, projection_interval
from spikegen.training.program_network import ProgramNetwork

SHRINK = 1 - 2**-6  # of the values of a channel, per step; deterministic, and fine enough not to take much too much
_STEPS_MAX = 1024  # (1 - 2^-6)^1024 = 1e-7: every weight has been rounded to 0


@torch.no_grad()
def hold_bounds(network: ProgramNetwork) -> list[str]:
    """Shrink the weights into every channel that could overflow, until interval bounds prove that it cannot.

    Populations are visited in topological order. The weights into a channel with a risk go towards 0, and its bias
    towards the one it began with, which was proved free of risks with larger currents than none. Copies of a relayed
    stream are shrunk only where all other weights into the channel are 0. Populations that had a risk from the start
    are left alone.

    Returns:
        the populations that were changed.

    Raises:
        ConfigError: a channel that has a risk whatever its weights are (not to be expected).
    """
    program = network.to_program()
    messages: dict[str, Interval] = {program.input.name: message_interval(program.input)}
    changed = []
    for population in program.populations:
        into = program.into(population.name)
        current = _current(population, into, messages)
        if population.name not in network.risky and _risks(network, population, current):
            current = _shrink(network, population, into, messages)
            changed.append(population.name)
        messages[population.name] = message_interval(population, current)
    return changed


def _current(population: Population, into: Sequence[Projection], messages: Mapping[str, Interval]) -> Interval:
    low = high = np.zeros(population.shape[0], dtype=np.int64)
    for projection in into:
        added = projection_interval(projection, messages[projection.source])
        low, high = low + added[0], high + added[1]
    return low, high


def _risks(network: ProgramNetwork, population: Population, current: Interval, channel: int | None = None) -> list[str]:
    """The risks of ``population``, or of one channel of it, with the bias that ``network`` has now."""
    kept = slice(None) if channel is None else slice(channel, channel + 1)
    table = network.program.conditioning.tables.get(population.name)
    if isinstance(population, Lif):
        bias = network.bias(population.name).integers().astype(np.int16)[kept]
        population = dataclasses.replace(population, bias_mant=bias, shape=(len(bias), *population.shape[1:]))
    table = None if table is None else table[:, kept]
    return population_risks(population, (current[0][kept], current[1][kept]), network.program.timesteps, table)


def _shrink(
    network: ProgramNetwork, population: Population, into: Sequence[Projection], messages: Mapping[str, Interval]
) -> Interval:
    """The bounds of the current after the channels with a risk were shrunk."""
    name, channels = population.name, population.shape[0]
    learning = [p.name for p in into if network.weight(p.name).values.requires_grad]
    for group in (learning, [p.name for p in into if p.name not in learning]):
        for _ in range(_STEPS_MAX):
            tuned = [dataclasses.replace(p, weight=network.weight(p.name).integers().astype(np.int8)) for p in into]
            current = _current(population, tuned, messages)
            rows = [c for c in range(channels) if _risks(network, population, current, c)]
            if not rows:
                return current
            for projection in group:
                # All rows of a channel: the sub-pixels of a shuffle, the pixels of a Dense.
                network.weight(projection).values.view(channels, -1)[rows] *= SHRINK
            if isinstance(population, Lif):
                bias = network.bias(name)
                start = torch.from_numpy(cast(Lif, network.program.nodes[name]).bias_mant[rows] / bias.unit).float()
                bias.values[rows] = start + (bias.values[rows] - start) * SHRINK
    raise ConfigError(
        f"{name}: channels {rows} can overflow whatever their weights are; tune with a lower learning rate"
    )
