"""Threshold guidance: what a scaled Program computes, and what is refused."""

from __future__ import annotations

import dataclasses
import re
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from spikegen.errors import ConfigError
from spikegen.program import (
    Conditioning,
    Conv,
    ImageDiffusion,
    Input,
    Lif,
    Pipeline,
    Program,
    Readout,
    Standalone,
    overflow_risks,
)
from spikegen.program.threshold import guided, nearest_scales, scale_thresholds
from spikegen.simulator import Simulator

SHAPE = (2, 3, 3)
TIMESTEPS = 6


def network(vth: int, weight: int = 40, dv: int = 0, bias_exp: int = 1) -> Program:
    """An IF population on a graded input, with a bias and conditioning, and a readout of its spikes."""
    rng = np.random.default_rng(3)
    weights = rng.integers(-weight, weight + 1, (2, 1, 3, 3)).astype(np.int8)
    identity = np.eye(2, dtype=np.int8)[:, :, None, None]
    return Program(
        "threshold",
        TIMESTEPS,
        Input("input", (1, 3, 3), 2, 1.0),
        (
            Lif("fires", SHAPE, vth, 4095, dv, np.array([70, -41], np.int16), bias_exp, scale=0.25),
            Readout("out", SHAPE, np.full(TIMESTEPS, 1 / TIMESTEPS), np.zeros(2)),
        ),
        (
            Conv("input->fires", "input", "fires", weights, 1, padding=(1, 1)),
            Conv("fires->out", "fires", "out", identity, 0),
        ),
        Conditioning(2, {"fires": np.array([[0, 0], [9, -5]], np.int16)}),
    )


def frames(seed: int = 0) -> npt.NDArray[np.int32]:
    return np.random.default_rng(seed).integers(-3, 4, (20, 1, 3, 3)).astype(np.int32)


def spikes(program: Program, step: int) -> npt.NDArray[np.int32]:
    return Simulator(program).evaluate(frames(), step, record=True).messages["fires"]


def exact_spikes(program: Program, threshold: Fraction, step: int) -> npt.NDArray[np.int32]:
    """The population of ``program`` with a threshold that need not be an integer, one neuron at a time."""
    lif = program.populations[0]
    if not isinstance(lif, Lif):
        raise TypeError(lif)
    silent = dataclasses.replace(program, populations=(dataclasses.replace(lif, vth=131071), program.populations[1]))
    readable = dataclasses.replace(
        silent,
        populations=(Readout("fires", SHAPE, np.ones(TIMESTEPS), np.zeros(2)),),
        projections=program.projections[:1],
        conditioning=Conditioning(2),
    )
    current = Simulator(readable).evaluate(frames(), step).readouts["fires"]
    bias = program.bias_mant(lif, step) << lif.bias_exp
    result = np.zeros_like(current)
    for n, c, y, x in np.ndindex(len(current), *SHAPE):
        membrane = Fraction(0)
        for t in range(TIMESTEPS):
            membrane += int(current[n, t, c, y, x]) + Fraction(int(bias[c]), 64)
            if membrane > threshold:
                result[n, t, c, y, x], membrane = 1, Fraction(0)
    return result


@pytest.mark.parametrize("factor", [0.997, 0.999, 1.001, 1.003, 0.95])
@pytest.mark.parametrize("step", [0, 1])
def test_neurons_fire_at_the_scaled_threshold(factor: float, step: int) -> None:
    program = network(vth=150)
    scaled = scale_thresholds(program, factor)
    assert not overflow_risks(scaled)
    before, after = program.populations[0], scaled.populations[0]
    assert isinstance(before, Lif)
    assert isinstance(after, Lif)
    bits = after.bias_exp - before.bias_exp
    realized = Fraction(after.vth, 1 << bits)
    assert abs(float(realized / before.vth) - factor) <= abs(factor - 1) / 2
    assert realized != before.vth
    assert after.scale == before.scale / 2**bits
    np.testing.assert_array_equal(spikes(scaled, step), exact_spikes(program, realized, step))


def test_a_finer_threshold_decides_otherwise_where_a_membrane_lies_between() -> None:
    program = network(vth=150)
    changed = [np.sum(spikes(program, 0) != spikes(scale_thresholds(program, factor), 0)) for factor in (0.95, 1.05)]
    assert min(changed) > 0


def test_no_more_bits_than_needed() -> None:
    coarse = scale_thresholds(network(vth=150), 0.9).populations[0]
    assert isinstance(coarse, Lif)
    assert (coarse.vth, coarse.bias_exp) == (135, 1)


def test_a_scale_of_1_changes_nothing() -> None:
    program = network(vth=150)
    assert scale_thresholds(program, 1.0) is program


def test_a_refusal_names_the_population_and_scales_that_are_possible() -> None:
    program = network(vth=150, dv=100)  # it leaks, so there is no finer grid
    with pytest.raises(ConfigError, match=r"fires: threshold 150 times 0\.999 is 149\.85, the nearest integer is 150"):
        scale_thresholds(program, 0.999)
    with pytest.raises(ConfigError, match=r"too coarse for a scale of 0\.999") as caught:
        scale_thresholds(program, 0.999)
    named = re.findall(r"scales are ([0-9.]+) and ([0-9.]+)", str(caught.value))
    below, above = map(float, named[0])
    assert below < 0.999 < above
    assert nearest_scales(program, 0.999) == pytest.approx([below, above], abs=1e-9)
    for scale in (below, above):
        scaled = scale_thresholds(program, scale).populations[0]
        assert isinstance(scaled, Lif)
        assert scaled.vth != 150
    with pytest.raises(ConfigError, match="too coarse"):
        scale_thresholds(program, below + 0.0001)


def test_the_limits_of_the_finer_grid() -> None:
    exponents = tuple(dataclasses.replace(p, exponent=4) for p in network(vth=150).projections)
    heavy = dataclasses.replace(network(vth=150), projections=exponents)
    assert not overflow_risks(heavy)
    for refused in (network(vth=150, bias_exp=7), heavy):
        with pytest.raises(ConfigError, match="too coarse"):
            scale_thresholds(refused, 0.999)


@pytest.mark.parametrize("factor", [0.0, -1.0, 0.49, 1.51, float("nan"), float("inf")])
def test_a_scale_out_of_range(factor: float) -> None:
    with pytest.raises(ConfigError, match=r"allowed 0\.5\.\.1\.5"):
        scale_thresholds(network(vth=150), factor)


def test_a_clock_keeps_its_threshold() -> None:
    program = network(vth=150)
    clock = Lif("clock", (1, 3, 3), 3, 4095, 0, np.array([64], np.int16), 0)
    weight = np.ones((2, 1, 1, 1), np.int8)
    clocked = dataclasses.replace(
        program,
        populations=(clock, *program.populations),
        projections=(*program.projections, Conv("clock->fires", "clock", "fires", weight, 1)),
    )
    scaled = scale_thresholds(clocked, 0.997)
    assert scaled.populations[0] is clock
    assert [p.exponent for p in scaled.projections if p.target == "out"] == [0]


def test_a_pipeline() -> None:
    program = network(vth=150)
    pipeline = Pipeline("digits", ImageDiffusion(noise_power=np.ones(2)), {"denoiser": program})
    scaled = guided(pipeline, 0.997)
    assert scaled.provenance["threshold_scale"] == "0.997"
    assert scaled.network("denoiser").report["threshold_scale"] == 0.997
    assert isinstance(scaled.host, ImageDiffusion)
    assert not scaled.host.noise_power.size
    assert guided(pipeline, 1.0) is pipeline
    with pytest.raises(ConfigError, match="has no denoiser"):
        guided(Pipeline("chain", Standalone(), {"network": program}), 0.997)
