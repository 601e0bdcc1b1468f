"""What the spike generator of a token decoder costs on the chip, and what its look-up table costs instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from spikegen.energy.operations import Operations, count_operations
from spikegen.errors import ConfigError
from spikegen.program import Counts, Program

# operations of each side, names of :data:`spikegen.energy.operations.OPERATIONS`
CHIP = ("analog_macs", "analog_macs_effective", "neuron_updates", "bias_adds", "spikes")
LOOKUP = ("injected_spikes",)


@dataclass(frozen=True)
class GeneratorCost:
    """Operations of one decode that differ between the two places of the generator; all others are the same.

    Attributes:
        name: population of the decoder that is the generator.
        samples: decodes that were counted.
        chip: operation -> how many per decode, for the generator on the chip, which receives the code vectors.
        lookup: the same for the table on the host, which injects the generator's spikes.
    """

    name: str
    samples: int
    chip: Mapping[str, float]
    lookup: Mapping[str, float]


def generator_cost(decoder: Program, chip: Counts, lookup: Program, injected: Counts) -> GeneratorCost:
    """Compare two real decodes of the same tokens.

    Args:
        decoder: the decoder of the pipeline.
        chip: what its decode counted.
        lookup: the decoder with the look-up table, :attr:`spikegen.runtime.Lookup.program`.
        injected: what its decode counted.

    Raises:
        ConfigError: the counts are not of these Programs, or not of the same tokens.
    """
    name = lookup.input.name
    on_chip, behind = _split(count_operations(decoder, 0, chip), {decoder.input.name, name})
    injection, rest = _split(count_operations(lookup, 0, injected), {name})
    fired, sent = on_chip.totals()["spikes"], injection.totals()["injected_spikes"]
    if behind != rest or fired != sent:
        raise ConfigError(
            f"{name} fired {fired} times in {behind.evaluations} decodes and {sent} spikes were injected in "
            f"{rest.evaluations}, or what lies behind differs: count both for the same tokens"
        )
    return GeneratorCost(
        name,
        behind.evaluations,
        {operation: on_chip.totals()[operation] / behind.evaluations for operation in CHIP},
        {operation: injection.totals()[operation] / rest.evaluations for operation in LOOKUP},
    )


def _split(operations: Operations, front: set[str]) -> tuple[Operations, Operations]:
    """The operations of the nodes ``front`` with the projections into them, and all others."""
    return (
        replace(
            operations,
            nodes=tuple(node for node in operations.nodes if node.name in front),
            projections=tuple(p for p in operations.projections if p.target in front),
        ),
        replace(
            operations,
            nodes=tuple(node for node in operations.nodes if node.name not in front),
            projections=tuple(p for p in operations.projections if p.target not in front),
        ),
    )
