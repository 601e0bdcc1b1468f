"""A Program in ONNX Runtime and in the simulator."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spikegen.exporters.onnx import OnnxTarget
from spikegen.program import Evaluation, Program
from spikegen.simulator import Simulator


def assert_equal(found: Evaluation, expected: Evaluation) -> None:
    """Equality of everything that an evaluation holds, dtypes and order included."""
    assert found.counts == expected.counts
    for left, right in ((found.readouts, expected.readouts), (found.messages, expected.messages)):
        assert list(left) == list(right)
        for name in left:
            np.testing.assert_array_equal(left[name], right[name], err_msg=name)
            assert left[name].dtype == right[name].dtype


def compared(
    program: Program, frames: npt.NDArray[np.int32], step: int = 0, *, unroll: bool | None = None
) -> Evaluation:
    """What both give for ``frames``, with messages and without; the one with messages."""
    simulator = Simulator(program, engine="numpy")
    with OnnxTarget(program, threads=1, unroll=unroll) as target:
        for record in (False, True):
            found = target.evaluate(frames, step, record)
            assert_equal(found, simulator.evaluate(frames, step, record))
    return found
