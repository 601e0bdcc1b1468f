"""What netx makes of the weights of a layer, in numpy: no Lava is needed to know it.

Sources: lava-dl 0.6.0 ``netx/utils.py`` (``optimize_weight_bits``) and ``netx/blocks/process.py``, which does not pass
the sign mode on; lava-nc 0.10.0 ``lava/proc/dense/models.py`` (``AbstractPyDenseModelBitAcc``) and
``lava/utils/weightutils.py`` (``clip_weights``, ``truncate_weights``), ``lava/proc/conv/models.py``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

# Loihi's synapses: 8 bits, or 8 bits whose lowest one is the sign.
MIXED_MIN, MIXED_MAX = -256, 254
UNSIGNED_MAX = 255
# Lava's Conv keeps kernel, stride, padding, dilation and groups in int8: 128 groups are none, and all currents 0.
GEOMETRY_MAX = 127
MANTISSA_MIN, MANTISSA_MAX = -128, 127  # of a Program


def dense_currents(weight: IntArray) -> tuple[IntArray, int] | None:
    """The weights that a dense layer of netx truly adds up, and the weight bits that it asks for.

    Args:
        weight: int64 [out, in], as in the file.

    Returns:
        int64 [out, in] and the bits: a chip has 8. None: the layer cannot be built (all weights are 0), or what it adds
        up are no weights (a sum that is shifted where its parts are no multiples).
    """
    low, high = int(weight.min()), int(weight.max())
    if low < 0 < high:
        weight = np.clip(weight, MIXED_MIN, MIXED_MAX)
        low, high = int(weight.min()), int(weight.max())
    if low == high == 0:
        return None
    signed = low < 0 <= high
    scale = 255 / high if low >= 0 else -256 / low
    if signed:
        scale = min(127 / high if high else np.inf, -128 / low)
    shift = int(np.floor(np.log2(scale))) + signed
    if shift < 0:  # numpy shifts everything out
        return None
    zeros = next((n for n in range(8, 0, -1) if not (weight % (1 << n)).any()), 0) - signed
    bits = 8 - shift - zeros
    stored = weight << shift
    mixed = low < 0 < high
    if mixed:
        kept = _truncated(np.clip(stored, -256, 255), 9 - bits)
    elif high <= 0:
        kept = -_truncated(np.clip(-stored, 0, UNSIGNED_MAX), 8 - bits)
    else:
        kept = _truncated(np.clip(stored, 0, UNSIGNED_MAX), 8 - bits)
    if (kept % (1 << shift)).any():
        return None
    return kept >> shift, bits


def _truncated(weight: IntArray, bits: int) -> IntArray:
    return (weight >> bits) << bits


def fits_a_synapse(weight: IntArray) -> bool:
    """Whether a chip's synapses of 8 bits hold the weights as they are; a convolution of netx has no exponent."""
    low, high = int(weight.min()), int(weight.max())
    if low < 0 < high:
        return low >= MIXED_MIN and high <= MIXED_MAX and not (weight % 2).any()
    return low >= -UNSIGNED_MAX and high <= UNSIGNED_MAX


def mantissas(weight: IntArray, exponent_max: int) -> tuple[npt.NDArray[np.int8], int] | None:
    """Weights as ``mantissa << exponent``: int8 and the exponent, 1 where that will do (Loihi's mixed-sign grid).

    None: they have more bits than that, or the exponent would be above ``exponent_max``.
    """
    for exponent in (1, 0, *range(2, exponent_max + 1)):
        mantissa = weight >> exponent
        exact = (mantissa << exponent == weight).all()
        if exact and mantissa.min() >= MANTISSA_MIN and mantissa.max() <= MANTISSA_MAX:
            return mantissa.astype(np.int8), exponent
    return None
