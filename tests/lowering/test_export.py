"""A checkpoint folder becomes a pipeline that says where it comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from spikegen.errors import CheckpointError, ConfigError
from spikegen.lowering import export_checkpoint
from spikegen.models import Checkpoint, SpikingUNet, UNetConfig, save_checkpoint
from spikegen.program import ImageDiffusion, digest, validate_pipeline

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


def test_a_checkpoint_of_an_unknown_data_set_is_refused(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"dataset": "faces"}))
    with pytest.raises(ConfigError, match="unknown data set 'faces'"):
        export_checkpoint(checkpoint)


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such checkpoint folder"):
        export_checkpoint(tmp_path / "nowhere")
