"""Integer nodes and projections nearest to the float ones, for a given LSB."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spikegen.lowering.graph import FloatArray
from spikegen.lowering.network import FloatPopulation, FloatProjection
from spikegen.lowering.payloads import Payload
from spikegen.program import Conv, Lif, Population, Readout, Relay
from spikegen.program.bounds import Interval
from spikegen.program.numerics import (
    BIAS_EXP_MAX,
    BIAS_MANT_MAX,
    GRADED_BITS_MAX,
    STATE_SHIFT,
    WEIGHT_MAX,
    WEIGHT_MIN,
)


def nearest_conv(projection: FloatProjection, units: FloatArray, exponent: int, payload: Payload) -> Conv:
    """The projection whose weight is nearest to ``units``, in units of the LSB."""
    k = projection.kernel
    weight = np.clip(np.rint(units / (1 << exponent)), WEIGHT_MIN, WEIGHT_MAX).astype(np.int8)
    return Conv(
        projection.name,
        projection.source,
        projection.target,
        weight,
        exponent,
        k.stride,
        k.padding,
        k.dilation,
        k.groups,
        k.shuffle,
        gains=payload.integers,
    )


def quantized_population(
    population: FloatPopulation, lsb: float, bias: FloatArray, interval: Interval
) -> tuple[Population, npt.NDArray[np.int16] | None] | None:
    """The integer population for a given LSB, or None if something does not fit."""
    name, shape = population.name, population.shape
    if population.weights is not None:
        return Readout(name, shape, population.weights, bias, lsb, population.tail), None
    if population.neuron is None:
        bits = max(1, int(max(-interval[0].min(), interval[1].max())).bit_length())
        return (Relay(name, shape, bits, lsb), None) if bits <= GRADED_BITS_MAX else None
    threshold, du, dv = population.neuron
    total = bias if population.table is None else bias + population.table
    units = np.concatenate([np.atleast_2d(total), bias[None]]) / lsb * (1 << STATE_SHIFT)
    exponent = 0
    while np.abs(np.rint(units / (1 << exponent))).max() > BIAS_MANT_MAX:
        exponent += 1
        if exponent > BIAS_EXP_MAX:
            return None
    mantissas = np.rint(units / (1 << exponent)).astype(np.int64)
    node = Lif(
        name,
        shape,
        round(threshold / lsb),
        du,
        dv,
        mantissas[-1],
        exponent,
        lsb,
        population.origin,
        population.origin_start,
        population.delays,
    )
    table = None if population.table is None else (mantissas[:-1] - mantissas[-1]).astype(np.int16)
    return node, table
