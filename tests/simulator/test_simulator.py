"""The simulator equals the scalar reference, value by value and count by count."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
from hypothesis import given, settings

from spikegen.program import Program
from spikegen.simulator import Simulator
from tests import reference
from tests.strategies import frames, programs


def assert_equals_reference(program: Program, images: npt.NDArray[np.int32], step: int) -> list[reference.Result]:
    """Spikes, relayed messages, readouts and all counts."""
    found = Simulator(program).evaluate(images, step, record=True)
    expected = [reference.evaluate(program, image, step) for image in images]
    assert set(found.messages) | set(found.readouts) == set(program.nodes)
    for name, values in {**found.messages, **found.readouts}.items():
        np.testing.assert_array_equal(values, [result.array(program, name) for result in expected], err_msg=name)
        assert values.dtype == np.int32
    for kind in ("events", "stored", "effective"):
        sums = {name: sum(getattr(r, kind)[name] for r in expected) for name in getattr(expected[0], kind)}
        assert getattr(found.counts, kind) == sums, kind
    assert found.counts.images == len(images)
    return expected


@settings(max_examples=500)
@given(st.data())
def test_random_programs_equal_the_reference(data: st.DataObject) -> None:
    program = data.draw(programs())
    images = data.draw(frames(program, images=(1, 2)))
    step = data.draw(st.integers(0, program.conditioning.steps - 1))
    results = assert_equals_reference(program, images, step)
    assert not any(result.wraps or result.clips or result.misfits for result in results)  # overflow_risks was empty
