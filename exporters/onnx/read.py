"""ONNX files of strangers, read with nothing taken on trust.

What is read is a model of the kind that the exporter writes, perhaps after a tool that folds constants or leaves nodes
out. :func:`read_checked` parses it first in a process with limits (:mod:`spikegen.exporters.bounded`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from spikegen.errors import ExchangeError
from spikegen.exporters.bounded import run_bounded
from spikegen.exporters.onnx.graph import OPSET
from spikegen.exporters.onnx.operators import OPERATORS

FILE_BYTES_MAX = 1 << 29
NODES_MAX = 1 << 17
VALUES_MAX = 1 << 20  # inputs and outputs of all nodes
TENSORS_MAX = 1 << 16
RANK_MAX = 8
TEXT_MAX = 80  # characters of a name in a message
CHECKER_TEXT_MAX = 400

# Type of tensors that the exporter stores -> bytes of an element, and the field that holds elements without raw_data
# (onnx.proto, TensorProto).
_STORED: dict[int, tuple[int, str]] = {
    TensorProto.BOOL: (1, "int32_data"),
    TensorProto.INT8: (1, "int32_data"),
    TensorProto.INT16: (2, "int32_data"),
    TensorProto.INT32: (4, "int32_data"),
    TensorProto.INT64: (8, "int64_data"),
    TensorProto.FLOAT: (4, "float_data"),
    TensorProto.DOUBLE: (8, "double_data"),
}
_PLAIN = frozenset(
    {
        AttributeProto.INT,
        AttributeProto.INTS,
        AttributeProto.FLOAT,
        AttributeProto.FLOATS,
        AttributeProto.STRING,
    }
)
# What onnx raises for models that break its rules, and beyond the limit of memory.
_INVALID = (
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    ValueError,
    TypeError,
    RuntimeError,
    MemoryError,
)


def read_checked(path: str | os.PathLike[str]) -> ModelProto:
    """The model in an ONNX file that anyone may have written: in bounded time and memory.

    Raises:
        ExchangeError: as of :func:`read_model`, or reading it took too long.
    """
    path = Path(path)
    run_bounded(read_model, path)
    return read_model(path)


def read_model(path: Path) -> ModelProto:
    """The model in an ONNX file, every rule of its structure checked; what it computes is not known yet.

    Raises:
        ExchangeError: missing, too large, not ONNX, truncated, data in other files, another opset, operators that the
            exporter does not emit, a graph out of order or with a cycle, or what onnx's checker refuses; with the path.
    """
    try:
        content = _content(path)
        model = _parsed(content)
        _check_model(model)
        onnx.checker.check_model(content, full_check=True)
    except ExchangeError as error:
        raise ExchangeError(f"{path}: {error}") from error
    except _INVALID as error:
        reason = shown(" ".join(str(error).split()), CHECKER_TEXT_MAX) or type(error).__name__
        raise ExchangeError(f"{path}: not a valid ONNX model: {reason}") from error
    return model


def shown(text: str | bytes, limit: int = TEXT_MAX) -> str:
    """A text of a file in a message: one line, printable, and not long. What is no UTF-8 protobuf gives as bytes."""
    if isinstance(text, bytes):
        text = text.decode("utf8", "replace")
    plain = "".join(character if character.isprintable() else "?" for character in text[: limit + 1])
    return plain if len(plain) <= limit else f"{plain[:limit]}..."


def _content(path: Path) -> bytes:
    """The bytes of the file; no more are read than the limit."""
    if not path.is_file():
        raise ExchangeError("there is no such ONNX file")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > FILE_BYTES_MAX:
                raise ExchangeError(f"it has {size} bytes, limit is {FILE_BYTES_MAX}")
            return file.read(FILE_BYTES_MAX)
    except OSError as error:
        raise ExchangeError(f"cannot be read: {error.strerror or error}") from error


def _parsed(content: bytes) -> ModelProto:
    try:
        model = ModelProto()
        model.ParseFromString(content)
    except DecodeError as error:
        raise ExchangeError("not an ONNX file, or truncated or damaged") from error
    if not model.HasField("graph") or not model.opset_import:
        raise ExchangeError("not an ONNX file, or truncated: it has no graph or names no opset")
    return model


def _check_model(model: ModelProto) -> None:
    versions = [entry.version for entry in model.opset_import if not entry.domain]
    if versions != [OPSET]:  # other domains may be named, as ONNX Runtime does: no node may be of them
        raise ExchangeError(f"its opset is {', '.join(map(str, versions)) or 'missing'}, {OPSET} is read")
    if model.functions or model.training_info:
        raise ExchangeError("it has functions or training information, which are not read")
    _Checker().graph(model.graph, "the graph")


class _Checker:
    """Walks through the graph of one file and keeps count of what it holds."""

    def __init__(self) -> None:
        self.nodes = self.values = self.tensors = 0
        self.known: set[str] = set()

    def graph(self, graph: GraphProto, name: str) -> None:
        """Every value is given once, and before it is read."""
        if graph.sparse_initializer:
            raise ExchangeError(f"{name}: it has sparse tensors, which are not read")
        self.tensors += len(graph.initializer)
        self.nodes += len(graph.node)
        self.values += sum(len(node.input) + len(node.output) for node in graph.node)
        for what, count, limit in (
            ("nodes", self.nodes, NODES_MAX),
            ("inputs and outputs of nodes", self.values, VALUES_MAX),
            ("tensors", self.tensors, TENSORS_MAX),
        ):
            if count > limit:
                raise ExchangeError(f"{name}: more than {limit} {what}")
        given = [tensor.name for tensor in graph.initializer] + [port.name for port in graph.input]
        for value in given:
            self._give(value, name)
        for tensor in graph.initializer:
            _check_tensor(tensor)
        for index, node in enumerate(graph.node):
            label = f"node {shown(node.name) or index} ({shown(node.op_type)})"
            self._check_node(graph, index, node, label)
            given += [value for value in node.output if value]
        for port in graph.output:
            if port.name not in self.known:
                raise ExchangeError(f"{name}: nothing gives its output {shown(port.name)}")
        self.known.difference_update(given)

    def _give(self, value: str, label: str) -> None:
        if not isinstance(value, str) or value in self.known:
            raise ExchangeError(f"{label}: it gives {shown(value)}, which is there already or no name")
        self.known.add(value)

    def _check_node(self, graph: GraphProto, index: int, node: NodeProto, label: str) -> None:
        if node.domain:
            raise ExchangeError(f"{label}: its domain is {shown(node.domain)}; operators of ONNX itself are read only")
        if node.op_type not in OPERATORS:
            raise ExchangeError(
                f"{label}: no operator that spikegen writes, so none that it reads; a tool may have put it there"
            )
        for value in node.input:
            if value and value not in self.known:
                raise ExchangeError(f"{label}: it reads {shown(value)}, {_why_unknown(graph.node[index:], value)}")
        for attribute in node.attribute:
            self._check_attribute(node, attribute, label)
        for value in filter(None, node.output):
            self._give(value, label)

    def _check_attribute(self, node: NodeProto, attribute: AttributeProto, label: str) -> None:
        if attribute.type == AttributeProto.GRAPH and node.op_type == "Scan" and attribute.name == "body":
            if any(nested.op_type == "Scan" for nested in attribute.g.node):
                raise ExchangeError(f"{label}: a Scan in a Scan, which is not read")
            self.graph(attribute.g, f"{label}, its body")
        elif attribute.type not in _PLAIN or attribute.ref_attr_name:
            raise ExchangeError(f"{label}: its attribute {shown(attribute.name)} is neither numbers nor a text")


def _why_unknown(rest: Iterable[NodeProto], value: str) -> str:
    if any(value in node.output for node in rest):
        return "which comes from it or from a later node: the graph has a cycle, or is not in order"
    return "which nothing gives"


def _check_tensor(tensor: TensorProto) -> None:
    """The tensor is stored here, and as large as it says."""
    label = f"tensor {shown(tensor.name)}"
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise ExchangeError(f"{label}: its data is in another file, which is not read")
    if tensor.data_type not in _STORED:
        raise ExchangeError(f"{label}: its type is number {tensor.data_type}, which spikegen does not write")
    if len(tensor.dims) > RANK_MAX or any(size < 0 for size in tensor.dims):
        raise ExchangeError(f"{label}: it has {len(tensor.dims)} dimensions, limit is {RANK_MAX}, none below 0")
    width, field = _STORED[tensor.data_type]
    declared = math.prod(tensor.dims) * width
    stored = len(tensor.raw_data) if tensor.HasField("raw_data") else len(getattr(tensor, field)) * width
    if declared != stored:
        raise ExchangeError(f"{label}: shape {tuple(tensor.dims)} takes {declared} bytes, {stored} are stored")
