"""Random Programs on real Lava processes equal the simulator: every message, readout and count."""

from __future__ import annotations

from pathlib import Path

import pytest

from spikegen.exporters.lava.form import SYNAPSES, Form
from spikegen.program import Conv, Dense, Input, Lif, Program, Relay
from tests.lava.random_cases import Case, assert_cases_equal, random_cases

PROGRAMS = 60
FORMS = (Form("fused"), *(Form("unrolled", synapses) for synapses in SYNAPSES))

pytestmark = [pytest.mark.lava, pytest.mark.slow]


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return random_cases(PROGRAMS, kind=kind, examples=8)


def kind(program: Program) -> tuple[bool, ...]:
    """What of a Program every form is to meet."""
    return (
        program.input.bits > 0,
        program.input.streamed,
        axonal_delays(program),
        any(isinstance(p, Dense) and p.gains.size for p in program.projections),
        any(p.delay and p.gains.size for p in program.projections),
        any(not program.into(p.name) for p in program.populations),
        bool(program.input.bits) and program.input.low.max() > -program.input.high.max(),
    )


def axonal_delays(program: Program) -> bool:
    return any(isinstance(p, Lif) and p.delays.any() for p in program.populations)


def test_the_cases_are_different_enough(cases: list[Case]) -> None:
    assert len(cases) >= 50
    assert {case.program.timesteps for case in cases} == {1, 3, 4, 8}
    kinds = {type(node) for case in cases for node in case.program.populations}
    assert {Lif, Relay} <= kinds
    inputs = [case.program.input for case in cases]
    for form in range(len(FORMS)):  # each form of the network gets every kind of input
        kinds_of_input = {(port.bits > 0, port.streamed) for port in inputs[form :: len(FORMS)]}
        assert kinds_of_input == {(True, False), (True, True), (False, False), (False, True)}
    assert any(port.low.max() > -port.high.max() for port in inputs if port.bits)
    assert any(isinstance(p, Lif) and p.dv == 2048 for case in cases for p in case.program.populations)
    assert any(p.delay for case in cases for p in case.program.projections)
    for form in range(len(FORMS)):  # gains of either sign, on inputs and spikes, and with a delay
        programs = [case.program for case in cases[form :: len(FORMS)]]
        assert sum(map(axonal_delays, programs)) > 2
        gained = [(program, p) for program in programs for p in program.projections if p.gains.size]
        assert {Input, Lif} <= {type(program.nodes[p.source]) for program, p in gained}
        assert {type(p) for _, p in gained} == {Conv, Dense}
        assert any(p.delay for _, p in gained)
        assert any(p.gains.min() < 0 < p.gains.max() for _, p in gained)
        assert any(not program.into(p.name) for program in programs for p in program.populations)  # a clock
    assert any(getattr(p, "shuffle", 1) > 1 for case in cases for p in case.program.projections)


def test_random_programs_equal_the_simulator(cases: list[Case], tmp_path: Path) -> None:
    """The fused model and the forms of the unrolled one in turn."""
    assert_cases_equal(cases, FORMS, tmp_path)
