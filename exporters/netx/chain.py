"""A Program as a chain of layers of netx, each with numbers that netx computes exactly, or every reason why not.

What netx builds: lava-dl 0.6.0 ``netx/hdf5.py`` (``Network._create``, ``create_dense``, ``create_conv``,
``get_neuron_params``). A neuron has ``vth = vThMant``, ``du = iDecay - 1``, ``dv = vDecay`` and a bias of whole
multiples of 64 (``bias_exp`` 6).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spikegen.errors import ExchangeError
from spikegen.exporters.netx.synapses import MIXED_MAX, MIXED_MIN, IntArray, dense_currents, fits_a_synapse
from spikegen.program import Conv, Dense, Lif, Program, Projection, Readout, Relay
from spikegen.program.bounds import Interval, current_bounds, population_risks
from spikegen.program.ir import Population, Shape
from spikegen.program.numerics import BIAS_MANT_MAX, BIAS_MANT_MIN, DECAY_MAX, DECAY_UNITY, STATE_SHIFT, VTH_MAX

NEVER_FIRES = (1 << 18) - 1  # the threshold that lava-dl's Affine writes: above all that a membrane can hold
BIAS_EXP = 6
GEOMETRY_MAX = 127  # Lava's Conv keeps kernel, stride, padding, dilation and groups in int8
READOUT_MAX = (1 << 17) - 1  # a membrane holds 64 times the current
_SHIFTS = sorted(range(-8, 16), key=abs)


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer of netx: a projection and the neurons behind it.

    Attributes:
        projection: of the Program.
        population: of the Program: a Lif, or a Readout, for which neurons are written that never fire.
        dense: written as ``dense``, else as ``conv``.
        weight: int64 [out, in] or [out, in / groups, kh, kw].
        shift: weights, threshold and bias of the Program are divided by ``2**shift``.
        vth: ``vThMant``.
        decays: ``iDecay``, ``vDecay``.
        bias: int64 [C].
        on_chip: synapses of 8 bits hold the weights.
    """

    projection: Projection
    population: Lif | Readout
    dense: bool
    weight: IntArray
    shift: int
    vth: int
    decays: tuple[int, int]
    bias: IntArray
    on_chip: bool


def layers(program: Program) -> tuple[Layer, ...]:
    """The layers of ``program``, in order.

    Raises:
        ExchangeError: netx has no such network: every reason.
    """
    problems = _structure(program)
    if problems:
        raise ExchangeError(*_refused(problems))
    bounds = current_bounds(program)
    chain: list[Layer] = []
    for population in _spiking_end(program):
        (projection,) = program.into(population.name)
        listed = bool(chain) and chain[-1].dense
        found = _layer(program, projection, population, bounds[population.name], listed=listed)
        problems += found if isinstance(found, list) else []
        if isinstance(found, Layer):
            chain.append(found)
        elif _covers(projection, program.nodes[projection.source].shape):
            listed = True
    if problems:
        raise ExchangeError(*_refused(problems))
    return tuple(chain)


def _refused(problems: Sequence[str]) -> tuple[str]:
    return ("what netx has no layer for:\n  - " + "\n  - ".join(problems),)


def counts_spikes(program: Program, readout: Readout) -> bool:
    """Whether a readout only reads the spikes of the last neurons, which are then the end of the chain."""
    (projection,) = program.into(readout.name)
    copies = isinstance(projection, Conv) and projection.is_copy
    return copies and isinstance(program.nodes[projection.source], Lif)


def _spiking_end(program: Program) -> tuple[Lif | Readout, ...]:
    found = tuple(p for p in program.populations if isinstance(p, Lif | Readout))
    last = found[-1]
    return found[:-1] if isinstance(last, Readout) and counts_spikes(program, last) else found


def _structure(program: Program) -> list[str]:
    """What is no chain, or no layer of netx."""
    problems = []
    for name in program.nodes:
        readers = [projection.target for projection in program.out_of(name)]
        if len(readers) > 1:
            problems.append(
                f"{name}: it is read by {', '.join(readers)}; the layers of netx are a list, a skip has no place in it"
            )
    for population in program.populations:
        problems += _population(program, population)
    for projection in program.projections:
        problems += _projection(projection)
    return problems


def _population(program: Program, population: Population) -> list[str]:
    name, into = population.name, program.into(population.name)
    problems = []
    if not into:
        problems.append(f"{name}: it hears nothing and fires by its bias alone; a layer of netx has synapses")
    if len(into) > 1:
        sources = ", ".join(projection.source for projection in into)
        problems.append(f"{name}: {len(into)} projections lead into it (from {sources}); netx has no join: \
'concat is not implemented.'")
    if isinstance(population, Relay):
        problems.append(
            f"{name}: it passes sums on (a Relay: an average, a residual stream); every layer of netx fires: "
            "'pool is not implemented.', 'average is not implemented.'"
        )
    if isinstance(population, Lif):
        table = program.conditioning.tables.get(name)
        if table is not None and (table != table[0]).any():
            problems.append(f"{name}: its bias depends on the diffusion step (conditioning); netx has one bias")
        if population.delays.any():
            problems.append(
                f"{name}: axonal delays up to {population.delays.max()}; netx delays the synapses into a dense layer, "
                "keeps what is late for the next image, and ignores delays of a conv layer"
            )
    return problems


def _projection(projection: Projection) -> list[str]:
    problems = []
    if projection.gains.size and (projection.gains != projection.gains[0]).any():
        problems.append(f"{projection.name}: its gain differs between timesteps (TSM); netx has one weight")
    if not isinstance(projection, Conv):
        return problems
    if projection.shuffle > 1:
        problems.append(
            f"{projection.name}: it shuffles sub-pixels (a transposed convolution or an upsampling): "
            "'convT is not implemented.', 'unpool is not implemented.'"
        )
    kernel = projection.weight.shape[2:]
    geometry = (*kernel, *projection.stride, *projection.padding, *projection.dilation, projection.groups)
    if max(geometry) > GEOMETRY_MAX:
        problems.append(
            f"{projection.name}: its kernel, stride, padding, dilation or groups reach {max(geometry)}, netx's conv "
            f"takes {GEOMETRY_MAX}"
        )
    return problems


def _covers(projection: Projection, source: Shape) -> bool:
    """Whether a projection reads the whole source as one list."""
    if isinstance(projection, Dense):
        return True
    return projection.padding == (0, 0) and projection.shuffle == 1 and projection.weight.shape[2:] == source[1:]


def _layer(
    program: Program, projection: Projection, population: Lif | Readout, current: Interval, *, listed: bool
) -> Layer | list[str]:
    """The layer, or what is wrong. ``listed``: netx has a list before it, of which no convolution can be taken."""
    source = program.nodes[projection.source].shape
    whole = _covers(projection, source)
    if listed and not whole:
        return [f"{projection.name}: it is a convolution of what is a list of neurons in netx, which has no way back"]
    gain = int(projection.gains[0]) if projection.gains.size else 1
    kernel = (projection.weight.astype(np.int64) << projection.exponent) * gain
    options: list[tuple[bool, IntArray]] = []
    if whole:
        options.append((True, _matrix(projection, kernel, source)))
    if isinstance(projection, Conv) and not listed:
        options.append((False, kernel))
    neurons = [_neurons(program, population, current, shift) for shift in _SHIFTS]
    found: list[Layer] = []
    for dense, weight in options:
        for shift, given in zip(_SHIFTS, neurons, strict=True):
            scaled = _divided(weight, shift)
            if isinstance(given, str) or scaled is None:
                continue
            vth, decays, bias = given
            summed = dense_currents(scaled) if dense else (scaled, 8)
            if summed is None or (summed[0] != scaled).any():
                continue
            on_chip = summed[1] <= 8 if dense else fits_a_synapse(scaled)
            found.append(Layer(projection, population, dense, scaled, shift, vth, decays, bias, on_chip))
    if found:  # the first that a chip holds too; lists first, and as little scaling as can be
        return next((layer for layer in found if layer.on_chip), found[0])
    return _reasons(projection, population, options[0], neurons[0])


def _reasons(
    projection: Projection,
    population: Lif | Readout,
    option: tuple[bool, IntArray],
    unscaled: tuple[int, tuple[int, int], IntArray] | str,
) -> list[str]:
    """Why a layer cannot be written, unscaled."""
    dense, weight = option
    problems = [unscaled] if isinstance(unscaled, str) else []
    summed = dense_currents(weight) if dense else (weight, 8)
    if not weight.any():
        problems.append(f"{projection.name}: its weights are all 0; netx stops with an OverflowError at such a layer")
    elif summed is None or (summed[0] != weight).any():
        reach = f"{weight.min()}..{weight.max()}"
        if MIXED_MIN < weight.min() and weight.max() <= MIXED_MAX:
            why = "netx halves or cuts the weights of a layer where none is positive and the lowest is a power of two"
        else:
            why = f"netx's dense has {MIXED_MIN}..{MIXED_MAX}, or 0..255"
        problems.append(f"{projection.name}: its weights are {reach}; {why}{_rigid(population)}")
    return problems


def _rigid(population: Lif | Readout) -> str:
    """Why the numbers of a layer cannot be divided."""
    leaks = isinstance(population, Lif) and not _scales(population)
    return f", and {population.name} leaks, so its numbers cannot be divided exactly" if leaks else ""


def _scales(lif: Lif) -> bool:
    """Whether all numbers of the population can be divided by a power of two: nothing is rounded in it."""
    return lif.du == DECAY_MAX and lif.dv == 0


def _neurons(
    program: Program, population: Lif | Readout, current: Interval, shift: int
) -> tuple[int, tuple[int, int], IntArray] | str:
    """Threshold, decays and bias where everything is divided by ``2**shift``, or why that is impossible."""
    if isinstance(population, Readout):
        largest = max(-int(current[0].min()), int(current[1].max()))
        if largest * 2.0**-shift > READOUT_MAX:
            return (
                f"{population.name}: its current can reach {largest}, the membrane of a neuron that is read as a "
                f"current holds {READOUT_MAX}"
            )
        return NEVER_FIRES, (DECAY_UNITY, DECAY_UNITY), np.zeros(population.shape[0], dtype=np.int64)
    if shift and not _scales(population):
        return f"{population.name} leaks"
    mantissa = program.bias_mant(population, 0)
    bias = _divided(mantissa << population.bias_exp, shift + BIAS_EXP)
    if bias is None:
        return (
            f"{population.name}: its bias is {_few(mantissa)} << {population.bias_exp}; netx adds whole multiples of "
            f"64 (bias_exp {BIAS_EXP})"
        )
    if bias.min() < BIAS_MANT_MIN or bias.max() > BIAS_MANT_MAX:
        return (
            f"{population.name}: its bias is {bias.min()}..{bias.max()} times 64, allowed "
            f"{BIAS_MANT_MIN}..{BIAS_MANT_MAX}"
        )
    # where all sums are multiples of 2**shift, one is above the threshold if it is above the floor of it
    vth = population.vth >> shift if shift >= 0 else population.vth << -shift
    if vth > VTH_MAX:
        return f"{population.name}: its threshold would be {vth}, limit is {VTH_MAX}"
    if shift:
        divided = tuple(np.floor_divide(side, 2**shift) if shift > 0 else side << -shift for side in current)
        scaled = dataclasses.replace(population, vth=vth, bias_mant=bias.astype(np.int16), bias_exp=BIAS_EXP)
        if population_risks(population, current, program.timesteps) or population_risks(
            scaled, (divided[0], divided[1]), program.timesteps
        ):
            return f"{population.name}: it might overflow"
    return vth, (population.du + 1, population.dv), bias


def _divided(values: IntArray, shift: int) -> IntArray | None:
    """``values / 2**shift``, or None where that is not whole."""
    if shift <= 0:
        return values << -shift
    return None if (values % (1 << shift)).any() else values >> shift


def _few(values: IntArray) -> str:
    return str(values.tolist()) if values.size <= 8 else f"{values.min()}..{values.max()}"


def _matrix(projection: Projection, kernel: IntArray, source: Shape) -> IntArray:
    """The weights as int64 [out, in], groups written out with their zeros."""
    groups = projection.groups if isinstance(projection, Conv) else 1
    out = len(kernel)
    rows = kernel.reshape(groups, out // groups, -1)
    matrix = np.zeros((groups, out // groups, groups, rows.shape[2]), dtype=np.int64)
    for group in range(groups):
        matrix[group, :, group] = rows[group]
    return matrix.reshape(out, math.prod(source))
