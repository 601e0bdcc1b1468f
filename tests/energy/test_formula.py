"""The papers' energy formula: by hand on a small network, and the papers' own table on theirs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest

from spikegen.energy import (
    Driven,
    FormulaLayer,
    Report,
    build_report,
    formula_ann_energy,
    formula_energy,
    implied_rate,
    program_layers,
)
from spikegen.lowering.formula_layers import formula_layers
from spikegen.lowering.trace import trace
from spikegen.models import UNetConfig, build_model
from spikegen.program import Conditioning, Conv, Dense, Input, Lif, Program, Readout, Relay, validate
from spikegen.program.tail import SwishTail
from spikegen.simulator import Simulator

# Published, per evaluation [mJ]: SDM (arXiv 2408.16467), CIFAR-10, 32x32x3
PUBLISHED = {"ANN": 29.23, 4: 10.97, 8: 22.96}
RATES = {4: 0.491, 8: 0.514}  # what the published figures imply
MJ = 1e9  # [pJ]
GIGA = 1e9


@pytest.fixture(scope="module")
def sddpm() -> tuple[FormulaLayer, ...]:
    """The convolutions of SDDPM's network at the size of the paper."""
    config = UNetConfig(
        image_size=32,
        channels=3,
        width=128,
        multipliers=(1, 2, 2, 4),
        blocks=2,
        middle_blocks=2,
        timesteps=1,
        neuron="hard-reset",
        tail="swish",
    )
    return formula_layers(trace(build_model(config), (3, 32, 32), 1, 1), rate=RATES[4])


def macs(layers: tuple[FormulaLayer, ...], driven: Driven) -> int:
    return sum(layer.macs for layer in layers if layer.driven is driven)


def test_the_layers_of_the_paper(sddpm: tuple[FormulaLayer, ...]) -> None:
    counts = {driven: sum(layer.driven is driven for layer in sddpm) for driven in Driven}
    assert counts == {Driven.IMAGE: 1, Driven.SPIKES: 51, Driven.REAL: 16}
    assert macs(sddpm, Driven.IMAGE) == 3 * 128 * 9 * 32 * 32
    shortcuts = [layer for layer in sddpm if "shortcut" in layer.name]
    tail = 3 * (128 + 3) * 9 * 32 * 32
    assert len(shortcuts) == 14
    assert {layer.driven for layer in shortcuts} == {Driven.REAL}
    assert macs(sddpm, Driven.REAL) == sum(layer.macs for layer in shortcuts) + tail
    assert macs(sddpm, Driven.SPIKES) / GIGA == pytest.approx(6.20, abs=0.005)
    assert (macs(sddpm, Driven.REAL) + macs(sddpm, Driven.IMAGE)) / GIGA == pytest.approx(0.280, abs=0.0005)
    assert sum(layer.macs for layer in sddpm) == 6_480_020_480


def test_the_published_energy_of_the_ann(sddpm: tuple[FormulaLayer, ...]) -> None:
    # The same graph: 6.48 GMAC. The published figure is 6.35 GMAC, 2 % less.
    assert formula_ann_energy(sddpm) / MJ == pytest.approx(29.81, abs=0.005)
    assert formula_ann_energy(sddpm) / MJ == pytest.approx(PUBLISHED["ANN"], rel=0.02)
    # A DDPM has one convolution in its stem, and no K behind its tail.
    ddpm = [layer for layer in sddpm if layer.name not in ("stem.2.0", "readout.mix")]
    assert len(ddpm) == len(sddpm) - 2
    assert formula_ann_energy(ddpm) / MJ == pytest.approx(PUBLISHED["ANN"], rel=0.005)


@pytest.mark.parametrize("timesteps", [4, 8])
def test_the_published_energy_of_the_spiking_network(sddpm: tuple[FormulaLayer, ...], timesteps: int) -> None:
    rate, published = RATES[timesteps], PUBLISHED[timesteps]
    layers = [dataclasses.replace(layer, rate=rate) for layer in sddpm]
    energy = formula_energy(layers, timesteps)
    assert energy.formula / MJ == pytest.approx(published, abs=0.02)
    assert implied_rate(sddpm, timesteps, published * MJ) == pytest.approx(rate, abs=0.0005)
    assert energy.image / MJ == pytest.approx(3.538944e6 * 4.6 / MJ)  # once, not T times
    # 14 shortcuts and the tail: 0.276 GMAC at each timestep
    assert energy.real / MJ == pytest.approx(0.2762 * timesteps * 4.6, abs=0.01)
    if timesteps == 4:
        assert energy.with_real / MJ == pytest.approx(16.05, abs=0.02)
        assert energy.with_real / formula_ann_energy(sddpm) == pytest.approx(0.54, abs=0.005)


@pytest.fixture
def program() -> Program:
    """An image of 4 pixels, a relay, and a tail on the host."""
    tail = SwishTail(
        norm_scale=np.ones(1),
        norm_shift=np.zeros(1),
        weight=np.ones((2, 1, 3, 3)),
        bias=np.zeros(2),
        gains=np.ones(2),
        mix_weight=np.ones((2, 2, 3, 3)),
        mix_bias=np.zeros(2),
    )
    found = Program(
        name="tiny",
        timesteps=2,
        input=Input("in", (1, 2, 2), bits=4, scale=1.0),
        populations=(
            Lif("a", (1, 2, 2), vth=1, du=4095, dv=0, bias_mant=np.zeros(1, dtype=np.int16), bias_exp=0),
            Relay("r", (1, 2, 2), bits=8),
            Readout("out", (1, 4, 4), weights=np.ones(2), bias=np.zeros(1), tail=tail),
        ),
        projections=(
            Conv("in>a", "in", "a", np.full((1, 1, 1, 1), 2, dtype=np.int8), exponent=0),
            Conv("a>r", "a", "r", np.ones((1, 1, 3, 3), dtype=np.int8), exponent=0, padding=(1, 1)),
            Conv("r>out", "r", "out", np.ones((4, 1, 1, 1), dtype=np.int8), exponent=0, shuffle=2),
            Dense("a>out", "a", "out", np.ones((16, 4), dtype=np.int8), exponent=0, delay=1),
        ),
        conditioning=Conditioning(3),
    )
    validate(found)
    return found


@pytest.fixture
def run(program: Program) -> Report:
    """Three diffusion steps of two images: half of the pixels make their neuron fire at both timesteps."""
    frames = np.array([[[[1, 0], [0, 2]]], [[[0, 3], [1, 0]]]], dtype=np.int32)
    with Simulator(program) as simulator:
        return build_report(program, [(step, simulator.evaluate(frames, step).counts) for step in (2, 1, 0)])


def test_a_program_by_hand(program: Program, run: Report) -> None:
    assert {layer.name: (layer.macs, layer.driven, layer.rate) for layer in program_layers(program, run.total)} == {
        "in>a": (4, Driven.IMAGE, 0.0),
        "a>r": (4 * 9, Driven.SPIKES, 0.5),  # taps on padding counted
        "r>out": (16, Driven.REAL, 0.0),  # 4 channels of 2 x 2 pixels become 1 of 4 x 4
        "a>out": (64, Driven.SPIKES, 0.5),
        "out, tail": ((2 * 9 + 2 * 2 * 9) * 16, Driven.REAL, 0.0),
    }
    energy = run.formula()
    assert energy.image == pytest.approx(4 * 4.6)
    assert energy.spikes == pytest.approx(0.5 * 2 * (36 + 64) * 0.9)
    assert energy.real == pytest.approx(2 * (16 + 864) * 4.6)
    assert energy.formula == pytest.approx(18.4 + 90)
    assert energy.with_real == pytest.approx(18.4 + 90 + 8096)


def test_a_sample_is_as_many_evaluations_as_there_are_steps(run: Report) -> None:
    document = json.loads(json.dumps(run.to_dict(), allow_nan=False))["formula"]
    assert "arXiv 2306.17046" in document["source"]
    assert document["per_evaluation"]["formula_pj"] == pytest.approx(108.4)
    assert document["per_sample"]["formula_pj"] == pytest.approx(3 * 108.4)
    assert document["per_sample"]["with_real_pj"] == pytest.approx(3 * (108.4 + 8096))
    for name, part in document["per_evaluation"].items():
        assert document["per_sample"][name] == pytest.approx(3 * part)


@pytest.mark.parametrize("evaluate", [formula_ann_energy, lambda layers: formula_energy(layers, 4).formula])
def test_layers_may_be_any_iterable(evaluate: Callable[[object], float]) -> None:
    layers = [FormulaLayer("a", 10, Driven.IMAGE), FormulaLayer("b", 20, Driven.SPIKES, 0.25)]
    assert evaluate(iter(layers)) == evaluate(layers) > 0
