"""Whole networks in ONNX Runtime: equal messages and counts, identical samples."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from spikegen.diffusion import default_solver
from spikegen.exporters.onnx import network_model, readout_model
from spikegen.lowering import export_checkpoint
from spikegen.lowering.export import export_model
from spikegen.models import Checkpoint, SpikingUNet, UNetConfig
from spikegen.models.fsddim import FSDDIM, FSDDIMConfig
from spikegen.models.gain import TemporalGain
from spikegen.program import Lif, Pipeline, Program, Relay
from spikegen.program.storage import digest
from spikegen.runtime import Session, decode_tokens, encode_images, host_readout, lookup_decoder, open_target
from spikegen.simulator import Simulator
from tests.lava.networks import everything, frames, unet
from tests.onnx.comparison import assert_same_bits, compared, run


@pytest.fixture(scope="module")
def digits_unet() -> Pipeline:
    return export_checkpoint("digits-unet")


@pytest.fixture(scope="module")
def digits_vq() -> Pipeline:
    return export_checkpoint("digits-vq")


def untrained(model: SpikingUNet | FSDDIM, name: str) -> Pipeline:
    """The pipeline of a model whose BatchNorms have seen data."""
    with torch.no_grad():
        for _ in range(5):
            model(torch.randn(32, 1, 8, 8), torch.randint(20, (32,)))
    return export_model(Checkpoint(model.eval(), "squaredcos_cap_v2", "digits", {}), name)


@pytest.fixture(scope="module")
def tsm() -> Pipeline:
    """SDM's gains and the tail of SDDPM."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    config = UNetConfig(width=4, multipliers=(1, 2), timesteps=4, diffusion_steps=20, tsm=True, tail="swish")
    model = SpikingUNet(dataclasses.replace(config, neuron="hard-reset"))
    for module in model.modules():
        if isinstance(module, TemporalGain):
            module.gains.data = torch.from_numpy(rng.uniform(0.8, 1.2, 4)).float()
    return untrained(model, "tsm")


@pytest.fixture(scope="module")
def fsddim() -> Pipeline:
    torch.manual_seed(0)
    model = FSDDIM(FSDDIMConfig(width=4, multipliers=(1, 2), timesteps=4, diffusion_steps=20))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.fill_(0.8)  # enough for every population to fire
    return untrained(model, "fsddim")


def assert_lively(program: Program, steps: tuple[int, ...]) -> None:
    """Equal at several steps of the diffusion, where most populations fire."""
    for step in steps:
        found = compared(program, frames(program, 3, seed=step), step)
        spikes = [found.counts.events[p.name] for p in program.populations if isinstance(p, Lif)]
        assert np.count_nonzero(spikes) > len(spikes) / 2


def test_digits_unet(digits_unet: Pipeline) -> None:
    assert_lively(digits_unet.network("denoiser"), (0, 500, 999))


@pytest.mark.parametrize("role", ["encoder", "denoiser", "decoder"])
def test_digits_vq(digits_vq: Pipeline, role: str) -> None:
    assert_lively(digits_vq.network(role), (0,))


def test_tsm(tsm: Pipeline) -> None:
    program = tsm.network("denoiser")
    assert sum(bool(p.gains.size) for p in program.projections) > 5
    assert any(not program.into(p.name) for p in program.populations)  # a clock, for biases that change over time
    assert_lively(program, (0, 19))


def test_fsddim(fsddim: Pipeline) -> None:
    assert_lively(fsddim.network("denoiser"), (0, 19))


def test_what_the_host_makes_of_the_currents_of_tsm(tsm: Pipeline) -> None:
    """Behind the real tail, and its gains."""
    program = tsm.network("denoiser")
    (readout,) = program.readouts()
    assert readout.tail is not None
    currents = Simulator(program).evaluate(frames(program, 3), 7).readouts[readout.name]
    found = run(readout_model(program), {f"readout/{readout.name}": currents})[f"value/{readout.name}"]
    assert_same_bits(found, host_readout(readout, currents))


@pytest.mark.parametrize("unroll", [True, False])
@pytest.mark.parametrize("timesteps", [1, 5])
def test_every_feature(timesteps: int, unroll: bool) -> None:
    for program in (everything(timesteps), unet(timesteps)):
        assert any(isinstance(p, Relay) for p in program.populations)
        compared(program, frames(program, 4), 2, unroll=unroll)


def test_images_sampled_with_onnx_runtime_are_the_simulators(tsm: Pipeline, fsddim: Pipeline) -> None:
    for pipeline in (tsm, fsddim):
        results = {}
        for backend in ("onnx", "simulator"):
            with open_target(backend, pipeline.network("denoiser"), images=2) as target:
                session = Session(pipeline, target, default_solver(pipeline), steps=3, seed=0, images=3, batch=2)
                results[backend] = session.run()
        np.testing.assert_array_equal(results["onnx"].sample, results["simulator"].sample)
        assert results["onnx"].counts == results["simulator"].counts


def test_tokens_and_what_becomes_of_them_are_the_simulators(digits_vq: Pipeline) -> None:
    lookup = lookup_decoder(digits_vq)
    images = np.random.default_rng(0).uniform(-1, 1, (3, *digits_vq.network("encoder").input.shape))
    made = {}
    for backend in ("onnx", "simulator"):
        with open_target(backend, digits_vq.network("encoder"), images=2) as target:
            encoded = encode_images(digits_vq, target, images)
        with open_target(backend, digits_vq.network("denoiser"), images=2) as target:
            sampled = Session(digits_vq, target, default_solver(digits_vq), steps=3, seed=0, images=2).run()
        with open_target(backend, lookup.program, images=2) as target:
            decoded = decode_tokens(digits_vq, target, sampled.sample, lookup=lookup)
        made[backend] = (encoded, sampled, decoded)
    (encoded, sampled, decoded), expected = made["onnx"], made["simulator"]
    np.testing.assert_array_equal(encoded.tokens, expected[0].tokens)
    np.testing.assert_array_equal(encoded.latents, expected[0].latents)
    np.testing.assert_array_equal(sampled.sample, expected[1].sample)
    np.testing.assert_array_equal(decoded.images, expected[2].images)
    for found, wanted in zip((encoded.counts, decoded.counts), (expected[0].counts, expected[2].counts), strict=True):
        assert found == wanted
    assert sampled.counts == expected[1].counts


def test_a_model_says_what_it_was_made_of(digits_unet: Pipeline) -> None:
    program = digits_unet.network("denoiser")
    model = network_model(program)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["spikegen.digest"] == digest(program)
    assert properties["spikegen.steps"] == "1000"
    assert model.producer_name == "spikegen"
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
