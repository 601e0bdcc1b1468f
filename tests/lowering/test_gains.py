"""Gains per timestep in a Program: integer payloads, and biases that change over time through the clock."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from spikegen.lowering import InputFormat, lower
from spikegen.lowering.calibrate import Calibration, record_spikes
from spikegen.models.coding import DirectCoding
from spikegen.models.gain import TemporalGain
from spikegen.models.hard_reset import HardResetNeuron
from spikegen.models.readouts import MembraneReadout
from spikegen.program import Lif, Program, overflow_risks
from spikegen.runtime import host_readout
from spikegen.simulator import Simulator
from spikegen.verification import SlayerTarget
from tests.lowering.graphs import images_for
from tests.lowering.reference import model_spikes

T = 4
SHAPE = (1, 6, 6)
UNIT = 1 / 64
FIRST, SECOND, LAST = (1.0, 2.0, 1.0, 3.0), (2.0, 1.0, -1.0, 2.0), (1.0, 0.0, 2.0, 1.0)


class Gained(nn.Sequential):
    """Two neuron layers and a readout, each behind a convolution with gains."""

    def __init__(self, *gains: tuple[float, ...]) -> None:
        layers: list[nn.Module] = [DirectCoding(T)]
        for index, (values, channels) in enumerate(zip(gains, ((1, 3), (3, 4), (4, 2)), strict=True)):
            gain = TemporalGain(T)
            gain.gains.data = torch.tensor(values)
            layers += [nn.Conv2d(*channels, 3, padding=1), gain]
            layers.append(HardResetNeuron(T, 2.0) if index < 2 else MembraneReadout(T, 0.5))
        super().__init__(*layers)


def on_grid(model: nn.Module) -> nn.Module:
    """Weights even multiples of UNIT, biases multiples of 4 UNIT."""
    rng = np.random.default_rng(0)
    convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    for conv, unit in zip(convs, (8 * UNIT, UNIT, UNIT), strict=True):
        mantissas = rng.integers(-12, 13, tuple(conv.weight.shape))
        mantissas.flat[0] = 127
        conv.weight.data = torch.from_numpy(mantissas * 2 * unit).float()
        assert conv.bias is not None
        conv.bias.data = torch.from_numpy(rng.integers(-30, 31, len(conv.bias)) * 4 * unit).float()
    return model.eval()


def lowered(model: nn.Module, payload_bits: int = 4) -> tuple[Program, np.ndarray]:  # type: ignore[type-arg]
    images = images_for(np.random.default_rng(1), SHAPE, count=6).clip(-15 / 8, 15 / 8)
    data = Calibration(images[:3], np.zeros(3, dtype=np.int64))
    program = lower(model, SHAPE, T, 1, data, input_format=InputFormat(4, 15 / 8), payload_bits=payload_bits)
    return program, images


def test_a_network_on_an_integer_grid_is_reproduced_exactly() -> None:
    model = on_grid(Gained(FIRST, SECOND, LAST))
    program, images = lowered(model)
    assert [row["relative_error"] for row in program.report["quantisation"]] == [0.0] * 4
    assert [row.get("payload_bits") for row in program.report["quantisation"]] == [None, 2, 2, 2]
    assert [row.get("gain_error") for row in program.report["quantisation"]] == [None, 0.0, 0.0, 0.0]
    found = Simulator(program).evaluate(program.input.quantize(images), 0, record=True)
    spikes, output = model_spikes(model, images)
    for name, sent in spikes.items():
        assert 0.05 < float(sent.mean()) < 0.95
        np.testing.assert_array_equal(found.messages[name], sent.numpy(), err_msg=name)
    (readout,) = program.readouts()
    np.testing.assert_allclose(host_readout(readout, found.readouts[readout.name]), output.numpy(), rtol=0, atol=1e-12)
    again = SlayerTarget(program).evaluate(program.input.quantize(images), 0, record=True)
    for name, messages in found.messages.items():
        np.testing.assert_array_equal(again.messages[name], messages, err_msg=name)


def test_spikes_of_hard_reset_neurons_are_recorded() -> None:
    model = on_grid(Gained(FIRST, SECOND, LAST))
    images = images_for(np.random.default_rng(1), SHAPE, count=2)
    recorded, output = record_spikes(model, Calibration(images, np.zeros(2, dtype=np.int64)))
    spikes, expected = model_spikes(model, images)
    assert recorded.keys() == spikes.keys() == {"3", "6"}
    for name, sent in recorded.items():
        np.testing.assert_array_equal(sent, spikes[name].numpy())
    np.testing.assert_allclose(output, expected.numpy(), rtol=0, atol=1e-4)  # float32 and float64


def test_gains_that_round_to_one_are_left_out() -> None:
    ones = (1.0, 1.0, 1.0, 1.0)
    program, _ = lowered(on_grid(Gained(ones, SECOND, ones)))
    gains = {p.target: p.gains.tolist() for p in program.projections if not p.source.startswith("clock")}
    assert gains == {"3": [], "6": [2, 1, -1, 2], "9": []}
    assert [p.source for p in program.projections if p.source.startswith("clock")] == ["clock:6x6"]


def random_gains(spread: float) -> list[tuple[float, ...]]:
    rng = np.random.default_rng(0)
    return [tuple((1 + spread * rng.uniform(-1, 1, T)).tolist()) for _ in range(3)]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_payloads_keep_to_their_bits(bits: int) -> None:
    program, _ = lowered(on_grid(Gained(*random_gains(0.5))), bits)
    largest = max(int(np.abs(p.gains).max(initial=1)) for p in program.projections)
    assert largest < 1 << bits
    assert overflow_risks(program) == []
    for row in program.report["quantisation"][1:]:
        assert 1 <= row["payload_bits"] <= bits
        assert 0 < row["gain_error"] < {1: 0.2, 2: 0.05, 4: 0.05}[bits]


def test_gains_near_one_another_are_split_into_what_stays_and_what_changes() -> None:
    values = random_gains(0.1)
    program, images = lowered(on_grid(Gained(*values)))
    for target, source, gains in zip(("3", "6", "9"), ("input", "3", "6"), values, strict=True):
        steady, change = (p for p in program.into(target) if p.source == source)
        assert (steady.name, steady.gains.size) == (f"{source}->{target}", 0)
        assert change.name == f"{source}->{target}:gains"
        whole = steady.weight.astype(np.int64) << steady.exponent
        part = change.weight.astype(np.int64) << change.exponent
        found = whole.ravel() + np.multiply.outer(change.gains, part.ravel())
        wanted = np.multiply.outer(gains, whole.ravel() / (max(gains) + min(gains)) * 2)
        assert np.linalg.norm(found - wanted) < 0.02 * np.linalg.norm(wanted)
    for row in program.report["quantisation"][1:]:
        assert row["gain_error"] < 0.02
    found_output = Simulator(program).evaluate(program.input.quantize(images), 0)
    again = SlayerTarget(program).evaluate(program.input.quantize(images), 0)
    for name, current in found_output.readouts.items():
        np.testing.assert_array_equal(again.readouts[name], current, err_msg=name)


def test_what_changes_little_does_not_choose_the_scale() -> None:
    """A scale at which 0.3 % of the weights fill 8 bits would leave the rest no room."""
    program, _ = lowered(on_grid(Gained(*random_gains(0.003))))
    assert [p.name for p in program.projections if p.name.endswith(":gains")]
    assert max(row["relative_error"] for row in program.report["quantisation"]) < 0.005


def test_gains_of_both_signs_stay_one_payload() -> None:
    mixed = (1.0, -0.83, 0.4, 1.21)
    program, _ = lowered(on_grid(Gained(mixed, mixed, mixed)))
    assert not [p.name for p in program.projections if p.name.endswith(":gains")]
    assert all(p.gains.size for p in program.projections if not p.source.startswith("clock"))


def test_the_bias_of_a_readout_changes_on_the_host() -> None:
    model = on_grid(Gained(FIRST, SECOND, LAST))
    program, _ = lowered(model)
    (readout,) = program.readouts()
    bias = model.get_submodule("7").bias
    assert isinstance(bias, torch.Tensor)
    expected = np.array(LAST)[:, None] * bias.detach().double().numpy()
    np.testing.assert_allclose(readout.bias, expected, rtol=0, atol=1e-9)
    assert not any(p.source.startswith("clock") for p in program.into(readout.name))


def test_the_clock_comes_first_and_hears_nothing() -> None:
    program, _ = lowered(on_grid(Gained(FIRST, SECOND, LAST)))
    first = program.populations[0]
    assert isinstance(first, Lif)
    assert (first.name, first.shape, program.into(first.name)) == ("clock:6x6", (T - 1, 6, 6), ())
