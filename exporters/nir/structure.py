"""What a NIR file holds, read with nothing taken on trust: nodes with plain arrays, and edges.

Layout (nir 1.0, ``nir/serialization.py``): dataset ``version``; group ``node``, a graph. A graph is a group with the
text ``type`` = ``NIRGraph``, a group ``nodes`` and a dataset ``edges`` (E, 2) of node names; a node is a group with its
``type`` and a dataset for every parameter. ``metadata`` changes nothing and is not read.

``nir.read`` allocates what a file declares and follows links into other files; this reader does neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt

from spikegen.errors import ExchangeError

Value: TypeAlias = npt.NDArray[Any] | str

NODES_MAX, EDGES_MAX, FIELDS_MAX, DEPTH_MAX = 4096, 16384, 32, 8
TEXT_MAX = 256
ARRAY_BYTES_MAX = 1 << 29
TOTAL_BYTES_MAX = 1 << 31
DEFLATE_RATIO_MAX = 1040  # zlib reaches 1032; a file that promises more holds nothing of what it declares

# What h5py raises on damaged content.
_UNREADABLE = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)


@dataclass(frozen=True, eq=False)
class NirNode:
    """A node of a NIR graph.

    Attributes:
        name: its key; that of a node in a nested graph begins with the keys of the graphs around it.
        type: name of the NIR primitive.
        fields: its parameters, arrays of finite numbers or short texts.
    """

    name: str
    type: str
    fields: Mapping[str, Value]


@dataclass(frozen=True, eq=False)
class NirGraph:
    """A NIR graph; nested graphs are inlined, their Input and Output are nodes of type ``Pass``.

    Attributes:
        version: of nir, as the file says.
        nodes: by name.
        edges: (source, target), names of nodes.
    """

    version: str
    nodes: Mapping[str, NirNode]
    edges: tuple[tuple[str, str], ...]


def read_structure(path: Path) -> NirGraph:
    """The content of a NIR file.

    Raises:
        ExchangeError: missing, not HDF5, truncated, not NIR, or larger than the limits above.
    """
    if not path.is_file():
        raise ExchangeError(f"{path}: there is no such NIR file")
    try:
        with h5py.File(path, "r") as file:
            return _Reader().graph(file)
    except ExchangeError as error:
        raise ExchangeError(f"{path}: {error}") from error
    except _UNREADABLE as error:
        raise ExchangeError(f"{path}: not a readable NIR file (truncated or damaged): {error}") from error


class _Reader:
    """Reads one file and keeps count of what it declares."""

    def __init__(self) -> None:
        self.nodes: dict[str, NirNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.bytes = 0

    def graph(self, file: h5py.File) -> NirGraph:
        if "node" not in file:
            raise ExchangeError("an HDF5 file, but not a NIR file (it has no group node)")
        version = self._text(file, "version", "the file") if "version" in file else "unknown"
        self._graph(_member(file, "node", h5py.Group, "the file"), "", 0)
        return NirGraph(version, self.nodes, tuple(self.edges))

    def _graph(self, group: h5py.Group, prefix: str, depth: int) -> list[str]:
        """Reads a graph whose nodes get names that begin with ``prefix``; the names of its own nodes."""
        where = prefix.rstrip(".") or "the graph"
        if depth > DEPTH_MAX:
            raise ExchangeError(f"{where}: graphs are nested more than {DEPTH_MAX} deep")
        kind = self._text(group, "type", where)
        if kind != "NIRGraph":
            raise ExchangeError(f"{where}: type is {kind!r}, expected NIRGraph")
        members = _member(group, "nodes", h5py.Group, where)
        if len(self.nodes) + len(members) > NODES_MAX:
            raise ExchangeError(f"{where}: {len(self.nodes) + len(members)} nodes, limit is {NODES_MAX}")
        own: list[str] = []
        ends: dict[str, tuple[str, str]] = {}  # nested graph -> its Input and its Output
        for key in members:
            name = prefix + _short(key, where)
            node = _member(members, key, h5py.Group, where)
            kind = self._text(node, "type", name)
            if kind == "NIRGraph":
                ends[name] = self._ends(name, self._graph(node, f"{name}.", depth + 1))
                continue
            if name in self.nodes:
                raise ExchangeError(f"{name}: two nodes have this name once nested graphs are inlined")
            self.nodes[name] = NirNode(name, kind, self._fields(node, name))
            own.append(name)
        for pair in self._edges(group, where):
            source, target = (prefix + key for key in pair)
            edge = ends.get(source, ("", source))[1], ends.get(target, (target, ""))[0]
            missing = sorted(set(edge) - self.nodes.keys())
            if missing:
                raise ExchangeError(f"{where}: the edge {source} -> {target} names no node: {', '.join(missing)}")
            self.edges.append(edge)
        return own

    def _ends(self, graph: str, own: list[str]) -> tuple[str, str]:
        """The one Input and the one Output of a nested graph, which from now on only pass values on."""
        found = []
        for kind in ("Input", "Output"):
            names = [name for name in own if self.nodes[name].type == kind]
            if len(names) != 1:
                raise ExchangeError(f"{graph}: a nested graph has {len(names)} nodes {kind}, it must have one")
            self.nodes[names[0]] = NirNode(names[0], "Pass", self.nodes[names[0]].fields)
            found.append(names[0])
        return found[0], found[1]

    def _fields(self, group: h5py.Group, name: str) -> dict[str, Value]:
        if len(group) > FIELDS_MAX:
            raise ExchangeError(f"{name}: {len(group)} parameters, limit is {FIELDS_MAX}")
        return {_short(key, name): self._value(group, key, name) for key in group if key not in {"type", "metadata"}}

    def _value(self, group: h5py.Group, key: str, name: str) -> Value:
        data = _dataset(group, key, name)
        if h5py.check_string_dtype(data.dtype) is not None:
            return self._text(group, key, name)
        if data.dtype.kind not in "iufb" or data.dtype.itemsize > 8:
            raise ExchangeError(f"{name}: {key} has type {data.dtype}, expected numbers or a text")
        self.bytes += _declared(data, f"{name}: {key}")
        if self.bytes > TOTAL_BYTES_MAX:
            raise ExchangeError(f"{name}: the file declares more than {TOTAL_BYTES_MAX} bytes of parameters")
        values = np.asarray(data[()])
        if not np.isfinite(values).all():
            raise ExchangeError(f"{name}: {key} has NaN or infinite values")
        return values

    def _edges(self, group: h5py.Group, where: str) -> list[tuple[str, str]]:
        data = _dataset(group, "edges", where)
        if data.shape[0] == 0:
            return []
        if h5py.check_string_dtype(data.dtype) is None or len(data.shape) != 2 or data.shape[1] != 2:
            raise ExchangeError(f"{where}: edges must be pairs of names, not {data.dtype} of shape {data.shape}")
        if len(self.edges) + data.shape[0] > EDGES_MAX:
            raise ExchangeError(f"{where}: {len(self.edges) + data.shape[0]} edges, limit is {EDGES_MAX}")
        _declared(data, f"{where}: edges")
        return [(_short(source, where), _short(target, where)) for source, target in data[()]]

    def _text(self, group: h5py.Group, key: str, where: str) -> str:
        data = _dataset(group, key, where)
        if h5py.check_string_dtype(data.dtype) is None or data.shape != ():
            raise ExchangeError(f"{where}: {key} must be one text, not {data.dtype} of shape {data.shape}")
        _declared(data, f"{where}: {key}")
        return _short(data[()], f"{where}: {key}")


def _short(text: bytes | str, where: str) -> str:
    """A name of the file, within the limit."""
    if len(text) > TEXT_MAX:
        raise ExchangeError(f"{where}: a text of {len(text)} bytes, limit is {TEXT_MAX}")
    return text.decode("utf8") if isinstance(text, bytes) else text


def _member(group: h5py.Group, key: str, kind: type, where: str) -> Any:
    """An object that is stored in this very file."""
    link = group.get(key, getlink=True) if key in group else None
    if not isinstance(link, h5py.HardLink) or not isinstance(group[key], kind):
        raise ExchangeError(f"{where}: {_short(key, where)} is not a plain {kind.__name__.lower()} of this file")
    return group[key]


def _dataset(group: h5py.Group, key: str, where: str) -> h5py.Dataset:
    data = _member(group, key, h5py.Dataset, where)
    if data.is_virtual or data.external or data.shape is None:
        raise ExchangeError(f"{where}: {key} is stored in another file, or not at all")
    return data


def _declared(data: h5py.Dataset, where: str) -> int:
    """The bytes that a dataset declares, within the limit and truly stored."""
    declared = math.prod(data.shape) * data.dtype.itemsize
    chunk = math.prod(data.chunks or ()) * data.dtype.itemsize
    if max(declared, chunk) > ARRAY_BYTES_MAX:
        raise ExchangeError(f"{where} declares {max(declared, chunk)} bytes, limit is {ARRAY_BYTES_MAX}")
    stored = data.id.get_storage_size()
    if declared > stored * DEFLATE_RATIO_MAX:
        raise ExchangeError(f"{where} declares {declared} bytes and stores {stored}")
    return int(declared)
