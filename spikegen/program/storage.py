"""The Program file: HDF5 with one JSON document and the arrays it names, a schema version and a digest of the content.

Layout: attributes ``format``, ``schema``, ``digest``; dataset ``document`` (UTF-8 bytes of JSON); group ``arrays`` whose
datasets the document refers to as ``{"array": "<name>"}``. The reader trusts nothing: types, sizes, links and the digest are
checked before a value is used, and the Program is validated.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spikegen.errors import ProgramError, ProgramFileError
from spikegen.program.ir import Conditioning, Host, Program
from spikegen.program.validate import validate

FORMAT = "spikegen-program"
SCHEMA = 1
DOCUMENT_BYTES_MAX = 1 << 24
ARRAY_BYTES_MAX = 1 << 29
TOTAL_BYTES_MAX = 1 << 31
_DTYPES = ("int8", "int16", "float64")

_CLASSES: dict[str, type] = {**Program.NODE_TYPES, **Program.PROJECTION_TYPES, "Conditioning": Conditioning, "Host": Host, "Program": Program}


def digest(program: Program) -> str:
    """SHA-256 over the whole content of ``program`` (not over the file, whose bytes depend on the HDF5 version)."""
    document, arrays = _encode(program)
    return _digest(document, arrays)


def save(program: Program, path: str | os.PathLike[str]) -> None:
    """Validate ``program`` and write it to ``path``: to a temporary file beside it, then renamed.

    Raises:
        ProgramError: the Program breaks a rule.
        ProgramFileError: the folder cannot be written.
    """
    validate(program)
    path = Path(path)
    document, arrays = _encode(program)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        with h5py.File(temporary, "w", libver="v110") as file:
            file.attrs.update({"format": FORMAT, "schema": SCHEMA, "digest": _digest(document, arrays)})
            file.create_dataset("document", data=np.frombuffer(document, dtype=np.uint8))
            group = file.create_group("arrays")
            for name, array in arrays.items():
                group.create_dataset(name, data=array, compression="gzip" if array.size else None)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise ProgramFileError(f"{path}: the Program file cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def load(path: str | os.PathLike[str]) -> Program:
    """Read and check a Program file.

    Raises:
        ProgramFileError: missing, not HDF5, truncated, altered, too large, of another schema, or against a rule of the IR.
    """
    path = Path(path)
    if not path.is_file():
        raise ProgramFileError(f"{path}: there is no such Program file; make one with `spikegen export`")
    try:
        with h5py.File(path, "r") as file:
            document, arrays, recorded = _read(path, file)
        if _digest(document, arrays) != recorded:
            raise ProgramFileError(f"{path}: the content does not match its digest; the file was altered or damaged")
        program = _decode(json.loads(document), arrays)
        validate(program)
    except ProgramError as error:
        raise ProgramFileError(f"{path}: {error}") from error
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, RecursionError, AttributeError) as error:
        raise ProgramFileError(f"{path}: not a readable Program file (truncated or damaged): {error}") from error
    return program


def _read(path: Path, file: h5py.File) -> tuple[bytes, dict[str, np.ndarray[Any, Any]], str]:
    if str(file.attrs.get("format")) != FORMAT:
        raise ProgramFileError(f"{path}: an HDF5 file, but not a Program file (its format attribute is not {FORMAT!r})")
    schema = file.attrs.get("schema")
    if schema != SCHEMA:
        raise ProgramFileError(f"{path}: schema version is {schema}, this spikegen reads version {SCHEMA}; export it again")
    document = _dataset(path, file, "document", ("uint8",), DOCUMENT_BYTES_MAX).tobytes()
    group = file["arrays"]
    arrays, total = {}, 0
    for name in group:
        arrays[name] = _dataset(path, group, name, _DTYPES, ARRAY_BYTES_MAX)
        total += arrays[name].nbytes
        if total > TOTAL_BYTES_MAX:
            raise ProgramFileError(f"{path}: the arrays are larger than {TOTAL_BYTES_MAX} bytes together")
    return document, arrays, str(file.attrs.get("digest"))


def _dataset(path: Path, group: h5py.Group, name: str, dtypes: tuple[str, ...], limit: int) -> np.ndarray[Any, Any]:
    """A dataset that is stored in this very file, of an expected dtype, and within the limit by its declared size."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink) or not isinstance(group[name], h5py.Dataset):
        raise ProgramFileError(f"{path}: {name} is not a plain dataset of this file")
    data = group[name]
    if data.is_virtual or data.external or data.dtype.name not in dtypes or data.shape is None:
        raise ProgramFileError(f"{path}: dataset {name} has type {data.dtype}, expected one of {', '.join(dtypes)}")
    if data.size * data.dtype.itemsize > limit:
        raise ProgramFileError(f"{path}: dataset {name} declares {data.size} elements, limit is {limit} bytes")
    return np.asarray(data[()])


def _digest(document: bytes, arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    total = hashlib.sha256(document)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"\0{name}\0{array.dtype.name}\0{array.shape}\0".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def _encode(program: Program) -> tuple[bytes, dict[str, np.ndarray[Any, Any]]]:
    arrays: dict[str, np.ndarray[Any, Any]] = {}

    def encode(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
            return {"type": type(value).__name__, **fields}
        if isinstance(value, np.ndarray):
            name = f"{len(arrays):06d}"
            arrays[name] = value
            return {"array": name}
        if isinstance(value, Mapping):
            return {str(key): encode(item) for key, item in value.items()}
        if isinstance(value, tuple | list):
            return [encode(item) for item in value]
        return value.item() if isinstance(value, np.generic) else value

    return json.dumps(encode(program), sort_keys=True, allow_nan=False).encode(), arrays


def _decode(value: Any, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Program:
    """Rebuild the dataclasses; every field must be there, have its annotated type, and no other may be."""

    def decode(value: Any) -> Any:
        if isinstance(value, list):
            return [decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        if set(value) == {"array"}:
            return arrays[value["array"]]
        if "type" not in value:
            return {key: decode(item) for key, item in value.items()}
        cls = _CLASSES[value["type"]]
        given = {key: decode(item) for key, item in value.items() if key != "type"}
        hints = typing.get_type_hints(cls)
        names = {f.name for f in dataclasses.fields(cls)}
        if set(given) != names:
            raise ValueError(f"{cls.__name__} has fields {sorted(given)}, expected {sorted(names)}")
        return cls(**{name: _typed(given[name], hints[name], f"{cls.__name__}.{name}") for name in sorted(names)})

    program = decode(value)
    if not isinstance(program, Program):
        raise ValueError("the document does not describe a Program")
    return program


def _typed(value: Any, hint: Any, where: str) -> Any:
    """``value`` as the annotated type ``hint``, or ValueError. JSON's lists become tuples."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is tuple:
        inner = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if not isinstance(value, list) or len(inner) != len(value):
            raise ValueError(f"{where} must be a list of {len(inner)} items")
        return tuple(_typed(item, kind, where) for item, kind in zip(value, inner, strict=True))
    if origin in (types.UnionType, typing.Union):
        if not isinstance(value, tuple(arguments)):
            raise ValueError(f"{where} has type {type(value).__name__}")
        return value
    if origin is np.ndarray:
        expected = typing.get_args(arguments[1])[0]
        if not isinstance(value, np.ndarray) or value.dtype != np.dtype(expected):
            raise ValueError(f"{where} must be an array of {np.dtype(expected).name}")
        return value
    if origin is not None:  # Mapping[str, X]
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be a mapping")
        return {key: _typed(item, arguments[1], f"{where}[{key}]") for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{where} is {value!r}, expected {hint.__name__}")
    return value
