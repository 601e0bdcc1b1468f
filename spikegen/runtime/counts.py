"""The counts file: what one run counted in each network at each step, as JSON.

``{"format": "spikegen-counts", "version": 2, "pipeline": {"name", "digest"}, "generator": "chip" | "lookup" | null,
"run": {name: text}, "networks": {role: {"steps": [...]}}}``; each step is ``{"step", "images", "events": {node: n},
"stored": {projection: n}, "effective": {projection: n}}`` in the order of the run; a network outside of the loop has
step 0. The numbers are those of :class:`spikegen.program.Counts`. ``generator`` says where the decoder's spike
generator ran; with "lookup" the decoder is :attr:`spikegen.runtime.Lookup.program`. It is null if no decoder was
counted. ``run`` says how the samples were made (solver, seed), in words for a reader; it may be missing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from spikegen.errors import ConfigError, RecordError
from spikegen.program import Counts, Pipeline, Program, Readout, digest
from spikegen.runtime.files import write_output
from spikegen.runtime.lookup import lookup_decoder
from spikegen.runtime.records import read_record

FORMAT, VERSION = "spikegen-counts", 2
FILE_BYTES_MAX = 1 << 28
COUNT_MAX = (1 << 63) - 1
GENERATORS = ("chip", "lookup")

StepCounts: TypeAlias = tuple[int, Counts]


@dataclass(frozen=True)
class CountsRecord:
    """Content of a counts file.

    Attributes:
        pipeline: name of the pipeline.
        digest: digest of the pipeline.
        generator: where the decoder's spike generator ran, "chip" or "lookup"; None if no decoder was counted.
        networks: role -> (step, its counts over all images) in the order of the run.
        run: how the samples were made, name -> text; empty if the file does not say.
    """

    pipeline: str
    digest: str
    generator: str | None
    networks: Mapping[str, tuple[StepCounts, ...]]
    run: Mapping[str, str] = field(default_factory=dict)


def write_counts(
    path: str | os.PathLike[str],
    pipeline: Pipeline,
    networks: Mapping[str, Sequence[StepCounts]],
    generator: str | None = None,
    run: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write the counts of a run of ``pipeline``.

    Args:
        path: the file.
        pipeline: what ran.
        networks: role -> (step, counts) of each network that ran, see :class:`CountsRecord`.
        generator: "chip" or "lookup" if "decoder" is among them, else None.
        run: how the samples were made, see :class:`CountsRecord`.

    Raises:
        ConfigError: ``generator`` does not fit ``networks``.
        OutputError: the file cannot be written.
    """
    try:
        _check_generator(generator, networks)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    document = {
        "format": FORMAT,
        "version": VERSION,
        "pipeline": {"name": pipeline.name, "digest": digest(pipeline)},
        "generator": generator,
        "run": dict(run),
        "networks": {role: {"steps": encode_steps(steps)} for role, steps in networks.items()},
    }
    write_output(path, (json.dumps(document, indent=1) + "\n").encode())


def read_counts(path: str | os.PathLike[str], pipeline: Pipeline | None = None) -> CountsRecord:
    """Read and check a counts file.

    Args:
        path: the file.
        pipeline: if given, the counts must be of this very pipeline and name its networks, nodes and projections.

    Raises:
        RecordError: missing, too large, damaged, of another version, or of another pipeline.
    """
    path = Path(path)
    document = read_record(path, "counts file", "`spikegen sample --counts`", (FORMAT, VERSION), FILE_BYTES_MAX)
    try:
        name, recorded = _text(document["pipeline"]["name"]), _text(document["pipeline"]["digest"])
    except (KeyError, TypeError) as error:
        raise RecordError(f"{path}: damaged: {error}") from error
    if pipeline is not None and recorded != digest(pipeline):
        raise RecordError(f"{path}: these are the counts of another pipeline ({name}); sample again")
    try:
        networks = _networks(document["networks"], document["generator"], pipeline)
        run = {_text(key): _text(value) for key, value in document.get("run", {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise RecordError(f"{path}: damaged: {error}") from error
    return CountsRecord(name, recorded, document["generator"], networks, run)


def _check_generator(generator: Any, networks: Mapping[str, Any]) -> None:
    allowed = GENERATORS if "decoder" in networks else (None,)
    if generator not in allowed:
        raise ValueError(
            f"the generator is {generator!r}, expected {' or '.join(map(repr, allowed))} for counts of "
            f"{', '.join(networks)}"
        )


def _networks(value: Any, generator: Any, pipeline: Pipeline | None) -> Mapping[str, tuple[StepCounts, ...]]:
    if not isinstance(value, dict) or not value:
        raise ValueError("networks must be at least one network by its role")
    _check_generator(generator, value)
    return {role: decode_steps(item["steps"], _program(pipeline, role, generator)) for role, item in value.items()}


def _program(pipeline: Pipeline | None, role: str, generator: Any) -> Program | None:
    """The Program that was counted, if it is known which pipeline it belongs to."""
    if pipeline is None:
        return None
    if role == "decoder" and generator == "lookup":
        return lookup_decoder(pipeline).program
    return pipeline.network(role)


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
