"""Pass: give every projection the delay that makes all inputs of a frame meet."""

from __future__ import annotations

import dataclasses

from spikegen.program import Program


def retime(program: Program) -> Program:
    """``program`` with every ``delay`` set so that each population hears one frame at one level.

    A projection takes one timestep (Lava's synapses send what they computed one step earlier). The level of a
    population is its longest path from a node without input, whose level is 0; a projection from level a to level b is
    delayed by ``b - a - 1``.
    """
    levels = {program.input.name: 0}
    for population in program.populations:
        levels[population.name] = max((levels[p.source] + 1 for p in program.into(population.name)), default=0)
    projections = tuple(
        dataclasses.replace(p, delay=levels[p.target] - levels[p.source] - 1) for p in program.projections
    )
    return dataclasses.replace(program, projections=projections)
