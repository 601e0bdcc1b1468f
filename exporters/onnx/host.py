"""The host's part around a network as ONNX models of float64, equal to the runtime's bit for bit.

Every operation is one elementwise operation that IEEE 754 rounds in one way, in the order of
:mod:`spikegen.runtime.readout` and :mod:`spikegen.runtime.tail`.
"""

from __future__ import annotations

import onnx

from spikegen.program import Program


def input_model(program: Program) -> onnx.ModelProto:
    raise NotImplementedError


def readout_model(program: Program) -> onnx.ModelProto:
    raise NotImplementedError
