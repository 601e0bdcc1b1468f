"""The passes in order: a valid Program that fires as SLAYER does on the same integers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from spikegen.errors import LoweringError
from spikegen.lowering import lower
from spikegen.lowering.calibrate import Calibration, noised
from spikegen.models import SpikingUNet, UNetConfig
from spikegen.models.neuron import import_cuba
from spikegen.program import Conv, ImageDiffusion, Lif, Pipeline, Program, digest, load, overflow_risks, save, validate
from spikegen.program.numerics import IntArray
from spikegen.simulator import Simulator
from spikegen.training import load_images

CONFIG = UNetConfig(image_size=8, width=4, timesteps=2, diffusion_steps=20)


@pytest.fixture(scope="module")
def model() -> SpikingUNet:
    """Random weights, BatchNorm statistics measured on noised digits."""
    torch.manual_seed(0)
    network = SpikingUNet(CONFIG)
    network.train()
    with torch.no_grad():
        for seed in range(20):
            data = noised(load_images("digits"), "linear", CONFIG.diffusion_steps, [0, 10, 19], 8, seed)
            network(torch.from_numpy(data.images).float(), torch.from_numpy(data.steps))
    return network.eval()


@pytest.fixture(scope="module")
def data() -> Calibration:
    return noised(load_images("digits"), "linear", CONFIG.diffusion_steps, [0, 10, 19], 4, 1)


@pytest.fixture(scope="module")
def program(model: SpikingUNet, data: Calibration) -> Program:
    return lower(model, (1, 8, 8), CONFIG.timesteps, CONFIG.diffusion_steps, data, name="tiny")


def test_the_program_is_valid_and_names_no_risk(program: Program) -> None:
    validate(program)
    assert overflow_risks(program) == []
    assert program.timesteps == CONFIG.timesteps
    assert program.conditioning.steps == CONFIG.diffusion_steps
    assert program.ann_macs > 0
    assert program.name == "tiny"


def test_a_saved_program_is_the_same(program: Program, tmp_path: Path) -> None:
    save(Pipeline("tiny", ImageDiffusion(), {"denoiser": program}), tmp_path / "tiny.h5")
    assert digest(load(tmp_path / "tiny.h5").networks["denoiser"]) == digest(program)


def slayer_spikes(program: Program, population: Lif, sent: Mapping[str, IntArray], step: int) -> IntArray:
    """lava-dl's neuron at scale 1, on the integer currents of torch's convolutions."""
    current = torch.zeros(())
    for conv in program.into(population.name):
        assert isinstance(conv, Conv)
        x = torch.from_numpy(sent[conv.source]).double().flatten(0, 1)
        weight = torch.from_numpy(conv.weight.astype(np.float64) * 2.0**conv.exponent)
        y = functional.conv2d(x, weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)
        current = current + functional.pixel_shuffle(y, conv.shuffle)
    bias = program.bias_mant(population, step).astype(np.float64) * 2.0**population.bias_exp / 64
    current = (current + torch.from_numpy(bias)[:, None, None]).unflatten(0, (-1, program.timesteps))
    decays = (population.du + 1) / 4096, population.dv / 4096
    layer = import_cuba().Neuron(float(population.vth), *decays, scale=1).double()
    return np.asarray(layer(current.movedim(1, -1)).movedim(-1, 1).detach().numpy(), dtype=np.int64)


def test_the_simulator_fires_as_slayer_does_on_the_same_integers(program: Program, data: Calibration) -> None:
    for step in np.unique(data.steps):
        frames = program.input.quantize(data.images[data.steps == step])
        sent = {
            name: messages.astype(np.int64)
            for name, messages in Simulator(program).evaluate(frames, int(step), record=True).messages.items()
        }
        for population in program.populations:
            if isinstance(population, Lif):
                spikes = slayer_spikes(program, population, sent, int(step))
                np.testing.assert_array_equal(sent[population.name], spikes, err_msg=population.name)


def test_every_neuron_layer_is_somewhere_in_the_program(model: SpikingUNet, program: Program) -> None:
    origins = {p.origin for p in program.populations if isinstance(p, Lif)}
    layers = {name for name, _ in model.named_modules() if name.endswith(("neuron1", "neuron2", "tail.0", "stem.1"))}
    assert origins <= layers | {name for name, _ in model.named_modules()}
    assert any(name in origins for name in layers)


def test_the_report_is_plain_json(program: Program) -> None:
    report = json.loads(json.dumps(program.report, allow_nan=False))
    assert set(report) == {"quantisation", "overflow_risks", "streams", "calibration"}
    assert report["calibration"]["inputs"] == report["calibration"]["offered"]
    assert report["streams"]
    for stream in report["streams"]:
        assert stream["relay"] == (stream["relay_operations"] < stream["composed_operations"])


def test_images_of_another_size_are_refused(model: SpikingUNet, data: Calibration) -> None:
    with pytest.raises(
        LoweringError, match=r"tiny: calibration images have shape \(1, 8, 8\), the model takes \(1, 16"
    ):
        lower(model, (1, 16, 16), 2, 20, data, name="tiny")


def test_a_forced_relay_is_reported_without_nan(data: Calibration) -> None:
    from tests.lowering.networks import Network, Plain, neuron

    torch.manual_seed(0)
    body = Plain(torch.nn.Conv2d(1, 2, 3, bias=False), torch.nn.Conv2d(2, 2, 3), neuron(0.25))
    some = dataclasses.replace(data, steps=data.steps % 4)
    (stream,) = lower(Network(body, 2), (1, 8, 8), 3, 4, some).report["streams"]
    assert (stream["relay"], stream["composed_operations"], stream["relay_operations"]) == (True, None, None)
