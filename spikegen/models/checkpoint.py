"""Checkpoints: a folder with ``model.safetensors`` (float32 weights) and ``config.json``. No pickle is ever read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

import safetensors
import safetensors.torch
import torch

from spikegen.atomic import write_atomically
from spikegen.errors import CheckpointError, ConfigError
from spikegen.models.fsddim import FSDDIM, FSDDIMConfig
from spikegen.models.spiking_diffusion import SpikingDiffusion, SpikingDiffusionConfig
from spikegen.models.unet import SpikingUNet, UNetConfig

FORMAT, SCHEMA = "spikegen-checkpoint", 1
WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
CONFIG_BYTES_MAX = 1 << 20
WEIGHTS_BYTES_MAX = 1 << 32
SHIPPED = ("digits-unet", "digits-vq")
FIELDS = {
    "format": str,
    "schema": int,
    "architecture": str,
    "model": dict,
    "beta_schedule": str,
    "dataset": str,
    "training": dict,
}
Model: TypeAlias = SpikingUNet | FSDDIM | SpikingDiffusion
ModelConfig: TypeAlias = UNetConfig | FSDDIMConfig | SpikingDiffusionConfig
ARCHITECTURES: dict[str, tuple[type[Any], type[Any]]] = {
    "unet": (UNetConfig, SpikingUNet),
    "fsddim": (FSDDIMConfig, FSDDIM),
    "spiking-diffusion": (SpikingDiffusionConfig, SpikingDiffusion),
}


@dataclass(frozen=True)
class Checkpoint:
    """A trained model and what belongs to it.

    Attributes:
        model: the network in evaluation mode.
        beta_schedule: noise schedule it was trained with, "absorbing" for tokens.
        dataset: data set it was trained on.
        training: record of the training run (never needed to use the model).
        source: the name or path it was loaded from.
        digest: SHA-256 of the weights file.
    """

    model: Model
    beta_schedule: str
    dataset: str
    training: Mapping[str, Any]
    source: str = ""
    digest: str = ""


def architecture(config: ModelConfig) -> str:
    """The key of :data:`ARCHITECTURES` whose configuration ``config`` is."""
    return next(name for name, (kind, _) in ARCHITECTURES.items() if type(config) is kind)


def build_model(config: ModelConfig) -> Model:
    """A freshly initialised model of these sizes."""
    model: Model = ARCHITECTURES[architecture(config)][1](config)
    return model


def save_checkpoint(folder: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` into ``folder`` (made if missing), each file to a temporary name and then renamed."""
    folder = Path(folder)
    config = {
        "format": FORMAT,
        "schema": SCHEMA,
        "architecture": architecture(checkpoint.model.config),
        "model": dataclasses.asdict(checkpoint.model.config),
        "beta_schedule": checkpoint.beta_schedule,
        "dataset": checkpoint.dataset,
        "training": dict(checkpoint.training),
    }
    weights = {name: tensor.contiguous() for name, tensor in checkpoint.model.state_dict().items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / WEIGHTS_FILE, safetensors.torch.save(weights))
        write_atomically(folder / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())
    except OSError as error:
        raise CheckpointError(f"{folder}: the checkpoint cannot be written: {error.strerror or error}") from error


def locate(source: str | os.PathLike[str]) -> Path:
    """The folder of checkpoint ``source``: a shipped name (``digits-unet``) or a path."""
    if str(source) in SHIPPED:
        return Path(str(resources.files("spikegen.models"))) / "checkpoints" / str(source)
    folder = Path(source)
    if not folder.is_dir():
        raise CheckpointError(
            f"{source}: there is no such checkpoint folder, and it is no shipped model ({', '.join(SHIPPED)})"
        )
    return folder


def load_checkpoint(source: str | os.PathLike[str]) -> Checkpoint:
    """Load a checkpoint by path or shipped name; the model is in evaluation mode.

    Raises:
        CheckpointError: missing or damaged files, a pickle, unknown fields, or tensors that do not match the
            configuration.
    """
    folder = locate(source)
    config = _read_config(folder / CONFIG_FILE)
    config_type, model_type = ARCHITECTURES[config["architecture"]]
    try:
        sizes = {name: tuple(value) if isinstance(value, list) else value for name, value in config["model"].items()}
        sized = config_type(**sizes)
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE}: not a valid configuration: {error}") from error
    with torch.device("meta"):  # shapes only: nothing is allocated before the file turns out to hold such tensors
        expected = model_type(sized).state_dict()
    tensors, digest = _read_weights(folder / WEIGHTS_FILE, expected)
    model = model_type(sized)
    model.load_state_dict(tensors)
    model.eval()
    return Checkpoint(
        model,
        config["beta_schedule"],
        config["dataset"],
        config["training"],
        str(source),
        digest,
    )


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path}: the checkpoint has no {CONFIG_FILE}")
    if path.stat().st_size > CONFIG_BYTES_MAX:
        raise CheckpointError(f"{path}: {path.stat().st_size} bytes, a configuration has at most {CONFIG_BYTES_MAX}")
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT or config.get("schema") != SCHEMA:
        raise CheckpointError(f"{path}: not a {FORMAT} of schema {SCHEMA}")
    problems = [f"{key}: unknown field" for key in config.keys() - FIELDS.keys()]
    problems += [
        f"{key}: missing or not of type {kind.__name__}"
        for key, kind in FIELDS.items()
        if not isinstance(config.get(key), kind)
    ]
    if not problems and config["architecture"] not in ARCHITECTURES:
        problems.append(f"architecture: {config['architecture']!r} is unknown; known: {', '.join(ARCHITECTURES)}")
    if problems:
        raise CheckpointError(f"{path}: not a valid configuration:\n  - " + "\n  - ".join(sorted(problems)))
    return config


def _read_weights(path: Path, expected: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors of ``path``, which must have the names, shapes and types of ``expected``; and the file's SHA-256."""
    if not path.is_file():
        raise CheckpointError(f"{path}: the checkpoint has no {WEIGHTS_FILE}")
    if path.stat().st_size > WEIGHTS_BYTES_MAX:
        raise CheckpointError(f"{path}: {path.stat().st_size} bytes, limit is {WEIGHTS_BYTES_MAX}")
    data = path.read_bytes()
    if data[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise CheckpointError(
            f"{path}: this is a pickle (torch.save), which can run code when it is read; save it with safetensors"
        )
    try:
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file (truncated or damaged): {error}") from error
    problems = [f"{name}: missing" for name in expected.keys() - tensors.keys()]
    problems += [f"{name}: unknown" for name in tensors.keys() - expected.keys()]
    problems += [
        f"{name}: shape {tuple(tensors[name].shape)}, the configuration needs {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    problems += [
        f"{name}: type {tensors[name].dtype}, the configuration needs {tensor.dtype}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].dtype != tensor.dtype
    ]
    problems += [
        f"{name}: NaN or infinite values"
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]
    if problems:
        raise CheckpointError(
            f"{path}: the tensors do not match {CONFIG_FILE}:\n  - " + "\n  - ".join(sorted(problems))
        )
    return tensors, hashlib.sha256(data).hexdigest()
