"""Random Programs, drawn first and then run on Lava together, because Lava takes seconds to start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
from hypothesis import Phase, given, settings

from spikegen.exporters.lava.exchange import evaluation
from spikegen.exporters.lava.form import Form
from spikegen.exporters.lava.supervisor import end_session
from spikegen.program import Pipeline, Program, Standalone, save
from spikegen.program.ir import neurons
from spikegen.program.storage import digest
from spikegen.simulator import Simulator
from tests.lava.networks import assert_equal
from tests.strategies import frames, programs

IMAGES = 3
NEURONS_MAX = 2000
ROOT = Path(__file__).parents[2]

Accept = Callable[[Program], bool]


class Case(NamedTuple):
    program: Program
    frames: npt.NDArray[np.int32]
    step: int


def random_cases(
    count: int,
    timesteps: tuple[int, ...] = (1, 3, 4, 8),
    *,
    gains: bool = True,
    delays: bool = True,
    kind: Callable[[Program], tuple[bool, ...]],
    accept: Accept = lambda _: True,
    examples: int,
) -> list[Case]:
    """``count`` different ones that ``accept`` takes, of ``examples`` times as many of the strategy.

    Lava takes seconds to start, so all cases are drawn first and run together; a case that fails is not shrunk. What
    Hypothesis draws depends on the modules that are imported, which must not decide what is tested: each next case is
    the one with the features of ``kind`` that are the rarest so far. They are sorted by them, so that forms that are
    taken in turn meet them all.
    """
    cases: dict[str, Case] = {}

    @settings(max_examples=examples * count, phases=[Phase.generate])
    @given(st.data())
    def draw(data: st.DataObject) -> None:
        drawn = programs(timesteps=timesteps, max_populations=5, max_size=6, min_exponent=0, gains=gains, delays=delays)
        program = data.draw(drawn)
        images = data.draw(frames(program, images=range(1, IMAGES + 1)))
        case = Case(program, images, data.draw(st.integers(0, program.conditioning.steps - 1)))
        small = sum(neurons(node) for node in program.nodes.values()) <= NEURONS_MAX
        if small and accept(program):
            cases.setdefault(digest(program), case)

    draw()
    rest = [(kind(case.program), case) for case in cases.values()]
    taken: list[tuple[tuple[bool, ...], Case]] = []
    met: Counter[tuple[int, bool]] = Counter()
    while rest and len(taken) < count:
        rarest = max(range(len(rest)), key=lambda index: sum(1 / (1 + met[pair]) for pair in enumerate(rest[index][0])))
        taken.append(rest.pop(rarest))
        met.update(enumerate(taken[-1][0]))
    return [case for _, case in sorted(taken, key=itemgetter(0))]


def assert_cases_equal(cases: Sequence[Case], forms: Sequence[Form], folder: Path) -> None:
    """Every case, in one of the forms in turn, equals the simulator."""
    for index, case in enumerate(cases):
        path = folder / f"case-{index:03d}"
        save(Pipeline("case", Standalone(), {"network": case.program}), path.with_suffix(".h5"))
        form = forms[index % len(forms)].text()
        np.savez(path.with_suffix(".npz"), images=IMAGES, form=form, frames=case.frames, step=case.step)
    run_batch(folder)
    for index, case in enumerate(cases):
        with np.load(folder / f"result-{index:03d}.npz") as arrays:
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
