"""What a file of netx holds, read with nothing taken on trust: layers in order, with plain arrays.

Layout (lava-dl 0.6.0, ``slayer/block/base.py``, ``export_hdf5``, and ``netx/utils.py``, ``NetDict``): group ``layer``
with the groups ``0``, ``1``, ...; each has its ``type``, a dataset for every parameter, and a group ``neuron`` with the
``type`` and the parameters of its neurons. What is beside the group ``layer`` changes nothing and is not read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py

from spikegen.errors import ExchangeError
from spikegen.exporters import hostile_hdf5
from spikegen.exporters.hostile_hdf5 import Hdf5Reader, Value, member, short, text

LAYERS_MAX = 1024
_NEURON = "neuron"


@dataclass(frozen=True, eq=False)
class NetxLayer:
    """A layer of a file of netx.

    Attributes:
        index: its place.
        type: such as ``dense``.
        fields: its parameters.
        neuron: those of its neurons; None if it has none.
        groups: names of parameters that are groups (complex weights).
    """

    index: int
    type: str
    fields: Mapping[str, Value]
    neuron: Mapping[str, Value] | None
    groups: tuple[str, ...]

    @property
    def name(self) -> str:
        """How messages name it."""
        return f"layer {self.index} ({self.type})"


def read_checked(path: str | os.PathLike[str]) -> tuple[NetxLayer, ...]:
    """The layers of a file that anyone may have written: in bounded time and memory.

    Raises:
        ExchangeError: as of :func:`read_structure`, or reading it took too long.
    """
    return hostile_hdf5.read_checked(path, read_structure)


def read_structure(path: Path) -> tuple[NetxLayer, ...]:
    """The layers of a file, in order.

    Raises:
        ExchangeError: missing, not HDF5, truncated, not of netx, or larger than the limits.
    """
    return hostile_hdf5.read_file(path, "netx", _layers)


def _layers(file: h5py.File) -> tuple[NetxLayer, ...]:
    if "layer" not in file:
        raise ExchangeError("an HDF5 file, but not one of netx (it has no group layer)")
    place, reader = member(file, "layer", h5py.Group, "the file"), Hdf5Reader()
    if not 1 <= len(place) <= LAYERS_MAX:
        raise ExchangeError(f"it has {len(place)} layers, allowed 1..{LAYERS_MAX}")
    keys = [str(index) for index in range(len(place))]
    missing = [key for key in keys if key not in place]
    if missing:
        raise ExchangeError(f"it has {len(place)} layers, but no layer {missing[0]}; they must be numbered from 0 on")
    return tuple(_layer(reader, place, index) for index in range(len(place)))


def _layer(reader: Hdf5Reader, place: h5py.Group, index: int) -> NetxLayer:
    name = f"layer {index}"
    group = member(place, str(index), h5py.Group, name)
    kind = text(group, "type", name)
    name = f"{name} ({kind})"
    groups = [short(key, name) for key in group if _is_group(group, key)]
    neuron = None
    if _NEURON in group:
        neuron = reader.fields(member(group, _NEURON, h5py.Group, name), f"{name}: neuron")
    return NetxLayer(
        index,
        kind,
        reader.fields(group, name, frozenset({"type", *groups})),
        neuron,
        tuple(key for key in groups if key != _NEURON),
    )


def _is_group(group: h5py.Group, key: str) -> bool:
    """Whether a member is a group of this file; what a link leads to is not looked at."""
    return isinstance(group.get(key, getlink=True), h5py.HardLink) and group.get(key, getclass=True) is h5py.Group
