"""The host's models give the runtime's numbers, bit for bit."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from spikegen.exporters.onnx import input_model, readout_model
from spikegen.program import Input, Program, Readout, SwishTail
from spikegen.runtime import host_readout
from spikegen.runtime import tail as tail_module
from tests.onnx.comparison import assert_same_bits, run
from tests.program.examples import changed, every_primitive, pointwise

FloatArray = npt.NDArray[np.float64]


@pytest.mark.parametrize("scale", [1 / 64, 0.3, 1.0, 7e-3])
def test_the_input_is_quantized_as_by_the_program(scale: float) -> None:
    port = Input("in", (2, 5, 4), 7, scale, np.array([-100, 3]), np.array([127, 50]))
    program = pointwise("p", port, 1)
    rng = np.random.default_rng(0)
    real = rng.normal(size=(30, 2, 5, 4)) * 60 * scale
    real[:10] = (rng.integers(-140, 140, (10, 2, 5, 4)) + 0.5) * scale  # halves, as far as scale keeps them
    real[10, 0] = -0.0
    real[11] = 1e300
    found = run(input_model(program), {"real": real})["frames"]
    expected = port.quantize(real)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.int32
    assert {-100, 127} <= set(found[:, 0].ravel())
    assert {3, 50} <= set(found[:, 1].ravel())


def test_a_streamed_input_has_a_frame_for_each_timestep() -> None:
    port = Input("in", (1, 2, 3), 4, 0.5, streamed=True)
    program = pointwise("p", port, 1)
    real = np.random.default_rng(1).normal(size=(3, program.timesteps, 1, 2, 3)) * 5
    np.testing.assert_array_equal(run(input_model(program), {"real": real})["frames"], port.quantize(real))


def readout(timesteps: int, tail: SwishTail | None = None, channels: int = 5) -> Readout:
    rng = np.random.default_rng(4)
    bias = rng.normal(size=(timesteps, channels))
    return Readout("y", (channels, 6, 5), rng.normal(size=timesteps), bias, 0.01, tail)


def swish_tail(timesteps: int, kernel: tuple[int, int], mix: tuple[int, int]) -> SwishTail:
    rng = np.random.default_rng(3)
    return SwishTail(
        norm_scale=rng.normal(size=5),
        norm_shift=rng.normal(size=5),
        weight=rng.normal(size=(2, 5, *kernel)),
        bias=rng.normal(size=2),
        gains=rng.normal(size=timesteps),
        mix_weight=rng.normal(size=(2, 2, *mix)),
        mix_bias=rng.normal(size=2),
    )


def network(timesteps: int, *readouts: Readout) -> Program:
    """A network that only has to be valid, with these readouts."""
    base = pointwise("p", Input("in", (1, 6, 5), 4, 1.0), 5)
    template = base.projections[0]
    projections = tuple(
        dataclasses.replace(template, name=r.name, target=r.name, weight=np.ones((r.shape[0], 1, 1, 1), dtype=np.int8))
        for r in readouts
    )
    return dataclasses.replace(base, timesteps=timesteps, populations=readouts, projections=projections)


@pytest.mark.parametrize("timesteps", [1, 3, 40])
@pytest.mark.parametrize("kernels", [None, ((3, 3), (3, 1)), ((1, 1), (1, 3)), ((5, 3), (3, 3))])
def test_readouts(timesteps: int, kernels: tuple[tuple[int, int], tuple[int, int]] | None) -> None:
    tail = None if kernels is None else swish_tail(timesteps, *kernels)
    made = readout(timesteps, tail)
    rng = np.random.default_rng(5)
    currents = rng.integers(-3000, 3000, (4, timesteps, *made.shape)).astype(np.int32)
    found = run(readout_model(network(timesteps, made)), {"readout/y": currents})["value/y"]
    assert_same_bits(found, host_readout(made, currents))


def test_several_readouts_are_read_together() -> None:
    program = every_primitive()
    program = changed(program, "y", tail=SwishTail(*(np.full(s, 0.7) for s in SHAPES)))
    rng = np.random.default_rng(6)
    currents = {
        f"readout/{r.name}": rng.integers(-(1 << 23) + 1, 1 << 23, (3, 2, *r.shape)).astype(np.int32)
        for r in program.readouts()
    }
    found = run(readout_model(program), currents)
    for r in program.readouts():
        assert_same_bits(found[f"value/{r.name}"], host_readout(r, currents[f"readout/{r.name}"]))


# of a tail of one channel to three, for two timesteps
SHAPES = ((1,), (1,), (3, 1, 1, 3), (3,), (2,), (3, 3, 3, 1), (3,))


@pytest.mark.parametrize("compiled", [True, False])
def test_swish_where_its_exponential_is_subnormal_and_beyond(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not tail_module.COMPILED and compiled:
        pytest.skip("numba is not installed")
    monkeypatch.setattr(tail_module, "COMPILED", compiled)
    one, none = np.ones(5), np.zeros(5)
    through = np.eye(5)[..., None, None]
    tail = SwishTail(one, none, through, none, np.ones(1), np.zeros((5, 5, 1, 1)), none)
    made = Readout("y", (5, 6, 5), np.ones(1), np.zeros(5), 1 / 64, tail)
    currents = -np.arange(700 * 64, 700 * 64 + 40 * 150).reshape(40, 1, 5, 6, 5).astype(np.int32)
    currents[:3] = np.random.default_rng(7).integers(-60_000, 60_000, (3, 1, 5, 6, 5))
    found = run(readout_model(network(1, made)), {"readout/y": currents})["value/y"]
    assert_same_bits(found, host_readout(made, currents))
    assert (found == 0).any()
    assert (np.abs(found[found != 0]) < 2.0**-1022).any()
