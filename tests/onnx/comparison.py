"""A Program in ONNX Runtime and in the simulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from spikegen.exporters.onnx import OnnxTarget, model_file, read
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
    program: Program,
    frames: npt.NDArray[np.int32],
    step: int = 0,
    *,
    unroll: bool | None = None,
    record: tuple[bool, ...] = (False, True),
) -> Evaluation:
    """What both give for ``frames``, without messages and with them (``record``); the last of these."""
    simulator = Simulator(program, engine="numpy")
    with OnnxTarget(program, threads=1, unroll=unroll) as target:
        for recorded in record:
            found = target.evaluate(frames, step, recorded)
            assert_equal(found, simulator.evaluate(frames, step, recorded))
    return found


def run(model: onnx.ModelProto, feeds: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def assert_same_bits(found: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]) -> None:
    assert found.dtype == expected.dtype == np.float64
    np.testing.assert_array_equal(found.view(np.int64), expected.view(np.int64))


def without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read and run model files in this process: the start of another takes longer than the rest of a test."""
    monkeypatch.setattr(read, "run_bounded", lambda work, path: work(path))
    monkeypatch.setattr(model_file, "run_bounded", lambda work, *paths, **_: work(*paths))
