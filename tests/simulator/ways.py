"""Every way in which the simulator can compute a Program; all of them must give the same integers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from unittest import mock

import pytest
import torch

from spikegen.program import Program
from spikegen.simulator import Simulator, selection
from spikegen.simulator.engine import Engine
from spikegen.simulator.numpy_engine import NumpyEngine
from spikegen.simulator.torch_engine import TorchEngine


def _first_of(program: Program, *kernels: str) -> TorchEngine:
    """The first kernel that is exact: all of them measure the same."""
    with mock.patch.object(selection, "_time", return_value=0.0):
        return TorchEngine(program, kernels=kernels)


WAYS: dict[str, Callable[[Program], Engine]] = {
    "numpy": NumpyEngine,
    "int8": _first_of,
    "float32": lambda program: _first_of(program, "float32", "matmul"),
    "matmul": partial(TorchEngine, kernels=("matmul",), compiled=False),  # what runs on CUDA
}
if torch.cuda.is_available():
    WAYS["cuda"] = partial(TorchEngine, device="cuda")

each_way = pytest.mark.parametrize("way", WAYS)


def simulator(way: str, program: Program, batch: int = 64) -> Simulator:
    """A simulator that computes ``program`` in one way."""
    made = Simulator(program, batch=batch, engine="numpy")
    made.engine = WAYS[way](program)
    return made
