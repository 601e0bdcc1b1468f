"""Messages packed into few integers, because Lava hands a Var to the host one scalar at a time.

Each scalar travels as a float64, which holds 53 bits exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.int64]

_SPIKES = 48  # binary messages per word: six whole bytes
_BYTES = _SPIKES // 8
_GRADED = 2  # graded messages per word, 25 bits each with sign
_FIELD = 25


def words_for(neurons: int, bits: int) -> int:
    """Words for one step's messages of ``neurons`` neurons; ``bits`` is 0 for binary, else magnitude bits up to 23."""
    return -(-neurons // (_GRADED if bits else _SPIKES))


def pack(messages: npt.NDArray[np.int32], bits: int) -> Words:
    """One step's messages int32 [n] as int64 [words_for(n, bits)], each below 2^53."""
    count = words_for(len(messages), bits)
    if bits:
        fields = np.zeros(count * _GRADED, dtype=np.int64)
        fields[: len(messages)] = messages
        fields = (fields + (1 << (_FIELD - 1))).reshape(count, _GRADED)
        return (fields[:, 0] << _FIELD) | fields[:, 1]
    packed = np.zeros((count, 8), dtype=np.uint8)
    flat = np.zeros(count * _SPIKES, dtype=bool)
    flat[: len(messages)] = messages != 0
    packed[:, :_BYTES] = np.packbits(flat, bitorder="little").reshape(count, _BYTES)
    return packed.view("<i8")[:, 0].astype(np.int64)


def unpack(words: Words, neurons: int, bits: int) -> npt.NDArray[np.int32]:
    """The inverse of :func:`pack` for many steps: int64 [steps, words] to int32 [steps, neurons]."""
    if bits:
        fields = np.stack([words >> _FIELD, words & ((1 << _FIELD) - 1)], axis=-1) - (1 << (_FIELD - 1))
        return _first(fields, neurons)
    raw = np.ascontiguousarray(words.astype("<i8")).view(np.uint8).reshape(*words.shape, 8)[..., :_BYTES]
    flat = np.unpackbits(np.ascontiguousarray(raw), axis=-1, bitorder="little")
    return _first(flat, neurons)


def _first(values: npt.NDArray[Any], neurons: int) -> npt.NDArray[np.int32]:
    """The first ``neurons`` values of each step; the rest fills the last word."""
    kept: npt.NDArray[np.int32] = values.reshape(len(values), -1)[:, :neurons].astype(np.int32)
    return kept
