"""Gains as small integers: the nearest there are."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from spikegen.lowering.payloads import choices, payload

GAINS = st.lists(st.integers(-40, 40), min_size=1, max_size=5).map(lambda found: np.array(found) / 16)


@given(GAINS, st.integers(1, 4))
def test_it_is_never_worse_than_a_unit_of_the_largest_gain_over_a_whole_number(gains: np.ndarray, bits: int) -> None:  # type: ignore[type-arg]
    found = payload(gains, bits)
    assert found.bits <= bits
    integers = found.integers if found.integers.size else np.ones(len(gains))
    size = np.linalg.norm(gains)
    error = np.linalg.norm(gains - found.unit * integers)
    assert error == pytest.approx(found.error * size, abs=1e-12)
    for whole in range(1, 1 << bits):
        unit = np.abs(gains).max() / whole
        plain = np.linalg.norm(gains - unit * np.rint(gains / unit)) if unit else 0.0
        assert error <= plain + 1e-12


@pytest.mark.parametrize(
    ("gains", "bits", "integers", "unit"),
    [
        ([0.5, 1.0, 1.5, 2.0], 4, [1, 2, 3, 4], 0.5),
        ([0.5, 1.0, 1.5, 2.0], 3, [1, 2, 3, 4], 0.5),
        ([-3.0, 0.0, 1.0], 2, [-3, 0, 1], 1.0),
        ([0.7, 0.7, 0.7], 4, [], 0.7),
        ([1.0, 0.9, 1.1, 1.0], 1, [], 1.0),
        ([0.0, 0.0], 4, [0, 0], 1.0),
        ([6.0, 4.0], 4, [3, 2], 2.0),
    ],
)
def test_small_cases(gains: list[float], bits: int, integers: list[int], unit: float) -> None:
    found = payload(np.array(gains), bits)
    assert found.integers.tolist() == integers
    assert found.unit == pytest.approx(unit, rel=1e-12)


def test_no_gains_are_one() -> None:
    found = payload(None, 4)
    assert (found.integers.size, found.unit, found.error, found.bits) == (0, 1.0, 0.0, 0)


def test_equal_choices_are_tried_once() -> None:
    gains = np.array([1.0, 3.0])
    tried = choices([None, gains], 4)
    assert [[chosen.integers.tolist() for chosen in payloads] for payloads in tried] == [[[], [0, 1]], [[], [1, 3]]]
    assert len(choices([None, None], 4)) == 1
