"""Checkpoints: whole, damaged and hostile."""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from spikegen.errors import CheckpointError
from spikegen.models import Checkpoint, SpikingUNet, UNetConfig, load_checkpoint, save_checkpoint
from tests.models.folders import change_config, change_sizes, change_tensors, refusal

CONFIG = UNetConfig(image_size=4, width=2, multipliers=(1,), timesteps=2, diffusion_steps=5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    checkpoint = Checkpoint(SpikingUNet(CONFIG), "linear", "digits", {"iteration": 7})
    save_checkpoint(tmp_path / "saved", checkpoint)
    return tmp_path / "saved"


def test_a_saved_checkpoint_is_the_same(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    original = SpikingUNet(CONFIG)
    loaded = load_checkpoint(folder)
    assert not loaded.model.training
    assert loaded.model.config == CONFIG
    assert json.loads((folder / "config.json").read_text())["architecture"] == "unet"
    assert (loaded.beta_schedule, loaded.dataset) == ("linear", "digits")
    assert (loaded.training, loaded.source) == ({"iteration": 7}, str(folder))
    for name, tensor in original.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[name], tensor, rtol=0, atol=0)
    save_checkpoint(tmp_path / "again", loaded)
    assert load_checkpoint(tmp_path / "again").digest == loaded.digest
    assert len(loaded.digest) == 64


def test_loading_leaves_no_trace_of_the_random_weights(folder: Path) -> None:
    x, t = torch.randn(2, 1, 4, 4), torch.tensor([0, 4])
    torch.testing.assert_close(load_checkpoint(folder).model(x, t), load_checkpoint(folder).model(x, t), rtol=0, atol=0)


def test_a_missing_folder_or_file_is_named(folder: Path, tmp_path: Path) -> None:
    assert "there is no such checkpoint folder, and it is no shipped model (digits-unet, digits-vq)" in refusal(
        tmp_path / "no"
    )
    (folder / "model.safetensors").unlink()
    assert refusal(folder).endswith("the checkpoint has no model.safetensors")
    (folder / "config.json").unlink()
    assert refusal(folder).endswith("the checkpoint has no config.json")


@pytest.mark.parametrize("kept", [0, 1, 7, 100, -1])
def test_truncated_weights_are_refused(folder: Path, kept: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert "not a readable safetensors file (truncated or damaged)" in refusal(folder)


@pytest.mark.parametrize("claimed", [0, 2**32, 2**63 - 1])
def test_a_header_of_a_wrong_size_is_refused(folder: Path, claimed: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(claimed.to_bytes(8, "little") + path.read_bytes()[8:])
    assert "not a readable safetensors file" in refusal(folder)


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_refused_and_never_read(folder: Path, tmp_path: Path, zipped: bool) -> None:
    trace = tmp_path / "unpickled"
    torch.save({"weight": Hostile(trace)}, folder / "model.safetensors", _use_new_zipfile_serialization=zipped)
    assert "this is a pickle (torch.save), which can run code when it is read" in refusal(folder)
    assert not trace.exists()
    # the file would have run the command
    torch.load(folder / "model.safetensors", weights_only=False)
    assert trace.exists()


def test_tensors_that_do_not_match_the_configuration_are_all_named(folder: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["tail.1.weight"] = torch.zeros(2, 2, 3, 3)
        tensors["tail.1.bias"] = torch.tensor([float("nan")])
        tensors["stem.0.0.bias"] = torch.tensor([0.0, float("inf")])
        tensors["extra"] = torch.zeros(1)
        tensors["stem.2.0.bias"] = tensors["stem.2.0.bias"].double()
        del tensors["stem.0.0.weight"]

    change_tensors(folder, change)
    lines = refusal(folder).split("\n  - ")
    assert lines[0] == f"{folder / 'model.safetensors'}: the tensors do not match config.json:"
    assert lines[1:] == [
        "extra: unknown",
        "stem.0.0.bias: NaN or infinite values",
        "stem.0.0.weight: missing",
        "stem.2.0.bias: type torch.float64, the configuration needs torch.float32",
        "tail.1.bias: NaN or infinite values",
        "tail.1.weight: shape (2, 2, 3, 3), the configuration needs (1, 2, 3, 3)",
    ]


def test_a_configuration_of_other_sizes_is_refused(folder: Path) -> None:
    change_sizes(folder, width=4)
    assert "tail.1.weight: shape (1, 2, 3, 3), the configuration needs (1, 4, 3, 3)" in refusal(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
        ("\xff", "not a spikegen-checkpoint of schema 1"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "not a spikegen-checkpoint of schema 1"),
        ('{"format": "other", "schema": 1}', "not a spikegen-checkpoint of schema 1"),
        ('{"format": "spikegen-checkpoint", "schema": 2}', "not a spikegen-checkpoint of schema 1"),
        (" " * (1 << 20) + "{}", "a configuration has at most 1048576"),
    ],
    ids=["open", "empty", "no text", "deep", "list", "format", "schema", "large"],
)
def test_a_configuration_that_is_none_is_refused(folder: Path, text: str, message: str) -> None:
    data = text.encode("latin-1")
    (folder / "config.json").write_bytes(b'"\xff"' if text == "\xff" else data)
    found = refusal(folder)
    assert ("not valid JSON" if text == "\xff" else message) in found


def test_unknown_and_missing_fields_are_all_named(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["dataset"]
    (folder / "config.json").write_text(json.dumps(config | {"pickle": 1, "model": [], "beta_schedule": None}))
    lines = refusal(folder).split("\n  - ")
    assert lines[1:] == [
        "beta_schedule: missing or not of type str",
        "dataset: missing or not of type str",
        "model: missing or not of type dict",
        "pickle: unknown field",
    ]


def test_an_unknown_architecture_is_refused(folder: Path) -> None:
    change_config(folder, architecture="vae")
    assert "architecture: 'vae' is unknown; known: unet, fsddim, spiking-diffusion" in refusal(folder)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"depth": 3}, "unexpected keyword argument 'depth'"),
        ({"width": 2.0}, "width is 2.0"),
        ({"multipliers": 3}, "has no len()"),
        ({"multipliers": ["1"]}, "multipliers is"),
        ({"image_size": 3, "multipliers": [1, 1]}, "image_size is 3"),
    ],
)
def test_a_model_field_that_is_wrong_is_refused(folder: Path, sizes: dict[str, Any], message: str) -> None:
    change_sizes(folder, **sizes)
    found = refusal(folder)
    assert "config.json: not a valid configuration" in found
    assert message in found


@pytest.mark.parametrize(
    "sizes",
    [
        {"width": 10**9},
        {"timesteps": 10**9},
        {"diffusion_steps": 10**12},
        {"blocks": 10**9},
        {"multipliers": [1] * 10_000},
        # within every limit, and still terabytes of weights: refused by the shapes in the file
        {"width": 4096, "multipliers": [64]},
    ],
    ids=lambda sizes: next(iter(sizes)),
)
def test_absurd_sizes_are_refused_before_anything_is_built(folder: Path, sizes: dict[str, Any]) -> None:
    change_sizes(folder, **sizes)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    assert refusal(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB
    assert time.process_time() - start < 2


def test_a_folder_that_cannot_be_written_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"file/below: the checkpoint cannot be written: Not a directory"):
        save_checkpoint(tmp_path / "file" / "below", load_checkpoint(folder))


def test_a_write_that_fails_leaves_the_old_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = load_checkpoint(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CheckpointError, match="cannot be written: No space left on device"):
        save_checkpoint(folder, checkpoint)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
