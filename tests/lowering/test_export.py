"""A checkpoint folder becomes a pipeline that says where it comes from."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from spikegen.errors import CheckpointError, ConfigError
from spikegen.lowering import export_checkpoint
from spikegen.lowering.export import export_model
from spikegen.lowering.parts import diffusion_steps, network_parts
from spikegen.models import (
    Checkpoint,
    SpikingDiffusion,
    SpikingDiffusionConfig,
    SpikingUNet,
    UNetConfig,
    save_checkpoint,
)
from spikegen.models.gain import TemporalGain
from spikegen.models.vqsvae import PIXEL_SCALE
from spikegen.program import ImageDiffusion, TokenDiffusion, digest, validate_pipeline
from spikegen.training.datasets import load_images, split

CONFIG = UNetConfig(image_size=8, width=4, timesteps=2, diffusion_steps=20)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "tiny", Checkpoint(SpikingUNet(CONFIG).eval(), "linear", "digits", {}))
    return tmp_path / "tiny"


def test_a_checkpoint_folder_is_exported_with_its_provenance(checkpoint: Path) -> None:
    stages: list[str] = []
    exported = export_checkpoint(checkpoint, 3, stages.append, input_bits=6, noisy_range=3.0)
    validate_pipeline(exported)
    (denoiser,) = exported.networks.values()
    assert isinstance(exported.host, ImageDiffusion)
    assert exported.host.beta_schedule == "linear"
    assert len(stages) == 6
    assert (denoiser.input.bits, denoiser.input.scale) == (6, 3.0 / 63)
    assert exported.name == "tiny"
    assert exported.provenance["checkpoint"] == str(checkpoint)
    assert exported.provenance["calibration_seed"] == "3"
    assert len(exported.provenance["checkpoint_digest"]) == 64
    again = export_checkpoint(checkpoint, 3, input_bits=6, noisy_range=3.0)
    assert digest(again) == digest(exported)


def test_gains_of_a_checkpoint_keep_to_the_payload_bits_that_are_asked_for(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SpikingUNet(dataclasses.replace(CONFIG, neuron="hard-reset", tail="swish", tsm=True)).eval()
    for module in model.modules():
        if isinstance(module, TemporalGain):
            module.gains.data = (torch.rand(2) + 0.5) * torch.tensor([1.0, -1.0])  # of both signs: one payload
    save_checkpoint(tmp_path, Checkpoint(model, "linear", "digits", {}))
    program = export_checkpoint(tmp_path, payload_bits=2).network("denoiser")
    assert max(int(abs(p.gains).max()) for p in program.projections if p.gains.size) in {2, 3}
    assert max(row.get("payload_bits", 0) for row in program.report["quantisation"]) == 2


def test_a_checkpoint_of_an_unknown_data_set_is_refused(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"dataset": "faces"}))
    with pytest.raises(ConfigError, match="unknown data set 'faces'"):
        export_checkpoint(checkpoint)


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such checkpoint folder"):
        export_checkpoint(tmp_path / "nowhere")


def tokens_checkpoint(held_out: object) -> Checkpoint:
    """An untrained model of tokens on the digits."""
    torch.manual_seed(0)
    config = SpikingDiffusionConfig(widths=(3, 4), latent=2, codes=5, denoiser_widths=(3, 4), timesteps=2)
    return Checkpoint(SpikingDiffusion(config).eval(), "absorbing", "digits", {"held_out": held_out})


def test_a_model_of_tokens_becomes_three_networks_and_a_codebook() -> None:
    checkpoint = tokens_checkpoint(297)
    stages: list[str] = []
    exported = export_model(checkpoint, "tokens", on_stage=stages.append)
    validate_pipeline(exported)
    assert list(exported.networks) == ["encoder", "denoiser", "decoder"]
    assert {stage.split(":")[0] for stage in stages} == set(exported.networks)
    assert isinstance(exported.host, TokenDiffusion)
    assert (exported.host.steps, exported.host.pixel_scale) == (16, PIXEL_SCALE)
    assert isinstance(checkpoint.model, SpikingDiffusion)
    np.testing.assert_array_equal(exported.host.codebook, checkpoint.model.autoencoder.codebook.detach().numpy())
    assert exported.provenance["held_out"] == "297"
    denoiser = exported.network("denoiser").input
    assert (denoiser.scale, denoiser.low.tolist(), denoiser.high.tolist()) == (1.0, [0, 1], [5, 16])


@pytest.mark.parametrize("held_out", [297, 0, None, -3, "297"])
def test_no_held_out_image_is_used_for_calibration(held_out: object) -> None:
    parts = network_parts(tokens_checkpoint(held_out), [1, 8], 150, seed=0)
    used = parts["encoder"].data.images[:, 0].reshape(300, -1) / PIXEL_SCALE
    trained, others = (side[:].reshape(len(side), -1) for side in split(load_images("digits"), 297))
    seen = {image.tobytes() for image in used.astype(np.float32)}
    assert len(seen) > 100
    assert seen <= {image.tobytes() for image in np.concatenate([trained, others])}
    assert bool(seen & {image.tobytes() for image in others}) == (held_out != 297)


def test_the_denoiser_is_calibrated_on_grids_masked_as_its_steps_say() -> None:
    checkpoint = tokens_checkpoint(297)
    assert diffusion_steps(checkpoint, (0.0, 0.5, 1.0)) == [1, 8, 16]
    inputs = network_parts(checkpoint, [1, 16], 100, seed=0)["denoiser"].data.images
    masked = (inputs[:, 0] == 5).reshape(2, -1).mean(axis=1)
    assert inputs[:100, 1].tolist() == np.ones((100, 4, 4)).tolist()
    assert inputs[100:, 1].tolist() == np.full((100, 4, 4), 16).tolist()
    assert 0.02 < masked[0] < 0.12  # 1 / 16
    assert masked[1] == 1.0
    with pytest.raises(ConfigError, match=r"diffusion step 0: the denoiser has steps 1\.\.16"):
        network_parts(checkpoint, [0], 1, seed=0)
