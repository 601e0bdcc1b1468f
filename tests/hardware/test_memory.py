"""Words of synapse memory."""

from __future__ import annotations

import numpy as np
import pytest

from spikegen.hardware.loihi2.memory import WEIGHT_WIDTHS, conv_words, dense_words, weight_bits


@pytest.mark.parametrize(
    ("values", "bits"),
    [
        ([0, 0], 1),
        ([-1, 0], 1),
        ([-2, 1], 2),
        ([-128, 127], 8),
        ([-64, 63], 8),  # 7 bits are stored as 8
        ([-32, 31], 6),
        ([-33, 0], 8),
        ([-15, 17], 6),  # PilotNet, first layer: -30..34 in steps of 2
        ([-6, 8], 4),  # a common factor of 2 is left out
        ([-8, 8], 2),
        ([64], 2),
        ([-64], 1),
    ],
)
def test_bits_of_weights(values: list[int], bits: int) -> None:
    assert weight_bits(np.array(values, dtype=np.int8).reshape(1, -1, 1, 1)) == bits


def test_bits_agree_with_lava() -> None:
    weightutils = pytest.importorskip("lava.utils.weightutils")
    rng = np.random.default_rng(0)
    for _ in range(200):
        limit, shift = rng.integers(1, 127), rng.integers(0, 3)
        mantissas = (rng.integers(-limit, limit + 1, 20) >> shift << shift).astype(np.int8)
        mantissas[0], mantissas[1] = -limit >> shift << shift, limit >> shift << shift
        if not mantissas.any() or not (mantissas.min() < 0 < mantissas.max()):
            continue
        weights = mantissas.astype(np.int32) * 2
        lava = weightutils.optimize_weight_bits(weights, weightutils.SignMode.MIXED).num_weight_bits
        assert weight_bits(mantissas) == min(width for width in WEIGHT_WIDTHS if width >= lava)


def test_words_round_up_at_64_bits() -> None:
    assert [dense_words(n, 6) for n in (3, 4)] == [1, 2]  # 10 + 18 n: 64 and 82
    assert [dense_words(2, bits) for bits in (8, 12)] == [1, 1]
    assert dense_words(2, 8, delayed=True) == 1  # 62
    assert dense_words(3, 8, delayed=True) == 2
    assert [conv_words(n, 8) for n in (4, 8)] == [1, 2]


@pytest.mark.parametrize(("channels", "extra"), [(1, 0), (24, 0), (32, 0), (36, 1), (48, 1), (64, 0)])
def test_odd_numbers_of_channels_take_a_word_more(channels: int, extra: int) -> None:
    assert conv_words(channels, 4) == -(-(channels * 4 + 10) // 64) + extra
