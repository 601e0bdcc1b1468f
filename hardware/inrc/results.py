"""The result of a shard: a folder that appears at once and whole, and says of which job and what its files hold."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikegen.errors import JobError, RecordError
from spikegen.hardware.inrc.job import Job, file_digest
from spikegen.program import Pipeline, TokenDiffusion
from spikegen.runtime import read_counts, write_counts
from spikegen.runtime.counts import StepCounts

FORMAT, VERSION = "spikegen-shard", 1
RESULT, IMAGES, TOKENS, COUNTS = "result.json", "images.npy", "tokens.npy", "counts.json"
FILES = (RESULT, IMAGES, TOKENS, COUNTS)
RESULT_BYTES_MAX = 1 << 16
_AGAIN = "`spikegen submit` runs the shard again"


@dataclass(frozen=True, eq=False)
class ShardResult:
    """What a shard made of its n images.

    Attributes:
        images: float64 [n, C, H, W] in [-1, 1].
        trajectory: int64 [steps, n, h, w], the tokens after every step; None for pipelines of images.
        networks: role -> (diffusion step, counts over the n images).
        seconds: that its last process took.
    """

    images: npt.NDArray[np.float64]
    trajectory: npt.NDArray[np.int64] | None
    networks: Mapping[str, tuple[StepCounts, ...]]
    seconds: float


def write_result(job: Job, shard: int, pipeline: Pipeline, result: ShardResult) -> None:
    """Write the result of ``shard`` to a temporary folder, then rename it.

    Raises:
        JobError: it cannot be written.
    """
    target = job.result_folder(shard)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            temporary.chmod(0o755)
            _save(temporary / IMAGES, result.images)
            if result.trajectory is not None:
                _save(temporary / TOKENS, result.trajectory)
            write_counts(temporary / COUNTS, pipeline, result.networks, job.manifest.sampling.generator)
            document = {
                "format": FORMAT,
                "version": VERSION,
                "job": job.manifest.digest,
                "shard": shard,
                "seconds": result.seconds,
                "files": {path.name: file_digest(path) for path in sorted(temporary.iterdir())},
            }
            (temporary / RESULT).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            publish(job, shard, temporary)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise JobError(f"{target}: cannot be written: {error.strerror or error}") from error


def publish(job: Job, shard: int, temporary: Path) -> None:
    """Rename ``temporary`` to the result of ``shard``; a damaged one is replaced, a good one stays.

    Raises:
        OSError: it cannot be renamed.
    """
    target = job.result_folder(shard)
    if is_complete(job, shard):
        return
    if target.exists():
        shutil.rmtree(target)
    os.replace(temporary, target)


def is_complete(job: Job, shard: int) -> bool:
    """Whether ``shard`` has a result whose digests hold."""
    try:
        check_result(job, shard)
    except JobError:
        return False
    return True


def check_result(job: Job, shard: int, folder: Path | None = None) -> float:
    """Compare the result of ``shard`` with its digests; returns the seconds that it took.

    Args:
        job: the job.
        shard: its number.
        folder: where the result is, default its place.

    Raises:
        JobError: there is none, or it is damaged, altered or of another job.
    """
    folder = job.result_folder(shard) if folder is None else folder
    path = folder / RESULT
    if not folder.exists():
        raise JobError(f"{job.folder}: shard {shard} has no result; {_AGAIN}")
    try:
        if path.stat().st_size > RESULT_BYTES_MAX:
            raise ValueError(f"it has {path.stat().st_size} bytes, at most {RESULT_BYTES_MAX} are allowed")
        document = json.loads(path.read_bytes())
        if (document["format"], document["version"]) != (FORMAT, VERSION):
            raise ValueError(f"not a {FORMAT} of version {VERSION}")
        recorded, seconds = dict(document["files"]), float(document["seconds"])
        mine = (document["job"], document["shard"]) == (job.manifest.digest, shard)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise JobError(f"{path}: damaged: {error}; {_AGAIN}") from error
    if not mine:
        raise JobError(f"{path}: this is the result of another job or shard; {_AGAIN}")
    present = {name for name in FILES if name != RESULT and (folder / name).is_file()}
    if recorded.keys() != present:
        raise JobError(f"{folder}: it holds {', '.join(sorted(present)) or 'nothing'}, not what it says; {_AGAIN}")
    for name in present:
        if file_digest(folder / name) != recorded[name]:
            raise JobError(f"{folder / name}: it is not what the shard wrote (its digest differs); {_AGAIN}")
    return seconds


def read_result(job: Job, shard: int, pipeline: Pipeline) -> ShardResult:
    """The result of ``shard``, checked.

    Raises:
        JobError: as :func:`check_result`, or it does not hold what this shard makes.
    """
    seconds = check_result(job, shard)
    folder, sampling = job.result_folder(shard), job.manifest.sampling
    count = len(sampling.range_of(shard))
    of_tokens = isinstance(pipeline.host, TokenDiffusion)
    shape = next(pipeline.network("decoder" if of_tokens else "denoiser").readouts()).output_shape
    images = _load(folder / IMAGES, np.dtype(np.float64), (count, *shape))
    if not (np.abs(images) <= 1.0).all():  # NaN is not within it
        raise JobError(f"{folder / IMAGES}: it holds values outside -1..1; {_AGAIN}")
    trajectory = None
    if of_tokens:
        grid = pipeline.network("denoiser").input.shape[1:]
        trajectory = _load(folder / TOKENS, np.dtype(np.int64), (sampling.steps, count, *grid))
    try:
        record = read_counts(folder / COUNTS, pipeline)
    except RecordError as error:
        raise JobError(f"{error}; {_AGAIN}") from error
    wrong = [role for role, steps in record.networks.items() if any(counts.images != count for _, counts in steps)]
    if wrong or record.generator != sampling.generator:
        raise JobError(f"{folder / COUNTS}: these are not the counts of {count} images of this job; {_AGAIN}")
    return ShardResult(images, trajectory, record.networks, seconds)


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    path.write_bytes(buffer.getvalue())


def _load(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    try:
        # memory cannot be mapped to Python objects, so no pickle is read; nor is more than the file holds
        array = np.lib.format.open_memmap(path, mode="r")  # type: ignore[no-untyped-call]
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError, OverflowError) as error:
        raise JobError(f"{path}: not a readable array: {error}; {_AGAIN}") from error
    if array.dtype != dtype or array.shape != shape:
        raise JobError(f"{path}: it holds {array.dtype} {array.shape}, expected {dtype} {shape}; {_AGAIN}")
    return np.array(array)
