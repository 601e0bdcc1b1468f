"""What a NIR file holds, read with nothing taken on trust: nodes with plain arrays, and edges.

Layout (nir 1.0, ``nir/serialization.py``): dataset ``version``; group ``node``, a graph. A graph is a group with the
text ``type`` = ``NIRGraph``, a group ``nodes`` and a dataset ``edges`` (E, 2) of node names; a node is a group with its
``type`` and a dataset for every parameter. ``metadata`` changes nothing and is not read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py

from spikegen.errors import ExchangeError
from spikegen.exporters import hostile_hdf5
from spikegen.exporters.hostile_hdf5 import Hdf5Reader, Value, dataset, declared, member, short, text

NODES_MAX, EDGES_MAX, DEPTH_MAX = 4096, 16384, 8
_NOT_PARAMETERS = frozenset({"type", "metadata"})


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


def read_checked(path: str | os.PathLike[str]) -> NirGraph:
    """The content of a NIR file that anyone may have written: in bounded time and memory.

    Raises:
        ExchangeError: as of :func:`read_structure`, or reading it took too long.
    """
    return hostile_hdf5.read_checked(path, read_structure)


def read_structure(path: Path) -> NirGraph:
    """The content of a NIR file.

    Raises:
        ExchangeError: missing, not HDF5, truncated, not NIR, or larger than the limits.
    """
    return hostile_hdf5.read_file(path, "NIR", lambda file: _Reader().graph(file))


class _Reader(Hdf5Reader):
    """Reads one file."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: dict[str, NirNode] = {}
        self.edges: list[tuple[str, str]] = []

    def graph(self, file: h5py.File) -> NirGraph:
        if "node" not in file:
            raise ExchangeError("an HDF5 file, but not a NIR file (it has no group node)")
        version = text(file, "version", "the file") if "version" in file else "unknown"
        self._graph(member(file, "node", h5py.Group, "the file"), "", 0)
        return NirGraph(version, self.nodes, tuple(self.edges))

    def _graph(self, group: h5py.Group, prefix: str, depth: int) -> list[str]:
        """Reads a graph whose nodes get names that begin with ``prefix``; the names of its own nodes."""
        where = prefix.rstrip(".") or "the graph"
        if depth > DEPTH_MAX:
            raise ExchangeError(f"{where}: graphs are nested more than {DEPTH_MAX} deep")
        kind = text(group, "type", where)
        if kind != "NIRGraph":
            raise ExchangeError(f"{where}: type is {kind!r}, expected NIRGraph")
        members = member(group, "nodes", h5py.Group, where)
        if len(self.nodes) + len(members) > NODES_MAX:
            raise ExchangeError(f"{where}: {len(self.nodes) + len(members)} nodes, limit is {NODES_MAX}")
        own: list[str] = []
        ends: dict[str, tuple[str, str]] = {}  # nested graph -> its Input and its Output
        for key in members:
            name = prefix + short(key, where)
            node = member(members, key, h5py.Group, where)
            kind = text(node, "type", name)
            if kind == "NIRGraph":
                ends[name] = self._ends(name, self._graph(node, f"{name}.", depth + 1))
                continue
            if name in self.nodes:
                raise ExchangeError(f"{name}: two nodes have this name once nested graphs are inlined")
            self.nodes[name] = NirNode(name, kind, self.fields(node, name, _NOT_PARAMETERS))
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

    def _edges(self, group: h5py.Group, where: str) -> list[tuple[str, str]]:
        data = dataset(group, "edges", where)
        if data.shape[0] == 0:
            return []
        if h5py.check_string_dtype(data.dtype) is None or len(data.shape) != 2 or data.shape[1] != 2:
            raise ExchangeError(f"{where}: edges must be pairs of names, not {data.dtype} of shape {data.shape}")
        if len(self.edges) + data.shape[0] > EDGES_MAX:
            raise ExchangeError(f"{where}: {len(self.edges) + data.shape[0]} edges, limit is {EDGES_MAX}")
        declared(data, f"{where}: edges")
        return [(short(source, where), short(target, where)) for source, target in data[()]]
