"""Networks that already lie on a grid: the LSB on which their weights, biases and thresholds are whole numbers.

A network of whole weights (or of whole multiples of one number, such as one trained on the grid of a Program) must not
be rounded at all. Whether a grid exists is decided, not tried: the largest weight of a projection is one of 1 .. 128
steps of its grid, which leaves 128 grids to look at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from spikegen.lowering.graph import FloatArray
from spikegen.program.numerics import STATE_SHIFT, VTH_MAX, WEIGHT_EXP_MAX, WEIGHT_MAX, WEIGHT_MIN

# How far a value may be from a whole number of steps, relative to the value: float32 weights are nearer.
TOLERANCE = 1e-6
_FARTHEST = 1e-2  # of a step, however large the value
_PROBE = 256  # weights of random size are refused after a look at this many
HEADROOM_MAX = 8  # octaves below the grid of the weights, for finer biases


@dataclass(frozen=True)
class Grid:
    """An LSB and, for each projection, the exponent with which its weights are whole mantissas of 8 bits."""

    lsb: float
    exponents: tuple[int, ...]


def native_grids(weights: Sequence[FloatArray]) -> list[Grid]:
    """The grids on which all ``weights`` (real, of the projections into one population) lie, coarsest LSB first.

    Weights of mixed sign have an exponent of at least 1 (Loihi's 8-bit weights of mixed sign are even). Empty if there
    is no such grid.
    """
    steps = [weight_step(weight) for weight in weights]
    known = [step for step in steps if step is not None]
    if len(known) < len(steps) or not any(known):
        return []
    first = next(step for step in known if step)
    ratios = [Fraction(step / first).limit_denominator(WEIGHT_MAX) for step in known]
    if any(abs(float(ratio) * first - step) > TOLERANCE * step for ratio, step in zip(ratios, known, strict=True)):
        return []
    common = math.lcm(*(ratio.denominator for ratio in ratios))
    wholes = [int(ratio * common) for ratio in ratios]
    divisor = math.gcd(*wholes)
    lsb = first * divisor / common
    powers = []  # each step is 2^power units; what else it has goes into the mantissas
    for weight, step, whole in zip(weights, known, wholes, strict=True):
        units = whole // divisor
        power = (units & -units).bit_length() - 1 if units else 0
        factor = units >> power
        if step and not (
            round(weight.min() / step) * factor >= WEIGHT_MIN and round(weight.max() / step) * factor <= WEIGHT_MAX
        ):
            return []
        powers.append(power)
    grids = []
    for octave in range(HEADROOM_MAX + 1):
        exponents = tuple(power + octave for power in powers)
        even = all(exponent or (weight >= 0).all() for exponent, weight in zip(exponents, weights, strict=True))
        if even and max(exponents) <= WEIGHT_EXP_MAX:
            grids.append(Grid(lsb / 2.0**octave, exponents))
    return grids


def unit_grid(weights: Sequence[FloatArray], unit: float) -> Grid | None:
    """The grid of LSB ``unit`` on which all ``weights`` are whole mantissas of 8 bits, if they are.

    For neurons that count in units of their own: a leaky state is rounded, so another LSB would round it otherwise.
    """
    exponents = []
    for weight in weights:
        whole = np.rint(weight / unit)
        if not on_grid(weight, unit) or np.abs(whole).max() >= 1 << 24:
            return None
        units = whole.astype(np.int64)
        least = int((units < 0).any())
        power = int(np.bitwise_or.reduce(np.abs(units), axis=None))
        most = WEIGHT_EXP_MAX if power == 0 else (power & -power).bit_length() - 1
        fitting = [
            exponent
            for exponent in range(least, min(most, WEIGHT_EXP_MAX) + 1)
            if (units >> exponent).min() >= WEIGHT_MIN and (units >> exponent).max() <= WEIGHT_MAX
        ]
        if not fitting:
            return None
        exponents.append(fitting[0])
    return Grid(unit, tuple(exponents))


def weight_step(weight: FloatArray) -> float | None:
    """The largest number of which every weight is a whole multiple in -128 .. 127; 0 if all are 0, None without one."""
    values = weight.ravel()
    low, high = float(values.min()), float(values.max())
    largest = max(-low, high)
    if largest == 0.0:
        return 0.0
    probe = values[:: max(1, len(values) // _PROBE)]
    for whole in range(1, WEIGHT_MAX + 2):
        step = largest / whole
        fits = round(low / step) >= WEIGHT_MIN and round(high / step) <= WEIGHT_MAX
        if fits and on_grid(probe, step) and on_grid(values, step):
            return step
    return None


def on_grid(values: FloatArray, step: float) -> bool:
    """Whether every value is a whole multiple of ``step``, up to :data:`TOLERANCE`."""
    steps = values / step
    allowed = np.minimum(TOLERANCE * np.maximum(np.abs(steps), 1.0), _FARTHEST)
    return bool((np.abs(steps - np.rint(steps)) <= allowed).all())


def native_threshold(threshold: float, lsb: float, biases: FloatArray) -> int | None:
    """The integer vth for which ``v > vth`` decides as ``v > threshold`` for every membrane an IF neuron can have.

    Where all biases are whole units the membrane is one, and ``vth = floor(threshold / lsb)``; a neuron that fires at
    >= 1.0 (its threshold is the float below 1.0) gets one unit less than one that fires above 1.0. Biases of 64ths of a
    unit need a threshold that is a whole number of units. None if there is none; a finer LSB may have one.
    """
    nearest = round(threshold / lsb)
    vth = math.floor(threshold / lsb)
    whole = False
    if abs(threshold / lsb - nearest) <= TOLERANCE:
        edge = nearest * lsb
        if Fraction(edge) != nearest * Fraction(lsb):  # the LSB itself is rounded, say 0.1
            edge = float(f"{edge:.15g}")
        vth = nearest if edge <= threshold else nearest - 1
        whole = edge == threshold
    if not 0 <= vth <= VTH_MAX or not on_grid(biases, lsb / (1 << STATE_SHIFT)):
        return None
    return vth if whole or on_grid(biases, lsb) else None
