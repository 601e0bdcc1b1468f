"""The counts file: what one sampling run counted at each diffusion step, as JSON.

``{"format": "spikegen-counts", "version": 1, "program": {"name", "digest"}, "steps": [...]}``; each step is
``{"step", "images", "events": {node: n}, "stored": {projection: n}, "effective": {projection: n}}`` in the order in
which the run visited the diffusion steps. The numbers are those of :class:`spikegen.program.Counts`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from spikegen.errors import RecordError
from spikegen.program import Counts, Program, Readout
from spikegen.program.storage import digest
from spikegen.runtime.files import write_output

FORMAT, VERSION = "spikegen-counts", 1
FILE_BYTES_MAX = 1 << 28
COUNT_MAX = (1 << 63) - 1

StepCounts: TypeAlias = tuple[int, Counts]


@dataclass(frozen=True)
class CountsRecord:
    """Content of a counts file.

    Attributes:
        program: name of the Program.
        digest: digest of the Program.
        steps: (diffusion step, its counts over all images) in the order in which the steps were visited.
    """

    program: str
    digest: str
    steps: tuple[StepCounts, ...]


def write_counts(path: str | os.PathLike[str], program: Program, steps: Sequence[StepCounts]) -> None:
    """Write the counts of a run of ``program``.

    Raises:
        OutputError: the file cannot be written.
    """
    document = {
        "format": FORMAT,
        "version": VERSION,
        "program": {"name": program.name, "digest": digest(program)},
        "steps": encode_steps(steps),
    }
    write_output(path, (json.dumps(document, indent=1) + "\n").encode())


def read_counts(path: str | os.PathLike[str], program: Program | None = None) -> CountsRecord:
    """Read and check a counts file.

    Args:
        path: the file.
        program: if given, the counts must be of this very Program and name its nodes and projections.

    Raises:
        RecordError: missing, too large, damaged, of another version, or of another Program.
    """
    path = Path(path)
    if not path.is_file():
        raise RecordError(f"{path}: there is no such counts file; make one with `spikegen sample --counts`")
    if path.stat().st_size > FILE_BYTES_MAX:
        raise RecordError(f"{path}: {path.stat().st_size} bytes, a counts file has at most {FILE_BYTES_MAX}")
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not a readable counts file: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise RecordError(f"{path}: not a counts file (its format is not {FORMAT!r})")
    if document.get("version") != VERSION:
        raise RecordError(f"{path}: version is {document.get('version')!r}, this spikegen reads version {VERSION}")
    try:
        named = document["program"]
        record = CountsRecord(_text(named["name"]), _text(named["digest"]), decode_steps(document["steps"], program))
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{path}: damaged: {error}") from error
    if program is not None and record.digest != digest(program):
        raise RecordError(f"{path}: these are the counts of another Program ({record.program}); sample again")
    return record


def encode_steps(steps: Sequence[StepCounts]) -> list[dict[str, Any]]:
    """The counts of each diffusion step as JSON-able values."""
    return [
        {
            "step": step,
            "images": counts.images,
            "events": dict(counts.events),
            "stored": dict(counts.stored),
            "effective": dict(counts.effective),
        }
        for step, counts in steps
    ]


def decode_steps(value: Any, program: Program | None) -> tuple[StepCounts, ...]:
    """The inverse of :func:`encode_steps`, checked; ValueError, KeyError or TypeError if it is not one."""
    if not isinstance(value, list) or not value:
        raise ValueError("steps must be a list of at least one step")
    steps = tuple((_count(item["step"], "step"), _decode(item)) for item in value)
    first = steps[0][1]
    for step, counts in steps:
        if counts.events.keys() != first.events.keys() or counts.stored.keys() != first.stored.keys():
            raise ValueError(f"step {step} counts other nodes or projections than the first")
    if program is not None:
        nodes = {name for name, node in program.nodes.items() if not isinstance(node, Readout)}
        if first.events.keys() != nodes or first.stored.keys() != {p.name for p in program.projections}:
            raise ValueError("the nodes or projections are not those of the Program")
    return steps


def _decode(item: Any) -> Counts:
    counts = Counts(
        _count(item["images"], "images"),
        *({_text(name): _count(n, name) for name, n in item[key].items()} for key in ("events", "stored", "effective")),
    )
    if counts.images < 1 or counts.stored.keys() != counts.effective.keys():
        raise ValueError("a step has no images, or stored and effective operations of different projections")
    return counts


def _count(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= COUNT_MAX:
        raise ValueError(f"{what} is {value!r}, expected a whole number of at least 0")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
