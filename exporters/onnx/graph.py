"""Building an ONNX graph node by node, and the model around it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from spikegen import __version__
from spikegen.errors import ConfigError

OPSET = 17
IR_VERSION = 8  # the one of opset 17 (onnx, ``helper.VERSION_TABLE``), so that every reader of the opset reads the file
BYTES_MAX = (1 << 31) - 1  # a protobuf message holds no more


class Port(NamedTuple):
    """An input or output of a graph: its name, numpy dtype and shape; a text is the name of a free dimension."""

    name: str
    dtype: Any
    shape: tuple[int | str, ...]

    def value_info(self) -> onnx.ValueInfoProto:
        """As ONNX declares it."""
        return helper.make_tensor_value_info(
            self.name, helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype)), self.shape
        )


class Graph:
    """Nodes in the order in which they are added, and the constants that they use.

    Args:
        parent: the graph around the body of a Scan, whose values the body may use; its constants are kept there.
    """

    def __init__(self, parent: Graph | None = None) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}
        self.root: Graph = self if parent is None else parent.root
        self.numbers: Iterator[int] = itertools.count() if parent is None else parent.numbers

    def add(self, kind: str, *inputs: str, into: str = "", **attributes: Any) -> str:
        """Add a node of one output and return the name of that output: ``into``, or a name that no other value has."""
        return self.split(kind, *inputs, into=[into or self.name(kind)], **attributes)[0]

    def split(self, kind: str, *inputs: str, into: Sequence[str], **attributes: Any) -> Sequence[str]:
        """Add a node whose outputs are ``into``."""
        self.nodes.append(helper.make_node(kind, inputs, into, name=f"{into[0]}:{kind}", **attributes))
        return into

    def constant(self, value: npt.ArrayLike, dtype: Any) -> str:
        """The name of a constant; equal ones are kept once."""
        array = np.ascontiguousarray(value, dtype=dtype).reshape(np.shape(value))
        key = (array.dtype.str, array.shape, array.tobytes())
        constants = self.root.constants
        if key not in constants:
            constants[key] = numpy_helper.from_array(array, self.name("constant"))
        return constants[key].name

    def name(self, hint: str) -> str:
        """A name that no other value has; those of ports never begin with a digit."""
        return f"{next(self.numbers)}:{hint}"

    def cast(self, value: str, dtype: Any, into: str = "") -> str:
        """``value`` in another type."""
        return self.add("Cast", value, into=into, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def reshape(self, value: str, shape: Sequence[int], into: str = "") -> str:
        """``value`` in another shape; one dimension may be -1."""
        return self.add("Reshape", value, self.constant(shape, np.int64), into=into)

    def proto(self, name: str, inputs: Sequence[Port], outputs: Sequence[Port]) -> onnx.GraphProto:
        """The graph."""
        return helper.make_graph(
            self.nodes,
            name,
            [port.value_info() for port in inputs],
            [port.value_info() for port in outputs],
            list(self.constants.values()),
        )


def make_model(graph: onnx.GraphProto, metadata: Mapping[str, str], doc: str) -> onnx.ModelProto:
    """A model of opset 17 that the checker of onnx takes.

    Raises:
        ConfigError: it is larger than the 2 GiB that an ONNX file holds.
    """
    size = sum(len(tensor.raw_data) for tensor in graph.initializer)
    if size >= BYTES_MAX:
        raise ConfigError(f"{graph.name}: its constants take {size} bytes, an ONNX file holds {BYTES_MAX}; cut it up")
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="spikegen",
        producer_version=__version__,
        doc_string=doc,
    )
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model
