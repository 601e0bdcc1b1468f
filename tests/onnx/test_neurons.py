"""One timestep of the neurons against ``lif_step``, at the boundaries of every width."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from spikegen.exporters.onnx.graph import Graph, Port, make_model
from spikegen.exporters.onnx.neurons import Neurons
from spikegen.program import Lif
from spikegen.program.numerics import (
    BIAS_EXP_MAX,
    BIAS_MANT_MAX,
    CURRENT_LIMIT,
    DECAY_MAX,
    STATE_LIMIT,
    STATE_SHIFT,
    VTH_MAX,
    lif_step,
)
from tests.onnx.comparison import run

U = (0, 1, -1, 4095, -4097, STATE_LIMIT, 1 - STATE_LIMIT, STATE_LIMIT - 1, 123_457, -7_654_321)
V = (0, 1, -1, 4096, -4095, STATE_LIMIT - 1, 1 - STATE_LIMIT, 63, -3_000_001, (VTH_MAX << 6) - 3)
A = (
    0,
    1,
    -1,
    VTH_MAX,
    -VTH_MAX,
    STATE_LIMIT >> 6,  # the largest that does not wrap
    (STATE_LIMIT >> 6) + 1,
    -(STATE_LIMIT >> 6),  # wraps
    1 - (STATE_LIMIT >> 6),
    CURRENT_LIMIT - 1,
    1 - CURRENT_LIMIT,
)


@pytest.mark.parametrize(("du", "dv"), itertools.product((0, 1, 1024, 4094, 4095), (0, 1, 819, 2048, 4095)))
@pytest.mark.parametrize("vth", [0, 1000, VTH_MAX])
def test_a_timestep(du: int, dv: int, vth: int) -> None:
    assert_equal(du, dv, vth, np.int64)


@pytest.mark.parametrize("vth", [0, 1000, VTH_MAX])
def test_neurons_that_do_not_leak_are_exact_in_float32(vth: int) -> None:
    assert_equal(4095, 0, vth, np.float32)


def assert_equal(du: int, dv: int, vth: int, dtype: type) -> None:
    u, v, a = (side.ravel() for side in np.meshgrid(U, V, A, indexing="ij"))
    bias = np.resize([0, 1, -1, BIAS_MANT_MAX << BIAS_EXP_MAX, (-1 - BIAS_MANT_MAX) << BIAS_EXP_MAX], len(u))
    population = Lif("n", (1, 1, 1), vth, du, dv, np.zeros(1, dtype=np.int16), 0)
    neurons = Neurons(population, dtype, risky=True)
    graph = Graph()
    current, membrane, spikes = neurons.step(graph, "u", "v", "a", "bias")
    membrane = neurons.reset(graph, membrane, spikes)
    given = {"u": u, "v": v, "a": a << STATE_SHIFT, "bias": bias}
    results = [graph.add("Identity", value) for value in (current, membrane, spikes)]
    kept: dict[str, npt.NDArray[Any]] = {
        name: value.astype(dtype) for name, value in given.items() if name != "u" or du < DECAY_MAX
    }
    inputs = [Port(name, dtype, ("N",)) for name in kept]
    outputs = [Port(name, kind, ("N",)) for name, kind in zip(results, (dtype, dtype, np.bool_), strict=True)]
    found = run(make_model(graph.proto("step", inputs, outputs), {}, ""), kept)
    expected = lif_step(u, v, a, vth=vth, du=du, dv=dv, bias=bias)
    for name, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(found[name], wanted)
