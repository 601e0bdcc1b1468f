"""Grids that a network lies on already, and what large networks are compared and calibrated on."""

from __future__ import annotations

import math

import numpy as np
import pytest

from spikegen.lowering.calibrate import BUDGET_MACS, INPUTS_MIN, Calibration, within_budget
from spikegen.lowering.currents import SAMPLE_MACS, sample
from spikegen.lowering.graph import FloatArray
from spikegen.lowering.input_format import InputFormat
from spikegen.lowering.kernels import Kernel
from spikegen.lowering.native_grid import Grid, native_grids, native_threshold, unit_grid, weight_step
from spikegen.lowering.network import FloatNetwork, FloatPopulation, FloatProjection
from spikegen.lowering.quantize import quantize
from spikegen.lowering.relay_room import RELAY_LEVELS, relay_floor, relays_fit
from spikegen.program import Lif
from spikegen.program.numerics import DECAY_MAX


def weights(*values: float) -> FloatArray:
    return np.array(values).reshape(1, -1, 1, 1)


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ((3.0, -6.0, 12.0), 3.0),
        ((0.3, 0.5, -0.2), 0.1),
        ((127.0, 1.0), 1.0),
        ((-128.0, 1.0), 1.0),
        ((128.0, 1.0), None),  # an 8-bit mantissa ends at 127
        ((0.0, 0.0), 0.0),
        ((1.0, math.pi), None),
        ((256.0, 2.0, 0.0), None),
        ((254.0, 2.0, 0.0), 2.0),
    ],
)
def test_the_step_of_weights(values: tuple[float, ...], step: float | None) -> None:
    found = weight_step(weights(*values))
    assert found == (None if step is None else pytest.approx(step, rel=1e-12))


def test_float32_multiples_of_a_tenth_are_on_its_grid() -> None:
    values = np.arange(-100, 101).reshape(1, -1, 1, 1) * np.float32(0.1)
    assert weight_step(values.astype(np.float64)) == pytest.approx(0.1, rel=1e-6)


def test_one_lsb_holds_all_projections() -> None:
    # steps 3 and 2: the LSB 1 with mantissas of 3, and exponent 1; unsigned weights may be odd
    assert native_grids([weights(3.0, 6.0), weights(2.0, 14.0)])[0] == Grid(1.0, (0, 1))
    # weights of mixed sign need an exponent of 1: half the LSB
    assert native_grids([weights(3.0, -6.0), weights(2.0, 14.0)])[0] == Grid(0.5, (1, 2))
    assert native_grids([weights(100.0, 1.0), weights(100.0 / 3, 1.0 / 3)]) == []  # 300 is no mantissa
    assert native_grids([weights(1.0, math.e)]) == []
    assert native_grids([weights(0.0)]) == []


@pytest.mark.parametrize(
    ("threshold", "lsb", "bias", "vth"),
    [
        (1.0, 0.25, 0.5, 4),  # fires above 1.0
        (math.nextafter(1.0, 0.0), 0.25, 0.5, 3),  # fires at 1.0
        (math.nextafter(1.0, 0.0), 0.1, 0.2, 9),
        (1.0, 0.1, 0.2, 10),
        (1.1, 0.25, 0.5, 4),
        (1.0, 0.25, 0.125, 4),  # half units: only above a threshold of whole units
        (math.nextafter(1.0, 0.0), 0.25, 0.125, None),
        (1.1, 0.25, 0.125, None),
        (1.0, 0.25, 0.001, None),
        (1e6, 0.25, 0.0, None),
    ],
)
def test_thresholds_decide_alike(threshold: float, lsb: float, bias: float, vth: int | None) -> None:
    assert native_threshold(threshold, lsb, np.array([bias])) == vth
    if vth is not None:
        step = lsb if round(bias / lsb) * lsb == bias else lsb / 64
        for units in range(2 * round(threshold / step)):
            value = round(units * step, 12)  # 0.1 * 3 is not 0.3
            assert (value > threshold) == (units * step > vth * lsb + 1e-9), units


def network(weight: FloatArray, threshold: float, bias: float, leak: int = 0) -> FloatNetwork:
    """One input line into one neuron, read as it is."""
    out = FloatPopulation("out", (1, 1, 1), np.zeros(1), weights=np.ones(2))
    neuron = FloatPopulation("n", (1, 1, 1), np.array([bias]), neuron=(threshold, DECAY_MAX, leak))
    return FloatNetwork(
        2,
        1,
        (2, 1, 1),
        (neuron, out),
        (
            FloatProjection("w", "input", "n", Kernel(weight)),
            FloatProjection("o", "n", "out", Kernel(np.ones((1, 1, 1, 1)))),
        ),
    )


DATA = Calibration(np.array([[[[1.0]], [[-2.0]]]]), np.zeros(1, dtype=np.int64))
FORM = InputFormat.integers((-2, -2), (2, 2))


def lif(found: FloatNetwork) -> Lif:
    program = quantize(found, DATA, FORM, "one")
    (node,) = (p for p in program.populations if isinstance(p, Lif))
    return node


def test_the_finest_grid_that_biases_need_is_taken() -> None:
    node = lif(network(weights(3.0, -1.0), math.nextafter(2.0, 0.0), 1.0))
    assert (node.scale, node.vth, node.bias_mant.tolist()) == (0.5, 3, [128])
    node = lif(network(weights(3.0, -1.0), math.nextafter(2.0, 0.0), 0.125))
    assert (node.scale, node.vth, node.bias_mant.tolist()) == (0.125, 15, [64])


def test_a_leaky_neuron_or_a_bias_off_the_grid_is_searched_for() -> None:
    fires_at_two = math.nextafter(2.0, 0.0)  # on a grid of its own vth would be one unit less
    for bias, leak in ((1.0, 2048), (0.1, 0)):
        node = lif(network(weights(3.0, -1.0), fires_at_two, bias, leak))
        assert node.scale * node.vth == pytest.approx(2.0)


def test_calibration_has_a_budget() -> None:
    data = Calibration(np.arange(64.0).reshape(64, 1, 1, 1), np.repeat(np.arange(8), 8))
    assert within_budget(data, BUDGET_MACS // 64) is data
    fewer = within_budget(data, BUDGET_MACS // 8)
    assert fewer.steps.tolist() == list(range(8))
    assert fewer.images.ravel().tolist() == list(range(0, 64, 8))
    assert len(within_budget(data, BUDGET_MACS).steps) == INPUTS_MIN


def test_large_populations_are_compared_on_a_sample() -> None:
    population = FloatPopulation("out", (64, 32, 32), np.zeros(64), weights=np.ones(4))
    projection = FloatProjection("p", "input", "out", Kernel(np.zeros((64, 64, 3, 3)), padding=(1, 1)))
    reach = np.zeros(64)
    reach[61] = 1.0
    found = sample(population, [projection], 80, reach)
    assert 61 in found.channels
    assert len(set(found.frames % 4)) == 4  # all timesteps
    assert len(found.channels) * len(found.frames) * 64 * 9 * 32 * 32 < 2 * SAMPLE_MACS
    small = sample(population, [projection], 2, reach)
    assert (len(small.channels), len(small.frames)) == (64, 2)


def test_relays_need_room() -> None:
    """What a relay adds up decides how coarse it is, not what one weight is worth."""

    def relayed(inputs: int) -> FloatNetwork:
        relay = FloatPopulation("r", (1, 1, 1), np.zeros(1))
        out = FloatPopulation("out", (1, 1, 1), np.zeros(1), weights=np.ones(4))
        kernel = Kernel(np.full((1, inputs, 1, 1), 0.5) + np.arange(inputs).reshape(1, -1, 1, 1) * 1e-9)
        wide = FloatProjection("w", "input", "r", kernel)
        return FloatNetwork(
            4,
            1,
            (inputs, 1, 1),
            (relay, out),
            (wide, FloatProjection("o", "r", "out", Kernel(np.ones((1, 1, 1, 1))))),
        )

    fits = {}
    for inputs in (8, 4096):
        port = InputFormat.integers((0,) * inputs, (1,) * inputs).port((inputs, 1, 1))
        found = relayed(inputs)
        fits[inputs] = relays_fit(found, port)
        assert fits[inputs] is (relay_floor(found, port) * RELAY_LEVELS <= 0.5)
    assert fits == {8: True, 4096: False}


@pytest.mark.parametrize(
    ("weights", "exponents"),
    [
        ([[-256.0, 254.0]], (1,)),
        ([[0.0, 127.0]], (0,)),
        ([[0.0, 128.0]], (1,)),
        ([[0.0, 129.0]], None),  # odd, and too large for 8 bits
        ([[-1.0, 2.0]], None),  # of mixed sign, which is even on Loihi
        ([[-8.0, 1016.0], [0.0, 3.0]], (3, 0)),
        ([[0.0, 0.0]], (0,)),
        ([[0.5, 2.0]], None),
    ],
)
def test_the_grid_of_a_neuron_that_counts(weights: list[list[float]], exponents: tuple[int, ...] | None) -> None:
    unit = 1 / 64
    found = unit_grid([np.array(row) * unit for row in weights], unit)
    assert found == (None if exponents is None else Grid(unit, exponents))
