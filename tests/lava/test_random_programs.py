"""Random Programs on real Lava processes equal the simulator: every message, readout and count."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import Phase, given, settings

from spikegen.exporters.lava.exchange import evaluation
from spikegen.exporters.lava.form import SYNAPSES, Form
from spikegen.exporters.lava.supervisor import end_session
from spikegen.program import Conv, Dense, Input, Lif, Pipeline, Program, Relay, Standalone, save
from spikegen.program.ir import neurons
from spikegen.program.storage import digest
from spikegen.simulator import Simulator
from tests.lava.networks import assert_equal
from tests.strategies import frames, programs

PROGRAMS = 60
FORMS = (Form("fused"), *(Form("unrolled", synapses) for synapses in SYNAPSES))
IMAGES = 3
NEURONS_MAX = 2000
ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.lava, pytest.mark.slow]


class Case(NamedTuple):
    program: Program
    frames: npt.NDArray[np.int32]
    step: int


def random_cases(count: int) -> list[Case]:
    """The first ``count`` different examples of the strategy.

    Lava takes seconds to start, so all cases are drawn first and run together; a case that fails is not shrunk.
    """
    cases: dict[str, Case] = {}

    @settings(max_examples=2 * count, phases=[Phase.generate])
    @given(st.data())
    def draw(data: st.DataObject) -> None:
        program = data.draw(programs(timesteps=(1, 3, 4, 8), max_populations=5, max_size=6, min_exponent=0))
        images = data.draw(frames(program, images=range(1, IMAGES + 1)))
        case = Case(program, images, data.draw(st.integers(0, program.conditioning.steps - 1)))
        if len(cases) < count and sum(neurons(node) for node in program.nodes.values()) <= NEURONS_MAX:
            cases.setdefault(digest(program), case)

    draw()
    return list(cases.values())


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return random_cases(PROGRAMS)


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
        gained = [(program, p) for program in programs for p in program.projections if p.gains.size]
        assert {Input, Lif} <= {type(program.nodes[p.source]) for program, p in gained}
        assert {type(p) for _, p in gained} == {Conv, Dense}
        assert any(p.delay for _, p in gained)
        assert any(p.gains.min() < 0 < p.gains.max() for _, p in gained)
        assert any(not program.into(p.name) for program in programs for p in program.populations)  # a clock
    assert any(getattr(p, "shuffle", 1) > 1 for case in cases for p in case.program.projections)


def test_random_programs_equal_the_simulator(cases: list[Case], tmp_path: Path) -> None:
    """The fused model and the forms of the unrolled one in turn."""
    for index, case in enumerate(cases):
        path = tmp_path / f"case-{index:03d}"
        save(Pipeline("case", Standalone(), {"network": case.program}), path.with_suffix(".h5"))
        form = FORMS[index % len(FORMS)].text()
        np.savez(path.with_suffix(".npz"), images=IMAGES, form=form, frames=case.frames, step=case.step)
    run_batch(tmp_path)
    for index, case in enumerate(cases):
        with np.load(tmp_path / f"result-{index:03d}.npz") as arrays:
            results = {name: arrays[name] for name in arrays.files}
        found = evaluation(case.program, len(case.frames), results)
        assert_equal(found, Simulator(case.program).evaluate(case.frames, case.step, record=True))


def run_batch(folder: Path) -> None:
    """Run ``batch.py`` in a session of its own and end the session if it hangs."""
    log = folder / "log.txt"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("batch.py")), str(folder)],
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=900)
        finally:  # nothing is left to end unless it hangs or pytest was interrupted
            end_session(process)
    assert code == 0, log.read_text()[-3000:]
