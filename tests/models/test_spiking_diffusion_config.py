"""Configurations and checkpoints of Spiking-Diffusion: kept whole, refused when they are not what they say."""

from __future__ import annotations

import dataclasses
import json
import resource
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from spikegen.errors import ConfigError
from spikegen.models import Checkpoint, SpikingDiffusion, SpikingDiffusionConfig, load_checkpoint, save_checkpoint
from tests.models.folders import change_config, change_sizes, change_tensors, refusal

CONFIG = SpikingDiffusionConfig(
    image_size=4, widths=(3, 2), strides=(2, 1), latent=4, codes=5, denoiser_widths=(3, 2), timesteps=2
)

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"image_size": 0}, r"\.image_size is 0; it must be an integer in 1\.\.1024"),
    ({"image_size": 8.0}, r"\.image_size is 8\.0; it must be an integer in 1\.\.1024"),
    ({"image_size": True}, r"\.image_size is True; it must be an integer in 1\.\.1024"),
    ({"image_size": 10**9}, r"\.image_size is 1000000000; it must be an integer in 1\.\.1024"),
    ({"channels": -1}, r"\.channels is -1; it must be an integer in 1\.\.1024"),
    ({"latent": None}, r"\.latent is None; it must be an integer in 1\.\.4096"),
    ({"codes": "64"}, r"\.codes is '64'; it must be an integer in 1\.\.4096"),
    ({"codes": 4097}, r"\.codes is 4097; it must be an integer in 1\.\.4096"),
    ({"codes": 1}, r"\.codes is 1; a token needs at least 2 code vectors"),
    ({"timesteps": 1025}, r"\.timesteps is 1025; it must be an integer in 1\.\.1024"),
    ({"widths": ()}, r"\.widths is \(\); it must be 1\.\.16 integers in 1\.\.4096"),
    ({"widths": (32, 0)}, r"\.widths is \(32, 0\); it must be 1\.\.16 integers in 1\.\.4096"),
    ({"widths": (32, 2.0)}, r"\.widths is \(32, 2\.0\); it must be"),
    ({"widths": (1,) * 10**6}, r"\.widths is \(1, 1, .*; it must be 1\.\.16 integers"),
    ({"strides": (2, 4)}, r"\.strides is \(2, 4\); it must be 1\.\.16 integers in 1\.\.3"),
    ({"strides": ("2", 1)}, r"\.strides is \('2', 1\); it must be"),
    ({"denoiser_widths": (4, 5000)}, r"\.denoiser_widths is \(4, 5000\); it must be 1\.\.16 integers in 1\.\.4096"),
    ({"neuron": "relu"}, r"\.neuron is 'relu'; it must be one of slayer, hard-reset"),
    ({"neuron": None}, r"\.neuron is None; it must be one of slayer, hard-reset"),
    ({"widths": (8,)}, " has 1 widths and 2 strides"),
    ({"strides": (2, 2, 2)}, " has 2 widths and 3 strides"),
    ({"image_size": 9}, r"\.image_size is 9; strides \(2, 1\) need a multiple of 2"),
    ({"strides": (3, 3)}, r"\.image_size is 8; strides \(3, 3\) need a multiple of 9"),
]


@pytest.mark.parametrize(("sizes", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_configuration_out_of_range_is_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^SpikingDiffusionConfig{message}") as refused:
        SpikingDiffusionConfig(**sizes)
    assert len(str(refused.value)) < 200


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    checkpoint = Checkpoint(SpikingDiffusion(CONFIG), "absorbing", "digits", {"iteration": 7})
    save_checkpoint(tmp_path / "saved", checkpoint)
    return tmp_path / "saved"


def test_a_saved_checkpoint_is_the_same(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    original = SpikingDiffusion(CONFIG)
    loaded = load_checkpoint(folder)
    assert isinstance(loaded.model, SpikingDiffusion)
    assert not loaded.model.training
    assert loaded.model.config == CONFIG
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == "spiking-diffusion"
    assert config["model"] == json.loads(json.dumps(dataclasses.asdict(CONFIG)))
    assert (loaded.beta_schedule, loaded.dataset) == ("absorbing", "digits")
    assert loaded.training == {"iteration": 7}
    assert original.state_dict().keys() == loaded.model.state_dict().keys()
    for name, tensor in original.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name
    save_checkpoint(tmp_path / "again", loaded)
    assert load_checkpoint(tmp_path / "again").digest == loaded.digest


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"depth": 3}, "unexpected keyword argument 'depth'"),
        ({"codes": 5.0}, "codes is 5.0; it must be an integer"),
        ({"widths": 3}, "widths is 3; it must be 1..16 integers in 1..4096"),
        ({"widths": None}, "widths is None; it must be"),
        ({"widths": "32"}, "widths is '32'; it must be"),
        ({"strides": ["2", 1]}, "strides is ('2', 1); it must be"),
        ({"widths": [[3], [2]]}, "widths is ([3], [2]); it must be"),
        ({"denoiser_widths": {"3": 2}}, "denoiser_widths is {'3': 2}; it must be"),
        ({"image_size": 5}, "image_size is 5; strides (2, 1) need a multiple of 2"),
    ],
    ids=str,
)
def test_a_model_field_that_is_wrong_is_refused(folder: Path, sizes: dict[str, Any], message: str) -> None:
    change_sizes(folder, **sizes)
    found = refusal(folder)
    assert "config.json: not a valid configuration" in found
    assert message in found


@pytest.mark.parametrize(
    "sizes",
    [
        {"codes": 10**9},
        {"latent": 10**12},
        {"timesteps": 10**9},
        {"image_size": 10**9},
        {"widths": [1] * 10_000, "strides": [1] * 10_000},
        {"denoiser_widths": [1] * 10_000},
        # within every limit, and still gigabytes of weights: refused by the shapes in the file
        {"codes": 4096, "latent": 4096, "widths": [4096] * 16, "strides": [1] * 16},
        {"denoiser_widths": [4096] * 16},
    ],
    ids=lambda sizes: f"{next(iter(sizes))} {str(next(iter(sizes.values())))[:12]}",
)
def test_absurd_sizes_are_refused_before_anything_is_built(folder: Path, sizes: dict[str, Any]) -> None:
    change_sizes(folder, **sizes)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    assert refusal(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB
    assert time.process_time() - start < 2


def test_the_weights_of_another_architecture_are_refused(folder: Path) -> None:
    change_config(folder, architecture="unet")
    assert "unexpected keyword argument" in refusal(folder)
    change_config(folder, architecture="unet", model={"image_size": 4, "width": 2, "multipliers": [1]})
    assert "autoencoder.codebook: unknown" in refusal(folder)


def test_tensors_that_do_not_match_the_configuration_are_all_named(folder: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["autoencoder.codebook"] = torch.zeros(5, 3)
        tensors["autoencoder.encoder.readout.alpha"] = torch.tensor(float("nan"))
        tensors["denoiser.head.bias"] = tensors["denoiser.head.bias"].double()
        tensors["denoiser.extra"] = torch.zeros(1)
        del tensors["autoencoder.decoder.head.weight"]

    change_tensors(folder, change)
    assert refusal(folder).split("\n  - ")[1:] == [
        "autoencoder.codebook: shape (5, 3), the configuration needs (5, 4)",
        "autoencoder.decoder.head.weight: missing",
        "autoencoder.encoder.readout.alpha: NaN or infinite values",
        "denoiser.extra: unknown",
        "denoiser.head.bias: type torch.float64, the configuration needs torch.float32",
    ]
