"""Levels are longest paths, and delays make all inputs of a frame meet."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings

from spikegen.errors import ProgramError
from spikegen.exporters.lava.schedule import Schedule
from spikegen.lowering import retime
from spikegen.program import Program, validate
from tests.program.examples import every_primitive
from tests.strategies import programs


def without_delays(program: Program) -> Program:
    plain = tuple(dataclasses.replace(p, delay=0) for p in program.projections)
    return dataclasses.replace(program, projections=plain)


def path_lengths(program: Program, name: str) -> set[int]:
    """Number of projections of every path to ``name`` from a node that hears nothing: the input, or a clock."""
    if not program.into(name):
        return {0}
    return {1 + length for p in program.into(name) for length in path_lengths(program, p.source)}


@settings(max_examples=30)
@given(programs())
def test_every_input_of_a_population_arrives_at_its_longest_path(program: Program) -> None:
    retimed = retime(without_delays(program))
    for population in retimed.populations:
        level = retimed.levels[population.name]
        assert level == max(path_lengths(retimed, population.name))
        for projection in retimed.into(population.name):
            assert projection.delay >= 0
            assert retimed.levels[projection.source] + 1 + projection.delay == level
    validate(retimed)
    assert [p.delay for p in retime(retimed).projections] == [p.delay for p in retimed.projections]
    assert retimed.populations is program.populations
    for images in (1, 2, 5):  # a run is the fewest whole windows that hold the deepest level's last frame step
        schedule = Schedule.unrolled(retimed, images)
        last = images * retimed.timesteps + retimed.depth
        assert schedule.period % retimed.timesteps == 0
        assert last <= schedule.period < last + retimed.timesteps


def test_levels_of_a_graph_with_a_shortcut() -> None:
    program = retime(without_delays(every_primitive()))
    assert program.levels == {"in": 0, "a": 1, "r": 2, "out": 3, "y": 2}
    assert {p.name: p.delay for p in program.projections} == {"in>a": 0, "a>r": 0, "in>r": 1, "r>out": 0, "a>y": 0}
    assert program.depth == 3


def test_without_retiming_the_inputs_do_not_meet() -> None:
    with pytest.raises(ProgramError, match="r: its inputs arrive at different levels"):
        validate(without_delays(every_primitive()))
