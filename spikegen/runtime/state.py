"""The state file: what a run needs to go on after its last completed step. An uncompressed npz without pickle."""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikegen.errors import RecordError
from spikegen.program import Program
from spikegen.runtime.counts import StepCounts, decode_steps, encode_steps
from spikegen.runtime.files import write_output

FORMAT, VERSION = "spikegen-state", 2
DOCUMENT_BYTES_MAX = 1 << 28
_UNREADABLE = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError),  # the archive
    *(ValueError, KeyError, TypeError, AttributeError, RecursionError),  # its content
)


@dataclass(frozen=True, eq=False)
class SessionState:
    """A run after ``completed`` steps; it depends neither on the target nor on the batch size.

    Attributes:
        identity: what the run is: digest of the pipeline, solver, seed, number of images (JSON-able values).
        completed: steps completed.
        sample: float64 [N, C, H, W] or int64 [N, h, w], the sample after them.
        counts: (diffusion step, counts) of each completed step.
        outputs: float64 [completed, N, C, H, W] in the ``output_shape`` of the readout, the network's answer at each
            completed step, for solvers that remember earlier steps; [0, N, ...] for the others.
        samples: like ``sample`` with one more axis in front, [completed, ...], the sample after each completed step,
            for solvers that record it; [0, ...] for the others.
    """

    identity: Mapping[str, Any]
    completed: int
    sample: npt.NDArray[Any]
    counts: tuple[StepCounts, ...]
    outputs: npt.NDArray[np.float64]
    samples: npt.NDArray[Any]


def save_state(path: str | os.PathLike[str], state: SessionState) -> None:
    """Write ``state`` to a temporary file, then rename it.

    Raises:
        OutputError: the file cannot be written.
    """
    document = {
        "format": FORMAT,
        "version": VERSION,
        "identity": state.identity,
        "completed": state.completed,
        "counts": encode_steps(state.counts),
    }
    buffer = io.BytesIO()
    np.savez(
        buffer,
        document=np.frombuffer(json.dumps(document).encode(), dtype=np.uint8),
        sample=state.sample,
        outputs=state.outputs,
        samples=state.samples,
    )
    write_output(path, buffer.getvalue())


def load_state(
    path: str | os.PathLike[str], initial: SessionState, program: Program, keeps: tuple[bool, bool]
) -> SessionState:
    """Read the state of the very run that ``initial`` begins.

    Args:
        path: the state file.
        initial: of the run that wants to go on, before its first step; decides identity, shapes and types.
        program: the Program of that run.
        keeps: whether its solver remembers answers, and whether it records samples.

    Raises:
        RecordError: missing, damaged, or the state of another run.
    """
    path = Path(path)
    if not path.is_file():
        raise RecordError(f"{path}: there is no such state file")
    try:
        with zipfile.ZipFile(path) as archive:
            document = json.loads(_member(archive, "document", np.dtype(np.uint8), None).tobytes())
            _check_identity(path, document, initial.identity)
            counts, completed = decode_steps(document["counts"], program), document["completed"]
            if completed != len(counts):
                raise ValueError(f"{completed} steps are completed, {len(counts)} are counted")
            sample = _member(archive, "sample", initial.sample.dtype, initial.sample.shape)
            outputs, samples = (
                _member(archive, name, like.dtype, (completed if kept else 0, *like.shape[1:]))
                for name, like, kept in zip(
                    ("outputs", "samples"), (initial.outputs, initial.samples), keeps, strict=True
                )
            )
    except _UNREADABLE as error:
        raise RecordError(f"{path}: not a readable state file (truncated or damaged): {error}") from error
    return SessionState(initial.identity, completed, sample, counts, outputs, samples)


def _check_identity(path: Path, document: Any, identity: Mapping[str, Any]) -> None:
    if document["format"] != FORMAT or document["version"] != VERSION:
        raise RecordError(f"{path}: not a {FORMAT} of version {VERSION}")
    recorded = document["identity"]
    wanted = json.loads(json.dumps(identity))
    different = [key for key in wanted if recorded.get(key) != wanted[key]]
    if different or recorded.keys() != wanted.keys():
        raise RecordError(
            f"{path}: this is the state of another run (different: {', '.join(different) or 'fields'}); "
            "delete the file or name another one"
        )


def _member(
    archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...] | None
) -> npt.NDArray[Any]:
    """Array ``name``; its header must declare ``dtype`` and ``shape`` (None: any vector), which bounds what is read."""
    with archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
        if version != (1, 0):
            raise ValueError(f"{name} has array format {version}")
        found, fortran, found_dtype = np.lib.format.read_array_header_1_0(file)  # type: ignore[no-untyped-call]
        expected = found if shape is None and len(found) == 1 and 0 <= found[0] <= DOCUMENT_BYTES_MAX else shape
        if found != expected or found_dtype != dtype or fortran:
            raise ValueError(f"{name} is {found_dtype} {found}, expected {dtype} {expected}")
        length = math.prod(found) * dtype.itemsize
        data = file.read(length + 1)  # one more: at the end of the member its checksum is compared
    if len(data) != length:
        raise ValueError(f"{name} has {len(data)} bytes, expected {length}")
    array = np.frombuffer(data, dtype=dtype).reshape(found)
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinite values")
    return array
