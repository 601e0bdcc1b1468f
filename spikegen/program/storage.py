"""The pipeline file: HDF5 with one JSON document and the arrays it names, a schema version and a digest.

Layout: attributes ``format``, ``schema``, ``digest``; dataset ``document`` (UTF-8 bytes of JSON, see
:mod:`spikegen.program.codec`); group ``arrays`` whose datasets the document refers to as ``{"array": "<name>"}``. The
reader trusts nothing: types, sizes, links and the digest are checked before a value is used, and the pipeline is
validated.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spikegen.atomic import write_atomically
from spikegen.errors import ProgramError, ProgramFileError
from spikegen.program.codec import Array, decode, encode
from spikegen.program.ir import Program
from spikegen.program.pipeline import Pipeline
from spikegen.program.validate_pipeline import validate_pipeline

FORMAT = "spikegen-pipeline"
_FORMAT_1 = "spikegen-program"  # of schema 1, which held one Program
SCHEMA = 3
DOCUMENT_BYTES_MAX = 1 << 24
ARRAY_BYTES_MAX = 1 << 29
TOTAL_BYTES_MAX = 1 << 31
DEFLATE_RATIO_MAX = 1040  # zlib reaches 1032; a file that promises more holds nothing of what it declares
_DTYPES = ("int8", "int16", "int32", "float64")


def digest(root: Pipeline | Program) -> str:
    """SHA-256 over the whole content of ``root`` (not over the file, whose bytes depend on the HDF5 version)."""
    return _digest(*encode(root))


def save(pipeline: Pipeline, path: str | os.PathLike[str]) -> None:
    """Validate ``pipeline`` and write it to ``path``; a failure leaves an old file as it was.

    Raises:
        ProgramError: the pipeline or one of its Programs breaks a rule.
        ProgramFileError: the file cannot be written.
    """
    path = Path(path)
    try:
        document, arrays = encode(pipeline)
    except (TypeError, ValueError) as error:
        raise ProgramError([str(error)]) from error
    validate_pipeline(pipeline)
    # Made in memory: a full disk then fails in one plain write, not inside HDF5.
    content = io.BytesIO()
    with h5py.File(content, "w", libver="v110") as file:
        # Texts of fixed length: HDF5 reads variable ones from a heap whose damage can keep it in an endless loop.
        file.attrs["format"], file.attrs["digest"] = np.bytes_(FORMAT), np.bytes_(_digest(document, arrays))
        file.attrs["schema"] = SCHEMA
        file.create_dataset("document", data=np.frombuffer(document, dtype=np.uint8))
        group = file.create_group("arrays")
        for name, array in arrays.items():
            group.create_dataset(name, data=array, compression="gzip" if array.size else None)
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise ProgramFileError(f"{path}: the pipeline file cannot be written: {error.strerror or error}") from error


def load(path: str | os.PathLike[str]) -> Pipeline:
    """Read and check a pipeline file.

    Raises:
        ProgramFileError: missing, not HDF5, truncated, altered, too large, of another schema, or a rule is broken.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise ProgramFileError(f"{path}: there is no such pipeline file; make one with `spikegen export`")
        with h5py.File(path, "r") as file:
            document, arrays, recorded = _read(path, file)
        if _digest(document, arrays) != recorded:
            raise ProgramFileError(f"{path}: the content does not match its digest; the file was altered or damaged")
        pipeline = decode(document, arrays)
        validate_pipeline(pipeline)
    except ProgramError as error:
        raise ProgramFileError(f"{path}: {error}") from error
    except _UNREADABLE as error:
        raise ProgramFileError(f"{path}: not a readable pipeline file (truncated or damaged): {error}") from error
    return pipeline


# What h5py, JSON and the dataclasses raise on damaged content.
_UNREADABLE = (
    OSError,
    RuntimeError,  # with RecursionError
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
)


def _read(path: Path, file: h5py.File) -> tuple[bytes, dict[str, Array], str]:
    if _attribute(file, "format") not in {FORMAT, _FORMAT_1}:
        raise ProgramFileError(
            f"{path}: an HDF5 file, but not a pipeline file (its format attribute is not {FORMAT!r})"
        )
    schema = _attribute(file, "schema")
    if schema != SCHEMA or _attribute(file, "format") != FORMAT:
        raise ProgramFileError(
            f"{path}: schema version is {schema}, this spikegen reads version {SCHEMA}; export it again"
        )
    if set(file) != {"document", "arrays"}:
        raise ProgramFileError(f"{path}: it holds {sorted(file)}, expected arrays and document")
    document = _dataset(path, file, "document", ("uint8",), DOCUMENT_BYTES_MAX).tobytes()
    group = _member(path, file, "arrays", h5py.Group)
    arrays: dict[str, Array] = {}
    total = 0
    for name in group:
        arrays[name] = _dataset(path, group, name, _DTYPES, min(ARRAY_BYTES_MAX, TOTAL_BYTES_MAX - total))
        total += arrays[name].nbytes
    return document, arrays, str(_attribute(file, "digest"))


def _attribute(file: h5py.File, name: str) -> Any:
    """A scalar attribute of fixed length; None if there is no such one."""
    if name not in file.attrs:
        return None
    stored = file.attrs.get_id(name)
    if stored.shape != () or stored.dtype.kind not in "iS" or stored.dtype.itemsize > 64:
        return None
    value = file.attrs[name]
    return value.decode("ascii") if isinstance(value, bytes) else int(value)


def _member(path: Path, group: h5py.Group, name: str, kind: type) -> Any:
    """An object that is stored in this very file."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink) or not isinstance(group[name], kind):
        raise ProgramFileError(f"{path}: {name} is not a plain {kind.__name__.lower()} of this file")
    return group[name]


def _dataset(path: Path, group: h5py.Group, name: str, dtypes: tuple[str, ...], limit: int) -> Array:
    """A dataset of this file, of an expected dtype, whose declared size is within the limit and truly stored."""
    data = _member(path, group, name, h5py.Dataset)
    if data.is_virtual or data.external:
        raise ProgramFileError(f"{path}: dataset {name} is stored in another file")
    if data.dtype.name not in dtypes or data.shape is None:
        raise ProgramFileError(f"{path}: dataset {name} has type {data.dtype}, expected one of {', '.join(dtypes)}")
    declared = math.prod(data.shape) * data.dtype.itemsize
    chunk = math.prod(data.chunks or ()) * data.dtype.itemsize
    if max(declared, chunk) > limit:
        raise ProgramFileError(f"{path}: dataset {name} declares {max(declared, chunk)} bytes, limit is {limit}")
    stored = data.id.get_storage_size()
    if declared > stored * DEFLATE_RATIO_MAX:
        raise ProgramFileError(f"{path}: dataset {name} declares {declared} bytes and stores {stored}")
    return np.asarray(data[()])


def _digest(document: bytes, arrays: Mapping[str, Array]) -> str:
    total = hashlib.sha256(document)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"\0{name}\0{array.dtype.name}\0{array.shape}\0".encode())
        total.update(array.tobytes())
    return total.hexdigest()
