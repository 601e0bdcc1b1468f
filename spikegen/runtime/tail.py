"""The host's last layers behind a readout, bit for bit the same for any number of images and on any machine.

A library's convolution sums in an order that depends on the shapes, and its exponential differs between the wide and
the narrow instructions of a processor. Here every operation is one elementwise +, -, * or / of float64, which IEEE 754
rounds in one way only, in an order that the arguments do not change.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from spikegen.program import SwishTail

try:
    from spikegen.runtime import compiled_tail
except ImportError:  # without numba the same operations one array after the other
    COMPILED = False
else:
    COMPILED = True

FloatArray = npt.NDArray[np.float64]

# exp(-x) underflows to 0 from 745.2 on
UNDERFLOW = 800.0
# ln 2 in two parts (Cody and Waite, Software Manual for the Elementary Functions, 1980, chapter 6): the last 21 bits of
# the mantissa of the first part are 0, so its product with a whole number up to 2^21 is exact. The digits are those of
# FreeBSD's msun, ``e_exp.c``.
LN2_HIGH = 6.93147180369123816490e-01
LN2_LOW = 1.90821492927058770002e-10
# Taylor's coefficients 1 / n!; for |r| <= ln(2) / 2 what is left out is below 5e-18
COEFFICIENTS = tuple(1 / math.factorial(n) for n in range(13, -1, -1))


def swish_tail(tail: SwishTail, t: int, x: FloatArray) -> FloatArray:
    """``r[t]`` of :class:`~spikegen.program.SwishTail`.

    Args:
        tail: the layers, C channels in and O channels out.
        t: timestep, 0 .. T - 1.
        x: float64 [N, C, H, W], the real value of the readout at that timestep.

    Returns:
        float64 [N, O, H, W].
    """
    normed = x * tail.norm_scale[:, None, None] + tail.norm_shift[:, None, None]
    q = (correlation(tail.weight, swish(normed)) + tail.bias[:, None, None]) * tail.gains[t]
    mixed: FloatArray = swish(correlation(tail.mix_weight, q) + tail.mix_bias[:, None, None]) + q
    return mixed


def swish(z: FloatArray) -> FloatArray:
    """``z / (1 + exp(-z))`` of any finite float64; the exponential is taken of ``-|z|``, which cannot overflow."""
    if COMPILED:
        compiled: FloatArray = np.empty_like(z, order="C")
        flat = np.ascontiguousarray(z).ravel()
        compiled_tail.swish(flat, compiled.ravel(), np.array(COEFFICIENTS), LN2_HIGH, LN2_LOW, UNDERFLOW)
        return compiled
    small = exp_of_minus(np.abs(z))
    swished: FloatArray = z * np.where(z < 0, small, 1.0) / (1.0 + small)
    return swished


def exp_of_minus(x: FloatArray) -> FloatArray:
    """``exp(-x)`` for ``x >= 0``, float64 of any shape, to about one unit in the last place.

    ``-x = k ln 2 + r`` with a whole k and ``|r| <= ln(2) / 2``, then ``2^k exp(r)`` with Taylor's series.
    """
    minus = -np.minimum(x, UNDERFLOW)
    k = np.rint(minus / math.log(2))
    r = (minus - k * LN2_HIGH) - k * LN2_LOW
    series = np.zeros_like(r)
    for coefficient in COEFFICIENTS:
        series *= r
        series += coefficient
    power: FloatArray = np.ldexp(series, k.astype(np.int32))
    return power


def correlation(weight: FloatArray, x: FloatArray) -> FloatArray:
    """Correlation of [O, C, kh, kw] with [N, C, H, W], padded by half the kernel: one addition per channel and tap."""
    _, channels, kh, kw = weight.shape
    height, width = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2)))
    total = np.zeros((len(x), len(weight), height, width))
    if COMPILED:
        compiled_tail.correlate(np.asarray(weight), padded, total)
        return total
    for c in range(channels):
        for i in range(kh):
            for j in range(kw):
                total += weight[:, c, i, j, None, None] * padded[:, c : c + 1, i : i + height, j : j + width]
    return total
