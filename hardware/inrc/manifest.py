"""The manifest of a job: everything that decides what it computes and where, and the digests of its files, as JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from spikegen.errors import ConfigError

FORMAT, VERSION = "spikegen-job", 1
FILE_BYTES_MAX = 1 << 24
SHARDS_MAX = 1000  # Slurm's default MaxArraySize is 1001
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}")  # partitions, nodes, addresses: they stand in #SBATCH lines
_TIME = re.compile(r"\d{1,6}|\d{1,6}:\d{2}(:\d{2})?|\d{1,4}-\d{1,2}(:\d{2}){0,2}")  # the formats of sbatch --time

T = TypeVar("T")


@dataclass(frozen=True)
class Sampling:
    """What is sampled; the arguments of `spikegen sample`.

    Attributes:
        images: number of images in all, at least 1.
        steps: solver steps.
        seed: 0 .. 2^64 - 1.
        shards: parts that the images are cut into, 1 .. images, at most :data:`SHARDS_MAX`.
        solver: name of the solver, None for the default of the pipeline.
        options: of the solver.
        identity: ``Solver.identity()`` of it, with which the one that the host makes must agree.
        generator: where the spike generator of a token decoder runs, "chip" or "lookup"; None for images.
    """

    images: int
    steps: int
    seed: int
    shards: int
    solver: str | None
    options: Mapping[str, Any]
    identity: Mapping[str, Any]
    generator: str | None

    def __post_init__(self) -> None:
        if not 1 <= self.shards <= min(self.images, SHARDS_MAX):
            raise ConfigError(
                f"{self.shards} shards of {self.images} images, allowed 1..{min(max(self.images, 1), SHARDS_MAX)}"
            )

    def range_of(self, shard: int) -> range:
        """The numbers of the images of a shard; the shards differ by one image at most."""
        return range(shard * self.images // self.shards, (shard + 1) * self.images // self.shards)


@dataclass(frozen=True)
class Place:
    """Where a job runs.

    Attributes:
        backend: key of :data:`spikegen.runtime.BACKENDS`.
        synapses: how lava-unrolled holds the synapses, None for its default and for the other backends.
        batch: images per evaluation, None for the default of the backend.
        partition: Slurm partition of the boards (PARTITION), None if not chosen.
        queue: Slurm partition that the scripts run in, None for the same.
        board: Slurm node of the board (BOARD), None for any.
        generation: stepping of the chip (LOIHI_GEN).
        host: address of a host on the local network (NXSDKHOST), None where Slurm lends the boards.
        host_binary: path of the driver on that host (HOST_BINARY).
        time_limit: of a shard, in a format of ``sbatch --time``; None for that of the partition.
        python: the interpreter on the machine that runs the job.
    """

    backend: str
    synapses: str | None
    batch: int | None
    partition: str | None
    queue: str | None
    board: str | None
    generation: str
    host: str | None
    host_binary: str
    time_limit: str | None
    python: str

    def __post_init__(self) -> None:
        for option in ("partition", "queue", "board", "host"):
            value = getattr(self, option)
            if value is not None and not _NAME.fullmatch(value):
                raise ConfigError(f"the {option} {value!r} is no name: letters, digits and _ . : - are allowed")
        if self.time_limit is not None and not _TIME.fullmatch(self.time_limit):
            raise ConfigError(
                f"the time limit {self.time_limit!r} is none of MINUTES, MINUTES:SECONDS, HOURS:MINUTES:SECONDS and "
                "DAYS-HOURS:MINUTES:SECONDS"
            )
        if self.python.startswith("-") or any(not c.isprintable() for c in self.python + self.host_binary):
            raise ConfigError(f"{self.python!r} or {self.host_binary!r} is no path")


@dataclass(frozen=True)
class Manifest:
    """The whole manifest.

    Attributes:
        pipeline: name of the pipeline.
        pipeline_digest: of its content.
        sampling: what is sampled.
        place: where.
        versions: package -> version that the host must have.
        check: what the check against the limits of the board found, None where it was not asked for.
        files: file of the job folder -> its SHA-256.
    """

    pipeline: str
    pipeline_digest: str
    sampling: Sampling
    place: Place
    versions: Mapping[str, str]
    check: Mapping[str, Any] | None
    files: Mapping[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 of everything in it."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()

    def encode(self) -> bytes:
        """As a file."""
        document = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self), "digest": self.digest}
        return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()


def decode_manifest(data: bytes) -> Manifest:
    """The inverse of :meth:`Manifest.encode`, checked.

    Raises:
        ConfigError: it is no manifest, or it was altered.
    """
    try:
        document = json.loads(data)
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ConfigError(f"its format is not {FORMAT!r}")
        if document.get("version") != VERSION:
            raise ConfigError(f"its version is {document.get('version')!r}, this spikegen reads version {VERSION}")
        fields = {key: value for key, value in document.items() if key not in {"format", "version", "digest"}}
        manifest = Manifest(
            **{
                **fields,
                "sampling": Sampling(**_typed(Sampling, fields["sampling"])),
                "place": Place(**_typed(Place, fields["place"])),
            }
        )
        _typed(Manifest, {**fields, "sampling": manifest.sampling, "place": manifest.place})
        agrees = document.get("digest") == manifest.digest
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"not a readable manifest: {error}") from error
    if not agrees:
        raise ConfigError("it was altered: its digest does not hold")
    return manifest


_TYPES: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "int | None": (int, type(None)),
    "str": (str,),
    "str | None": (str, type(None)),
    "Mapping[str, Any]": (dict,),
    "Mapping[str, Any] | None": (dict, type(None)),
    "Mapping[str, str]": (dict,),
    "Sampling": (Sampling,),
    "Place": (Place,),
}


def _typed(kind: type, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """``values`` if they are the fields of the dataclass ``kind``, of their types; else TypeError or KeyError."""
    for field in dataclasses.fields(kind):
        value = values[field.name]
        if field.type == "Mapping[str, str]" and isinstance(value, dict):
            if not all(isinstance(text, str) for text in value.values()):
                raise TypeError(f"{field.name} holds something else than text")
        elif not isinstance(value, _TYPES[str(field.type)]) or isinstance(value, bool):
            raise TypeError(f"{field.name} is {value!r}, expected {field.type}")
    return values
