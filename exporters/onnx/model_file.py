"""A model file of a pipeline: found, held against the models that the exporter writes, and run.

ONNX Runtime runs it in a process with limits, for what the nodes of a strange file make is not known before.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, ValueInfoProto, helper

from spikegen.errors import ExchangeError
from spikegen.exporters.bounded import run_bounded
from spikegen.exporters.onnx.host import input_model, readout_model
from spikegen.exporters.onnx.network import EVENTS, MESSAGES, network_model
from spikegen.exporters.onnx.read import read_checked, shown
from spikegen.exporters.onnx.target import FAILURES, open_session
from spikegen.program import Pipeline, Program
from spikegen.program.storage import digest

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]
Ports: TypeAlias = dict[str, tuple[str, tuple[int | str, ...]]]  # name -> type of numpy, dimensions ("N" if free)

KINDS = ("network", "input", "readout")
SECONDS_MAX = 600  # of a run
_MODEL, _PORTS, _FEEDS, _RESULTS = "model.onnx", "ports.json", "feeds.npz", "results.npz"


@dataclass(frozen=True, eq=False)
class ModelFile:
    """An ONNX file with the inputs and outputs of a model that the exporter writes; what it computes is to be seen.

    Attributes:
        path: the file.
        kind: one of :data:`KINDS`.
        role: of its network in the pipeline.
        program: that network.
        outputs: name -> type and shape.
        content: the model.
    """

    path: Path
    kind: str
    role: str
    program: Program
    outputs: Ports
    content: bytes

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """What the model gives for ``feeds``, all its inputs of N images: name -> array, as ``outputs`` says.

        Raises:
            ExchangeError: ONNX Runtime refuses the model or fails at it, it took too long or too much memory, or an
                output has another type or shape.
        """
        with tempfile.TemporaryDirectory(prefix="spikegen-onnx-") as name:
            folder = Path(name)
            (folder / _MODEL).write_bytes(self.content)
            (folder / _PORTS).write_text(json.dumps(self.outputs), encoding="utf8")
            np.savez(folder / _FEEDS, **feeds)
            run_bounded(run_in, self.path, folder, doing="running", seconds=SECONDS_MAX)
            with np.load(folder / _RESULTS, allow_pickle=False) as results:
                return {output: results[output] for output in self.outputs}


def open_model(path: str | os.PathLike[str], pipeline: Pipeline) -> ModelFile:
    """The ONNX file ``path``, which must be of a network of ``pipeline`` or of the host's part around one.

    Raises:
        ExchangeError: as of :func:`~spikegen.exporters.onnx.read.read_checked`; or it is of another network, or its
            inputs and outputs are not those of the model that the exporter writes; with the path.
    """
    path = Path(path)
    model = read_checked(path)
    try:
        return _matched(path, model, pipeline)
    except ExchangeError as error:
        raise ExchangeError(f"{path}: {error}") from error


def _matched(path: Path, model: ModelProto, pipeline: Pipeline) -> ModelFile:
    about = {shown(entry.key): shown(entry.value) for entry in model.metadata_props}
    found, kind = about.get("spikegen.digest", ""), about.get("spikegen.kind", "")
    if not re.fullmatch(r"[0-9a-f]{64}", found):
        raise ExchangeError("its metadata hold no spikegen.digest: spikegen did not write it, or a tool dropped them")
    if kind not in KINDS:
        raise ExchangeError(f"its spikegen.kind is {shown(kind)!r}, it must be one of {', '.join(KINDS)}")
    digests = {role: digest(program) for role, program in pipeline.networks.items()}
    role = next((role for role, known in digests.items() if known == found), None)
    if role is None:
        has = ", ".join(f"{known} ({role})" for role, known in digests.items())
        raise ExchangeError(
            f"its network has the digest {found}, {pipeline.name} has {has}; give the pipeline it was exported from"
        )
    program = pipeline.networks[role]
    own = _own_model(kind, program, [port.name for port in model.graph.output])
    outputs = _ports(own.graph.output)
    for what, ports, expected in (
        ("inputs", _ports(model.graph.input), _ports(own.graph.input)),
        ("outputs", _ports(model.graph.output), outputs),
    ):
        _compare(what, ports, expected, f"the {kind} model of the {role}" if kind != role else f"the {kind}")
    return ModelFile(path, kind, role, program, outputs, model.SerializeToString())


def _own_model(kind: str, program: Program, names: Iterable[str]) -> ModelProto:
    """The model that the exporter writes; of a network, the one with the outputs that begin as ``names`` do."""
    if kind == "input":
        return input_model(program)
    if kind == "readout":
        return readout_model(program)
    for outputs, prefix in (("messages", MESSAGES), ("events", EVENTS)):
        if any(name.startswith(prefix) for name in names):
            return network_model(program, outputs)
    return network_model(program)


def _ports(declared: Iterable[ValueInfoProto]) -> Ports:
    found: Ports = {}
    for port in declared:
        if not port.type.HasField("tensor_type") or not port.type.tensor_type.HasField("shape"):
            raise ExchangeError(f"{shown(port.name)} is no tensor of a declared shape")
        tensor = port.type.tensor_type
        sizes = tuple(size.dim_value if size.HasField("dim_value") else "N" for size in tensor.shape.dim)
        try:
            dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        except KeyError as error:
            raise ExchangeError(f"{shown(port.name)} has the unknown type {tensor.elem_type}") from error
        found[port.name] = dtype, sizes
    return found


def _compare(what: str, found: Ports, expected: Ports, owner: str) -> None:
    if found.keys() != expected.keys():
        raise ExchangeError(f"its {what} are {shown(', '.join(found), 400)}; {owner} has {', '.join(expected)}")
    for name, port in expected.items():
        if found[name] != port:
            raise ExchangeError(f"its {name} is {_text(found[name])}; {owner} has {_text(port)}")


def _text(port: tuple[str, tuple[int | str, ...]]) -> str:
    dtype, sizes = port
    return shown(f"{dtype} ({', '.join(map(str, sizes))})")


def run_in(path: Path, folder: Path) -> None:
    """Run the model in ``folder`` on the inputs there, and leave the outputs there; what :meth:`ModelFile.run` starts.

    Raises:
        ExchangeError: see there; with ``path``.
    """
    outputs: Ports = json.loads((folder / _PORTS).read_text(encoding="utf8"))
    with np.load(folder / _FEEDS, allow_pickle=False) as arrays:
        feeds = {name: arrays[name] for name in arrays.files}
    try:
        session = open_session((folder / _MODEL).read_bytes(), threads=1, severity=4)
        results = dict(zip(outputs, session.run(list(outputs), feeds), strict=True))
    except FAILURES as error:
        reason = shown(" ".join(str(error).split()), 400) or "out of memory"
        raise ExchangeError(f"{path}: ONNX Runtime does not run it within the limits: {reason}") from error
    images = max(len(value) for value in feeds.values() if value.ndim)
    for name, (dtype, sizes) in outputs.items():
        shape = tuple(images if size == "N" else size for size in sizes)
        if (results[name].dtype, results[name].shape) != (np.dtype(dtype), shape):
            made = _text((results[name].dtype.name, results[name].shape))
            raise ExchangeError(f"{path}: its {name} came out as {made}, declared is {_text((dtype, tuple(sizes)))}")
    np.savez(folder / _RESULTS, **results)
