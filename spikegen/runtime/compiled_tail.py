"""The functions of ``tail.py`` in machine code: the same operations of float64 in the same order, many times faster.

Numba without ``fastmath`` neither contracts nor reorders floating-point operations.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

FloatArray = npt.NDArray[np.float64]

_LOWEST = -600
_POWERS = np.ldexp(1.0, np.arange(_LOWEST, 2))  # 2^h of half an exponent
_LN2 = math.log(2)


@njit(nogil=True, cache=True)
def swish(
    z: FloatArray, out: FloatArray, coefficients: FloatArray, ln2_high: float, ln2_low: float, underflow: float
) -> None:
    """``out = z / (1 + exp(-z))`` of flat arrays; see :func:`spikegen.runtime.tail.swish`."""
    for index in range(len(z)):
        value = z[index]
        minus = -min(abs(value), underflow)
        k = np.rint(minus / _LN2)
        r = (minus - k * ln2_high) - k * ln2_low
        series = 0.0
        for coefficient in coefficients:
            series = series * r + coefficient
        # 2^k in two factors, of which only the second can round: what ldexp does
        whole = int(k)
        half = whole // 2
        small = series * _POWERS[half - _LOWEST] * _POWERS[whole - half - _LOWEST]
        numerator = value * small if value < 0 else value * 1.0
        out[index] = numerator / (1.0 + small)


@njit(nogil=True, cache=True)
def correlate(weight: FloatArray, padded: FloatArray, out: FloatArray) -> None:
    """Correlation of [O, C, kh, kw] with padded [N, C, ., .]; see :func:`spikegen.runtime.tail.correlation`."""
    images, outputs, height, width = out.shape
    _, channels, kh, kw = weight.shape
    for n in range(images):
        for o in range(outputs):
            total = out[n, o]
            total[:] = 0.0
            for c in range(channels):
                for i in range(kh):
                    for j in range(kw):
                        factor = weight[o, c, i, j]
                        for y in range(height):
                            row = padded[n, c, y + i]
                            for x in range(width):
                                total[y, x] += factor * row[x + j]
