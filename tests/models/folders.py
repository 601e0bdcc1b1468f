"""Checkpoint folders that a test damages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from spikegen.errors import CheckpointError
from spikegen.models import load_checkpoint


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_sizes(folder: Path, **changes: Any) -> None:
    change_config(folder, model=json.loads((folder / "config.json").read_text())["model"] | changes)


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    change(tensors)
    (folder / "model.safetensors").write_bytes(safetensors.torch.save(tensors))


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as refused:
        load_checkpoint(folder)
    return str(refused.value)
