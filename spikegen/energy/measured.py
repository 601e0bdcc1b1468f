"""What was measured on a chip: the model ``measured`` of a report, and its files.

Lava's profiler measures one run of one process, and its probe of execution time changes the power, so that time and
power come from two runs, each with a file of its own::

    {"format": "spikegen-measurement", "version": 1, "pipeline": {"name", "digest"}, "network": role,
     "kind": "time" | "power", "step": diffusion step, "images": N, "repeats": evaluations of N images,
     "timesteps": of the run, "values": {name: number}, "machine": {...}}

Values are kept as the profiler gave them, negative ones too: power is static and dynamic apart, and static power, which
is measured on the idle board, may exceed the total.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from spikegen.errors import RecordError
from spikegen.program import Pipeline, digest
from spikegen.runtime.records import read_record

FORMAT, VERSION = "spikegen-measurement", 1
FILE_BYTES_MAX = 1 << 20

VALUES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "time": MappingProxyType(
            {
                "execution_s": "the whole run [s]",
                "spiking_s": "its part for neurons and synapses [s]",
                "management_s": "its part for the embedded processors [s]",
                "host_s": "its part for the host [s]",
                "learning_s": "its part for learning [s]",
            }
        ),
        "power": MappingProxyType(
            {
                "total_w": "mean power of the run [W]",
                "static_w": "power of the idle board [W]",
                "dynamic_w": "total without static [W]",
                "vdd_w": "part of the logic [W]",
                "vddm_w": "part of the memories [W]",
                "vddio_w": "part of input and output [W]",
            }
        ),
    }
)
NEEDED = {"time": ("execution_s",), "power": ("total_w", "static_w", "dynamic_w")}


@dataclass(frozen=True)
class Measurement:
    """One run on a chip under one probe.

    Attributes:
        network: role of the network that ran.
        kind: key of :data:`VALUES`.
        step: diffusion step, the same in the whole run.
        images: N of a stream.
        repeats: how often the run evaluated these N images.
        timesteps: of the run.
        values: name in :data:`VALUES` -> figure of the whole run; those of :data:`NEEDED` at least.
        machine: what is known of the machine, such as its board and stepping.
    """

    network: str
    kind: str
    step: int
    images: int
    repeats: int
    timesteps: int
    values: Mapping[str, float]
    machine: Mapping[str, str]


@dataclass(frozen=True)
class MeasuredNetwork:
    """Both runs of one network; either may be missing."""

    time: Measurement | None = None
    power: Measurement | None = None

    def per_evaluation(self) -> dict[str, float]:
        """``seconds`` of one evaluation, and ``total_j``, ``static_j``, ``dynamic_j`` if power was measured as well."""
        if self.time is None:
            return {}
        seconds = self.time.values["execution_s"] / (self.time.images * self.time.repeats)
        found = {"seconds": seconds}
        if self.power is not None:
            found.update({f"{part}_j": self.power.values[f"{part}_w"] * seconds for part in _PARTS})
        return found


_PARTS = ("total", "static", "dynamic")


@dataclass(frozen=True)
class Measured:
    """What was measured, by role of the network."""

    networks: Mapping[str, MeasuredNetwork]

    def per_sample(self, steps: Mapping[str, int]) -> dict[str, float]:
        """Sums over ``steps``, role -> evaluations of one sample, of what was measured of every network."""
        parts = [(self.networks.get(role, MeasuredNetwork()).per_evaluation(), n) for role, n in steps.items()]
        names = [name for name in parts[0][0] if all(name in part for part, _ in parts)]
        return {name: sum(part[name] * n for part, n in parts) for name in names}

    def to_dict(self, steps: Mapping[str, int]) -> dict[str, Any]:
        """Everything as JSON-able data; ``steps`` as for :meth:`per_sample`."""
        return {
            "definitions": {kind: dict(values) for kind, values in VALUES.items()},
            "networks": {
                role: {
                    "time": None if network.time is None else _encoded(network.time),
                    "power": None if network.power is None else _encoded(network.power),
                    "per_evaluation": network.per_evaluation(),
                }
                for role, network in self.networks.items()
            },
            "per_sample": self.per_sample(steps),
        }


def collect(measurements: Iterable[Measurement]) -> Measured:
    """Measurements of one pipeline by network.

    Raises:
        RecordError: there are two of one kind for one network.
    """
    found: dict[str, dict[str, Measurement]] = {}
    for measurement in measurements:
        kinds = found.setdefault(measurement.network, {})
        if measurement.kind in kinds:
            raise RecordError(
                f"there are two measurements of the {measurement.kind} of the {measurement.network}; give one"
            )
        kinds[measurement.kind] = measurement
    return Measured({role: MeasuredNetwork(**kinds) for role, kinds in found.items()})


def encode_measurement(pipeline: Pipeline, measurement: Measurement) -> bytes:
    """The content of a measurement file."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "pipeline": {"name": pipeline.name, "digest": digest(pipeline)},
        "network": measurement.network,
        **_encoded(measurement),
    }
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()


def _encoded(measurement: Measurement) -> dict[str, Any]:
    return {
        "kind": measurement.kind,
        "step": measurement.step,
        "images": measurement.images,
        "repeats": measurement.repeats,
        "timesteps": measurement.timesteps,
        "values": dict(measurement.values),
        "machine": dict(measurement.machine),
    }


def read_measurements(paths: Iterable[str | os.PathLike[str]], pipeline: Pipeline) -> Measured:
    """What was measured, from files or from folders of them.

    Raises:
        RecordError: as :func:`read_measurement` and :func:`collect`, or a folder without a file.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        found = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not found:
            raise RecordError(f"{path}: there is no measurement (*.json) in this folder")
        files += found
    return collect(read_measurement(path, pipeline) for path in files)


def read_measurement(path: str | os.PathLike[str], pipeline: Pipeline) -> Measurement:
    """Read and check a measurement file.

    Raises:
        RecordError: missing, too large, damaged, of another version, or of another pipeline.
    """
    path = Path(path)
    made_by = "`spikegen sample --profile` on a chip"
    document = read_record(path, "measurement", made_by, (FORMAT, VERSION), FILE_BYTES_MAX)
    try:
        if document["pipeline"]["digest"] != digest(pipeline):
            raise RecordError(f"{path}: this was measured with another pipeline; measure {pipeline.name}")
        return _decoded(document, pipeline)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise RecordError(f"{path}: damaged: {error}") from error


def _decoded(document: dict[str, Any], pipeline: Pipeline) -> Measurement:
    network, kind = document["network"], document["kind"]
    if not isinstance(network, str) or network not in pipeline.networks:
        raise ValueError(f"the pipeline has no {network!r}")
    if not isinstance(kind, str) or kind not in VALUES:
        raise ValueError(f"kind is {kind!r}, expected {' or '.join(VALUES)}")
    step, images, repeats, timesteps = (
        _whole(document, key, least) for key, least in (("step", 0), ("images", 1), ("repeats", 1), ("timesteps", 1))
    )
    values = {str(name): _number(name, value) for name, value in document["values"].items()}
    if not set(NEEDED[kind]) <= values.keys() <= VALUES[kind].keys():
        raise ValueError(f"the values of {kind} are {', '.join(values)}, expected {', '.join(VALUES[kind])}")
    machine = dict(document["machine"].items())
    if not all(isinstance(text, str) and text.isprintable() for item in machine.items() for text in item):
        raise ValueError("machine holds something else than texts")
    return Measurement(network, kind, step, images, repeats, timesteps, values, machine)


def _whole(document: dict[str, Any], name: str, least: int) -> int:
    value = document[name]
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 53:
        raise ValueError(f"{name} is {value!r}, expected a whole number of at least {least}")
    return value


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}, expected a number")
    return float(value)
