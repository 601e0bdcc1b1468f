"""Synapse memory: 64-bit words, by the format that the published compiler logs show.

The formulas are worked out from the tables that the compiler prints in lava-dl's notebooks (commit d825ac5), with the
weights of the same networks. A list of ``n`` synapses behind one input axon has a header of 10 bits; a synapse of a
``Dense`` holds its weight and a 12-bit index, one of a ``Conv`` its weight only. Header and index are those of
``bits_per_axon`` in nengo-loihi (``nengo_loihi/block.py``), without its split into blocks of 64.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

HEADER_BITS, INDEX_BITS, WORD_BITS = 10, 12, 64
DELAY_BITS = 6  # delay field of a synapse (Davies et al. 2018, Loihi 1)
WEIGHT_WIDTHS = (1, 2, 3, 4, 5, 6, 8)  # nengo-loihi, WEIGHT_BITS_MAP
UNPADDED = 24  # the only width seen that is no power of two and takes no word more


def weight_bits(mantissas: npt.NDArray[np.int8]) -> int:
    """Bits of the weights as the compiler stores them, one of :data:`WEIGHT_WIDTHS`.

    Bits that are 0 in every weight are left out, as ``optimize_weight_bits`` does (lava-nc 0.10.0,
    lava/utils/weightutils.py); zero weights are stored.
    """
    if not mantissas.size:
        return WEIGHT_WIDTHS[0]
    low, high = int(mantissas.min()), int(mantissas.max())
    used = int(np.bitwise_or.reduce(mantissas.view(np.uint8), axis=None))
    common = (used & -used).bit_length() - 1 if used else 0
    signed = max((~low if low < 0 else low).bit_length(), (~high if high < 0 else high).bit_length()) + 1
    return min(width for width in WEIGHT_WIDTHS if width >= max(1, signed - common))


def dense_words(neurons: int, bits: int, *, delayed: bool = False) -> int:
    """Words per input axon of ``neurons`` synapses in one core, weights of ``bits`` bits."""
    synapse = bits + INDEX_BITS + (DELAY_BITS if delayed else 0)
    return math.ceil((neurons * synapse + HEADER_BITS) / WORD_BITS)


def conv_words(channels: int, bits: int) -> int:
    """Words per kernel tap and input channel of ``channels`` output channels in one core; pixels share them.

    Exact in five of nine published layers; the other four, of 36 and 48 channels, take one word more, which is added
    for every width that is neither a power of two nor 24.
    """
    padded = channels & (channels - 1) != 0 and channels != UNPADDED
    return math.ceil((channels * bits + HEADER_BITS) / WORD_BITS) + padded
