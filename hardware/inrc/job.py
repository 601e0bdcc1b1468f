"""The job folder: written once, opened with every digest checked."""

from __future__ import annotations

import hashlib
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import spikegen
from spikegen.diffusion.dpm_solver import DPM_SOLVER
from spikegen.errors import ConfigError, JobError, MissingPackageError, OutputError
from spikegen.hardware.inrc.manifest import FILE_BYTES_MAX, Manifest, Place, Sampling, decode_manifest
from spikegen.hardware.inrc.scripts import scripts
from spikegen.program import Pipeline, digest, load, save
from spikegen.requirements import LAVA_PYTHON, how_to_get_lava

MANIFEST, PIPELINE = "manifest.json", "pipeline.h5"
RESULTS, STATES, LOGS = "results", "states", "logs"
_CHUNK = 1 << 20
_LAVA = "0.10.0"  # pyproject.toml


@dataclass(frozen=True)
class Job:
    """A job folder whose files are those that its manifest names.

    Attributes:
        folder: absolute path.
        manifest: its manifest.
    """

    folder: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """How the job is called in the queue."""
        return f"spikegen-{self.manifest.digest[:12]}"

    @property
    def shards(self) -> range:
        """The numbers of its shards."""
        return range(self.manifest.sampling.shards)

    def pipeline(self) -> Pipeline:
        """The pipeline that is sampled.

        Raises:
            ProgramFileError: damaged.
            JobError: another pipeline than the manifest names.
        """
        pipeline = load(self.folder / PIPELINE)
        if digest(pipeline) != self.manifest.pipeline_digest:
            raise JobError(f"{self.folder / PIPELINE}: this is another pipeline than {MANIFEST} names; deploy again")
        return pipeline

    def result_folder(self, shard: int) -> Path:
        """Where the result of a shard is, if it has one."""
        return self.folder / RESULTS / f"shard-{shard:04d}"

    def state_file(self, shard: int) -> Path:
        """Where a shard saves its state after every step."""
        return self.folder / STATES / f"shard-{shard:04d}.state"


def write_job(
    folder: Path, pipeline: Pipeline, sampling: Sampling, place: Place, check: Mapping[str, Any] | None
) -> Job:
    """Write a job folder: to a temporary folder beside it, then rename.

    Args:
        folder: must not exist, or be an empty folder.
        pipeline: a valid pipeline.
        sampling: what is sampled.
        place: where.
        check: what the check against the limits of the board found, JSON-able; None where it was not asked for.

    Raises:
        OutputError: the folder exists with something in it, or cannot be written.
    """
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder}: it exists; a job is written to a new folder")
    versions = needed_versions(place.backend, sampling.solver)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    try:
        temporary.chmod(0o755)
        for name in (RESULTS, STATES, LOGS):
            (temporary / name).mkdir()
        save(pipeline, temporary / PIPELINE)
        for name, text in scripts(sampling, place, versions).items():
            (temporary / name).write_text(text, encoding="utf-8")
        files = {path.name: file_digest(path) for path in sorted(temporary.iterdir()) if path.is_file()}
        manifest = Manifest(pipeline.name, digest(pipeline), sampling, place, versions, check, files)
        (temporary / MANIFEST).write_bytes(manifest.encode())
        temporary.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Job(folder, manifest)


def open_job(folder: Path) -> Job:
    """The job in ``folder``, after every file has been compared with its digest.

    Raises:
        JobError: there is no job, or a file is missing or altered.
    """
    folder = folder.absolute()
    path = folder / MANIFEST
    if not path.is_file():
        raise JobError(f"{folder}: there is no job folder here ({MANIFEST} is missing); `spikegen deploy` writes one")
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise JobError(f"{path}: {path.stat().st_size} bytes, a manifest has at most {FILE_BYTES_MAX}")
        manifest = decode_manifest(path.read_bytes())
    except (OSError, ConfigError) as error:
        raise JobError(f"{path}: {error}; deploy again") from error
    job = Job(folder, manifest)
    expected = {PIPELINE, *scripts(manifest.sampling, manifest.place, {"python": ""})}
    if manifest.files.keys() != expected:
        named = ", ".join(sorted(manifest.files))
        raise JobError(f"{path}: it names the files {named}, expected {', '.join(sorted(expected))}; deploy again")
    for name, recorded in manifest.files.items():
        if not (folder / name).is_file():
            raise JobError(f"{folder / name}: missing; deploy again")
        if file_digest(folder / name) != recorded:
            raise JobError(f"{folder / name}: it was altered after `spikegen deploy` wrote it; deploy again")
    return job


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()


def needed_versions(backend: str, solver: str | None) -> dict[str, str]:
    """Package -> version that makes the same images elsewhere: those of this machine, and Lava's where it runs.

    numpy is among them because its normal numbers may change with a release (NEP 19).

    Raises:
        MissingPackageError: the backend runs on Lava, which this Python cannot have.
    """
    on_lava = backend not in ("simulator", "onnx")
    if on_lava and sys.version_info[:2] != LAVA_PYTHON:
        raise MissingPackageError(
            f"a job for {backend} holds the versions of a machine with Lava; {how_to_get_lava('lava')}"
        )
    versions = {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "spikegen": spikegen.__version__,
        "numpy": metadata.version("numpy"),
    }
    if solver == DPM_SOLVER:
        versions["diffusers"] = metadata.version("diffusers")
    if on_lava:
        versions["lava-nc"] = _LAVA
    return versions
