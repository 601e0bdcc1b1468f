"""Parameters of a layer as whole numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from spikegen.errors import ExchangeError
from spikegen.exporters.hostile_hdf5 import Value
from spikegen.exporters.netx.structure import NetxLayer
from spikegen.exporters.netx.synapses import IntArray
from spikegen.program.ir import NEURONS_MAX, Shape

_INT_MAX = (1 << 31) - 1


def shape(layer: NetxLayer) -> Shape:
    """The shape that a layer declares: (C, H, W), or (N,), which is (N, 1, 1)."""
    found = array(layer, "shape")
    axes = tuple(int(size) for size in found.reshape(-1))
    if found.ndim != 1 or len(axes) not in {1, 3} or min(axes) < 1 or math.prod(axes) > NEURONS_MAX:
        raise ExchangeError(
            f"{layer.name}: shape is {axes[:4]}; (channels, height, width) or (neurons,), of at most {NEURONS_MAX}"
        )
    return (axes[0], axes[1], axes[2]) if len(axes) == 3 else (axes[0], 1, 1)


def array(layer: NetxLayer, key: str) -> IntArray:
    """A parameter as whole numbers, int64."""
    return whole(layer.name, layer.fields, key)


def whole(name: str, fields: Mapping[str, Value], key: str) -> IntArray:
    """A parameter as whole numbers, int64, not empty.

    Raises:
        ExchangeError: it is missing, a text, or has other numbers; lava-dl would cut off what is behind the point.
    """
    value = fields.get(key)
    if value is None:
        raise ExchangeError(f"{name}: it has no {key}")
    if isinstance(value, str) or not value.size:
        raise ExchangeError(f"{name}: {key} is {value!r}, expected numbers")
    real = value.astype(np.float64)
    if (real != np.floor(real)).any() or np.abs(real).max() > _INT_MAX:
        raise ExchangeError(f"{name}: {key} has numbers that are not whole, or above {_INT_MAX}; netx takes whole ones")
    return value.astype(np.int64)


def pair(layer: NetxLayer, key: str) -> tuple[int, int]:
    """A parameter for rows and columns; one number is taken for both."""
    found = array(layer, key).reshape(-1)
    if found.size > 2 or found.min() < 0:
        raise ExchangeError(f"{layer.name}: {key} is {found.tolist()[:4]}, expected 1 or 2 numbers of at least 0")
    return int(found[0]), int(found[-1])


def one(name: str, fields: Mapping[str, Value], key: str) -> int:
    """A parameter that is one number."""
    found = whole(name, fields, key)
    if found.size != 1:
        raise ExchangeError(f"{name}: {key} has {found.size} numbers; one for all neurons of a layer is supported")
    return int(found.reshape(-1)[0])
