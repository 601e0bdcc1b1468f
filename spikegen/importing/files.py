"""The tensors of a checkpoint that strangers wrote: nothing in the file is run, and no size in it is believed."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from spikegen.errors import CheckpointError

FILE_BYTES_MAX = 1 << 32
ZIP_MAGIC = b"PK\x03\x04"  # what torch.save writes since version 1.6
# The entries under which training scripts save weights, the first one found is taken. SDDPM and SDM write "net_model",
# and "ema_model" beside it where the weights were averaged (`main_SDDPM.py`, `SDM/sample.py`, which load "net_model").
ENTRIES = ("net_model", "state_dict", "model", "ema_model")
PARALLEL = "module."  # what torch.nn.DataParallel puts before every name
# What reading a damaged or hostile archive was seen, or is documented, to raise.
_DAMAGE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    Warning,
)


@dataclass(frozen=True)
class StateFile:
    """The state_dict of one network.

    Attributes:
        path: the file.
        entry: under which name the file holds it, "" where the file is the state_dict.
        tensors: name -> tensor, of any type, without the prefix of DataParallel.
        digest: SHA-256 of the file.
    """

    path: Path
    entry: str
    tensors: Mapping[str, Tensor]
    digest: str

    @property
    def record(self) -> dict[str, str]:
        """What a training record says of it."""
        return {"file": self.path.name, "entry": self.entry, "sha256": self.digest}


def read_state(path: Path, entry: str | None = None) -> StateFile:
    """The state_dict in ``path``: a file of ``torch.save``, read without running code, or .safetensors.

    Args:
        path: the file, at most :data:`FILE_BYTES_MAX` bytes.
        entry: under which name it holds the state_dict; None: it is the state_dict, or one of :data:`ENTRIES` is.

    Raises:
        CheckpointError: no such file, too large, truncated, with objects that are no tensors, or no state_dict.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file")
    size = path.stat().st_size
    if size > FILE_BYTES_MAX:
        raise CheckpointError(f"{path}: {size} bytes, limit is {FILE_BYTES_MAX}")
    try:
        with path.open("rb") as file:
            start = file.read(len(ZIP_MAGIC))
            file.seek(0)
            digest = _sha256(file)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_archive(path, start)
    entry, tensors = _state_dict(path, content, entry)
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > size:
        raise CheckpointError(f"{path}: its tensors claim more bytes than the file has ({size}): damaged")
    return StateFile(path, entry, tensors, digest)


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _read_safetensors(path: Path) -> Any:
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file (truncated or damaged): {error}") from error


def _read_archive(path: Path, start: bytes) -> Any:
    if start != ZIP_MAGIC:
        # torch.load would take it for the format before 1.6, which weights_only does not make safe (CVE-2025-32434).
        raise CheckpointError(
            f"{path}: not a checkpoint of torch.save since PyTorch 1.6, nor .safetensors; "
            "load an older file where you trust it, and save its state_dict again"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a TorchScript archive warns before torch would run it
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        reason = str(error).rpartition("WeightsUnpickler error:")[2].strip()
        raise CheckpointError(
            f"{path}: holds more than tensors and numbers ({reason}), which could run code when it is read; "
            "save the state_dict alone"
        ) from error
    except _DAMAGE as error:
        raise CheckpointError(
            f"{path}: not a readable file of torch.save (truncated, damaged or a TorchScript archive): {error}"
        ) from error


def _state_dict(path: Path, content: Any, entry: str | None) -> tuple[str, dict[str, Tensor]]:
    """The state_dict in ``content``, and the entry it was in."""
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds one {type(content).__name__}, not a state_dict")
    if entry is not None and entry not in content:
        raise CheckpointError(f"{path}: has no entry {entry!r}; it has {', '.join(map(str, content))}")
    names = ENTRIES if entry is None else (entry,)
    entry = next((name for name in names if isinstance(content.get(name), Mapping)), "")
    state = content[entry] if entry else content
    others = [str(name) for name, value in state.items() if not (isinstance(name, str) and _is_plain(value))]
    if not state or others:
        found = f"{', '.join(others)} are no plain tensors" if others else "it is empty"
        raise CheckpointError(
            f"{path}: not a state_dict ({found}); if it is in an entry of the file, name it with --entry"
        )
    while all(name.startswith(PARALLEL) for name in state):
        state = {name.removeprefix(PARALLEL): tensor for name, tensor in state.items()}
    return entry, dict(state)


def _is_plain(value: Any) -> bool:
    """Numbers in memory; a file can hold sparse tensors and tensors without numbers too."""
    return isinstance(value, Tensor) and value.layout is torch.strided and value.device.type == "cpu"
