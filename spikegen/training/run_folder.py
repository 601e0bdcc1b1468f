"""The folder of a resumable run: its state, and one line of the log for every state that was saved."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from spikegen.atomic import write_atomically
from spikegen.errors import OutputError

STATE_FILE, LOG_FILE = "state.pt", "log.jsonl"
# What torch.load and load_state_dict raise on bytes that are no such state.
DAMAGE = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    EOFError,
    pickle.UnpicklingError,
)


def make_folder(folder: Path) -> None:
    """Make ``folder`` with its parents.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(folder, error) from error


def write_file(path: Path, data: bytes) -> None:
    """Write a file of the run, to a temporary name and then renamed.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        write_atomically(path, data)
    except OSError as error:
        raise _cannot_write(path.parent, error) from error


def save_state(folder: Path, state: Mapping[str, Any], iteration: int, loss: float) -> None:
    """Replace the state of the run and log its iteration and loss.

    Raises:
        OutputError: it cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_file(folder / STATE_FILE, buffer.getvalue())
    try:
        with (folder / LOG_FILE).open("a") as log:
            log.write(json.dumps({"iteration": iteration, "loss": loss}) + "\n")
    except OSError as error:
        raise _cannot_write(folder, error) from error


def _cannot_write(folder: Path, error: OSError) -> OutputError:
    return OutputError(f"{folder}: the output folder cannot be written: {error.strerror or error}")
