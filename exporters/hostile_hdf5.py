"""HDF5 files of other tools, read with nothing taken on trust.

h5py allocates what a file declares and follows links into other files; :class:`Hdf5Reader` does neither. Texts of
variable length are read by HDF5 from a heap. A damaged heap can keep HDF5 in an endless loop, or make it ask for any
amount of memory, and no check in Python comes before that. So :func:`read_checked` reads a strange file first in a
process of its own (:mod:`spikegen.exporters.bounded`); what passes is read again by whoever wants it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import h5py
import numpy as np
import numpy.typing as npt

from spikegen.errors import ExchangeError
from spikegen.exporters.bounded import run_bounded

Value: TypeAlias = npt.NDArray[Any] | str
Content = TypeVar("Content")

FIELDS_MAX = 32
TEXT_MAX = 256
ARRAY_BYTES_MAX = 1 << 29
TOTAL_BYTES_MAX = 1 << 31
DEFLATE_RATIO_MAX = 1040  # zlib reaches 1032; a file that promises more holds nothing of what it declares

# What h5py raises on damaged content.
_UNREADABLE = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)


def read_file(path: Path, kind: str, read: Callable[[h5py.File], Content]) -> Content:
    """What ``read`` makes of an HDF5 file.

    Args:
        path: the file.
        kind: of file, for messages.
        read: reads the open file with an :class:`Hdf5Reader`.

    Raises:
        ExchangeError: missing, not HDF5, truncated, or what ``read`` refuses; with the path.
    """
    if not path.is_file():
        raise ExchangeError(f"{path}: there is no such {kind} file")
    try:
        with h5py.File(path, "r") as file:
            return read(file)
    except ExchangeError as error:
        raise ExchangeError(f"{path}: {error}") from error
    except _UNREADABLE as error:
        raise ExchangeError(f"{path}: not a readable {kind} file (truncated or damaged): {error}") from error


def read_checked(path: str | os.PathLike[str], read: Callable[[Path], Content]) -> Content:
    """What ``read``, a function of a module, makes of a file that anyone may have written.

    Raises:
        ExchangeError: as of ``read``, or reading it took too long.
    """
    path = Path(path)
    run_bounded(read, path)
    return read(path)


class Hdf5Reader:
    """Reads one file and keeps count of what it declares."""

    def __init__(self) -> None:
        self.bytes = 0

    def fields(self, group: h5py.Group, name: str, leave: frozenset[str] = frozenset()) -> dict[str, Value]:
        """The datasets of a group: arrays of finite numbers, or short texts. ``leave`` are keys that are not read."""
        if len(group) > FIELDS_MAX:
            raise ExchangeError(f"{name}: {len(group)} parameters, limit is {FIELDS_MAX}")
        return {short(key, name): self.value(group, key, name) for key in group if key not in leave}

    def value(self, group: h5py.Group, key: str, name: str) -> Value:
        """A dataset: an array of finite numbers, or a short text."""
        data = dataset(group, key, name)
        if h5py.check_string_dtype(data.dtype) is not None:
            return text(group, key, name)
        if data.dtype.kind not in "iufb" or data.dtype.itemsize > 8:
            raise ExchangeError(f"{name}: {key} has type {data.dtype}, expected numbers or a text")
        self.bytes += declared(data, f"{name}: {key}")
        if self.bytes > TOTAL_BYTES_MAX:
            raise ExchangeError(f"{name}: the file declares more than {TOTAL_BYTES_MAX} bytes of parameters")
        values = np.asarray(data[()])
        if not np.isfinite(values).all():
            raise ExchangeError(f"{name}: {key} has NaN or infinite values")
        return values


def text(group: h5py.Group, key: str, where: str) -> str:
    """A text: a scalar, or the one element of an array (lava-dl writes such)."""
    data = dataset(group, key, where)
    if h5py.check_string_dtype(data.dtype) is None or data.shape not in {(), (1,)}:
        raise ExchangeError(f"{where}: {key} must be one text, not {data.dtype} of shape {data.shape}")
    declared(data, f"{where}: {key}")
    return short(data[()] if data.shape == () else data[0], f"{where}: {key}")


def short(found: bytes | str, where: str) -> str:
    """A name of the file, within the limit."""
    if len(found) > TEXT_MAX:
        raise ExchangeError(f"{where}: a text of {len(found)} bytes, limit is {TEXT_MAX}")
    return found.decode("utf8") if isinstance(found, bytes) else found


def member(group: h5py.Group, key: str, kind: type, where: str) -> Any:
    """An object that is stored in this very file."""
    link = group.get(key, getlink=True) if key in group else None
    if not isinstance(link, h5py.HardLink) or not isinstance(group[key], kind):
        raise ExchangeError(f"{where}: {short(key, where)} is not a plain {kind.__name__.lower()} of this file")
    return group[key]


def dataset(group: h5py.Group, key: str, where: str) -> h5py.Dataset:
    """A dataset whose content is stored in this very file."""
    data = member(group, key, h5py.Dataset, where)
    if data.is_virtual or data.external or data.shape is None:
        raise ExchangeError(f"{where}: {key} is stored in another file, or not at all")
    return data


def declared(data: h5py.Dataset, where: str) -> int:
    """The bytes that a dataset declares, within the limit and truly stored."""
    size = math.prod(data.shape) * data.dtype.itemsize
    chunk = math.prod(data.chunks or ()) * data.dtype.itemsize
    if max(size, chunk) > ARRAY_BYTES_MAX:
        raise ExchangeError(f"{where} declares {max(size, chunk)} bytes, limit is {ARRAY_BYTES_MAX}")
    stored = data.id.get_storage_size()
    if size > stored * DEFLATE_RATIO_MAX:
        raise ExchangeError(f"{where} declares {size} bytes and stores {stored}")
    return int(size)
