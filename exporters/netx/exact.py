"""One layer of netx with numbers that it computes exactly, or why there are none.

What netx builds: lava-dl 0.6.0 ``netx/hdf5.py`` (``create_dense``, ``create_conv``, ``get_neuron_params``). A neuron
has ``vth = vThMant``, ``du = iDecay - 1``, ``dv = vDecay`` and a bias of whole multiples of 64 (``bias_exp`` 6). Where
nothing decays, weights, threshold and bias can be divided by a power of two; that is how they come to fit.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from spikegen.errors import ExchangeError
from spikegen.exporters.netx.synapses import (
    GEOMETRY_MAX,
    MIXED_MAX,
    MIXED_MIN,
    IntArray,
    dense_currents,
    fits_a_synapse,
)
from spikegen.program import Conv, Dense, Lif, Program, Projection, Readout
from spikegen.program.bounds import Interval, population_risks
from spikegen.program.ir import Shape
from spikegen.program.numerics import BIAS_MANT_MAX, BIAS_MANT_MIN, DECAY_MAX, DECAY_UNITY, VTH_MAX

NEVER_FIRES = (1 << 18) - 1  # the threshold that lava-dl's Affine writes: above all that a membrane can hold
READOUT_MAX = (1 << 17) - 1  # such a membrane holds 64 times the current
BIAS_EXP = 6
_SHIFTS = sorted(range(-8, 16), key=abs)


@dataclass(frozen=True, eq=False)
class Numbers:
    """Those of the neurons of a layer.

    Attributes:
        vth: ``vThMant``.
        decays: ``iDecay``, ``vDecay``.
        bias: int64 [C], ``bias``, of which the membrane gets 64 times as much.
    """

    vth: int
    decays: tuple[int, int]
    bias: IntArray


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer of netx: a projection and the neurons behind it.

    Attributes:
        projection: of the Program.
        population: of the Program: a Lif, or a Readout, for which neurons are written that never fire.
        dense: written as ``dense``, else as ``conv``.
        weight: int64 [out, in] or [out, in / groups, kh, kw].
        shift: the numbers of the Program are divided by ``2**shift``.
        neurons: behind it.
        on_chip: synapses of 8 bits hold the weights.
    """

    projection: Projection
    population: Lif | Readout
    dense: bool
    weight: IntArray
    shift: int
    neurons: Numbers
    on_chip: bool


def covers(projection: Projection, source: Shape) -> bool:
    """Whether a projection reads the whole source as one list."""
    if isinstance(projection, Dense):
        return True
    return projection.padding == (0, 0) and projection.shuffle == 1 and projection.weight.shape[2:] == source[1:]


def exact_layer(
    program: Program, projection: Projection, population: Lif | Readout, current: Interval, *, listed: bool
) -> Layer:
    """The layer of ``projection`` and ``population``.

    Args:
        program: around it.
        projection: a Conv without shuffle, or a Dense, whose gains are all the same.
        population: behind it.
        current: bounds of its current.
        listed: netx has a list before it, of which no convolution can be taken.

    Raises:
        ExchangeError: there is none: every reason, one a line.
    """
    source = program.nodes[projection.source].shape
    whole = covers(projection, source)
    if listed and not whole:
        raise ExchangeError(f"{projection.name}: it is a convolution of what is a list in netx, which has no way back")
    gain = int(projection.gains[0]) if projection.gains.size else 1
    kernel = (projection.weight.astype(np.int64) << projection.exponent) * gain
    forms = [(True, _matrix(projection, kernel, source))] if whole else []
    if isinstance(projection, Conv) and not listed:
        largest = max(
            *kernel.shape[2:], *projection.stride, *projection.padding, *projection.dilation, projection.groups
        )
        if largest <= GEOMETRY_MAX:
            forms.append((False, kernel))
        elif not whole:
            raise ExchangeError(
                f"{projection.name}: its kernel, stride, padding, dilation or groups reach {largest}, netx's conv "
                f"takes {GEOMETRY_MAX}"
            )
    found: list[Layer] = []
    for shift in _SHIFTS:
        neurons = _neurons_if_any(program, population, current, shift)
        for dense, weight in forms if neurons else ():
            scaled = _divided(weight, shift)
            if neurons is not None and scaled is not None and _is_exact(dense, scaled):
                on_chip = _on_chip(dense, scaled)
                found.append(Layer(projection, population, dense, scaled, shift, neurons, on_chip))
    if not found:
        raise ExchangeError("\n".join(_reasons(program, projection, population, current, forms[0])))
    # the first that a chip holds too: as little scaling as can be, and lists before convolutions
    return next((layer for layer in found if layer.on_chip), found[0])


def _is_exact(dense: bool, weight: IntArray) -> bool:
    """Whether netx adds up these very weights."""
    summed = dense_currents(weight) if dense else (weight, 8)
    return summed is not None and bool((summed[0] == weight).all())


def _on_chip(dense: bool, weight: IntArray) -> bool:
    if not dense:
        return fits_a_synapse(weight)
    summed = dense_currents(weight)
    return summed is not None and summed[1] <= 8


def _reasons(
    program: Program,
    projection: Projection,
    population: Lif | Readout,
    current: Interval,
    form: tuple[bool, IntArray],
) -> list[str]:
    """Why a layer cannot be written as it is; where its numbers may be divided, that did not help."""
    problems = []
    try:
        _neurons(program, population, current, 0)
    except ExchangeError as error:
        problems.append(str(error))
    dense, weight = form
    if _is_exact(dense, weight):
        return problems
    if not weight.any():
        return [
            *problems,
            f"{projection.name}: its weights are all 0; netx stops with an OverflowError at such a layer",
        ]
    if weight.min() >= MIXED_MIN and weight.max() <= MIXED_MAX:
        why = "netx cuts the weights of a dense layer where none is positive and the lowest is a power of two"
    else:
        why = f"netx's dense has {MIXED_MIN}..{MIXED_MAX}, or 0..255"
    rigid = _rigid(program, population, current)
    return [*problems, f"{projection.name}: its weights are {weight.min()}..{weight.max()}; {why}{rigid}"]


def _rigid(program: Program, population: Lif | Readout, current: Interval) -> str:
    """Why numbers that do not fit cannot be divided."""
    if isinstance(population, Lif) and not _scales(population):
        return f", and {population.name} leaks, so its numbers cannot be divided exactly"
    if isinstance(population, Lif) and population_risks(population, current, program.timesteps):
        return f", and {population.name} might overflow, so its numbers cannot be divided exactly"
    return ""


def _scales(lif: Lif) -> bool:
    """Whether all numbers of the population can be divided by a power of two: nothing is rounded in it."""
    return lif.du == DECAY_MAX and lif.dv == 0


def _neurons_if_any(program: Program, population: Lif | Readout, current: Interval, shift: int) -> Numbers | None:
    try:
        return _neurons(program, population, current, shift)
    except ExchangeError:
        return None


def _neurons(program: Program, population: Lif | Readout, current: Interval, shift: int) -> Numbers:
    """The neurons where everything is divided by ``2**shift``.

    Raises:
        ExchangeError: there are none.
    """
    name = population.name
    if isinstance(population, Readout):
        largest = max(-int(current[0].min()), int(current[1].max()))
        if largest * 2.0**-shift > READOUT_MAX:
            raise ExchangeError(
                f"{name}: its current can reach {largest}; the membrane that holds it in netx holds {READOUT_MAX}"
            )
        return Numbers(NEVER_FIRES, (DECAY_UNITY, DECAY_UNITY), np.zeros(population.shape[0], dtype=np.int64))
    if shift and not _scales(population):
        raise ExchangeError(f"{name}: it leaks")
    mantissa = program.bias_mant(population, 0)
    bias = _divided(mantissa << population.bias_exp, shift + BIAS_EXP)
    if bias is None:
        few = str(mantissa.tolist()) if mantissa.size <= 8 else f"{mantissa.min()}..{mantissa.max()}"
        raise ExchangeError(
            f"{name}: its bias is {few} << {population.bias_exp}; netx adds whole multiples of 64 (bias_exp {BIAS_EXP})"
        )
    if bias.min() < BIAS_MANT_MIN or bias.max() > BIAS_MANT_MAX:
        allowed = f"{BIAS_MANT_MIN}..{BIAS_MANT_MAX}"
        raise ExchangeError(f"{name}: its bias is {bias.min()}..{bias.max()} times 64, allowed {allowed}")
    # where all sums are multiples of 2**shift, one is above the threshold if it is above the floor of it
    vth = population.vth >> shift if shift >= 0 else population.vth << -shift
    if vth > VTH_MAX:
        raise ExchangeError(f"{name}: its threshold would be {vth}, limit is {VTH_MAX}")
    if shift:
        divided = tuple(side >> shift if shift > 0 else side << -shift for side in current)
        scaled = dataclasses.replace(population, vth=vth, bias_mant=bias.astype(np.int16), bias_exp=BIAS_EXP)
        for lif, bounds in ((population, current), (scaled, (divided[0], divided[1]))):
            if population_risks(lif, bounds, program.timesteps):
                raise ExchangeError(f"{name}: it might overflow, which is another thing at another scale")
    return Numbers(vth, (population.du + 1, population.dv), bias)


def _divided(values: IntArray, shift: int) -> IntArray | None:
    """``values / 2**shift``, or None where that is not whole."""
    if shift <= 0:
        return values << -shift
    return None if (values % (1 << shift)).any() else values >> shift


def _matrix(projection: Projection, kernel: IntArray, source: Shape) -> IntArray:
    """The weights as int64 [out, in], groups written out with their zeros."""
    groups = projection.groups if isinstance(projection, Conv) else 1
    out = len(kernel)
    rows = kernel.reshape(groups, out // groups, -1)
    matrix = np.zeros((groups, out // groups, groups, rows.shape[2]), dtype=np.int64)
    for group in range(groups):
        matrix[group, :, group] = rows[group]
    return matrix.reshape(out, math.prod(source))
