"""Output files: checked before the work starts, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from spikegen.atomic import write_atomically
from spikegen.errors import OutputError


def check_output(path: str | os.PathLike[str]) -> Path:
    """``path`` as a Path, if a file can be written there. Call it before long work; it leaves nothing behind.

    Raises:
        OutputError: the folder is missing or cannot be written, or ``path`` is something else than a file.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise OutputError(f"{path}: this is no ordinary file, it cannot be replaced")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OutputError(f"{path}: the folder {path.parent} cannot be written: {error.strerror or error}") from error
    return path


def write_output(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to a temporary file beside ``path``, then rename it.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        write_atomically(Path(path), data)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
