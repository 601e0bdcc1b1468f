"""The numeric functions against the scalar reference, boundary values included."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given

from spikegen.program import numerics
from tests import reference

LIMIT = 1 << 23
EDGES = sorted({sign * (base + shift) for base in (0, LIMIT, 2 * LIMIT) for shift in (-1, 0, 1) for sign in (-1, 1)})
DECAYS = (0, 1, 2, 2048, 4094, 4095)

sums = st.one_of(st.sampled_from(EDGES), st.integers(-3 * LIMIT + 1, 3 * LIMIT - 1))
states = st.one_of(st.sampled_from([e for e in EDGES if -LIMIT < e <= LIMIT]), st.integers(1 - LIMIT, LIMIT))
decays = st.one_of(st.sampled_from(DECAYS), st.integers(0, 4095))
currents = st.one_of(
    st.sampled_from((0, 1, -1, (1 << 18) - 1, 1 - (1 << 18))), st.integers(1 - (1 << 18), (1 << 18) - 1)
)
biases = st.builds(
    lambda m, e: m << e, st.one_of(st.sampled_from((-4096, 4095, 0)), st.integers(-4096, 4095)), st.integers(0, 7)
)
thresholds = st.one_of(st.sampled_from((0, 1, (1 << 17) - 1)), st.integers(0, (1 << 17) - 1))


def _array(*values: int) -> numerics.IntArray:
    return np.array(values, dtype=np.int64)


@given(st.lists(sums, min_size=1))
@example(EDGES)
def test_wrap24_equals_the_reference(values: list[int]) -> None:
    assert numerics.wrap24(_array(*values)).tolist() == [reference.wrap24(x) for x in values]


@pytest.mark.parametrize(
    ("x", "wrapped"),
    # The positive limit itself stays, the negative one wraps: the range is (-2^23, 2^23].
    [(LIMIT, LIMIT), (LIMIT + 1, 1 - LIMIT), (-LIMIT, LIMIT), (1 - LIMIT, 1 - LIMIT), (-LIMIT - 1, LIMIT - 1), (0, 0)],
)
def test_wrap24_by_hand(x: int, wrapped: int) -> None:
    assert numerics.wrap24(_array(x)).tolist() == [wrapped]


@given(sums)
def test_wrap24_keeps_the_value_modulo_2_to_the_24(x: int) -> None:
    wrapped = int(numerics.wrap24(_array(x))[0])
    assert (wrapped - x) % (1 << 24) == 0
    assert -LIMIT < wrapped <= LIMIT


@given(st.lists(sums, min_size=1))
@example(EDGES)
def test_clip23_equals_the_reference(values: list[int]) -> None:
    assert numerics.clip23(_array(*values)).tolist() == [reference.clip23(x) for x in values]


@pytest.mark.parametrize(
    ("x", "clipped"), [(LIMIT - 1, LIMIT - 1), (LIMIT, LIMIT - 1), (-LIMIT, 1 - LIMIT), (1 - LIMIT, 1 - LIMIT)]
)
def test_clip23_by_hand(x: int, clipped: int) -> None:
    assert numerics.clip23(_array(x)).tolist() == [clipped]


@given(st.lists(states, min_size=1), st.one_of(st.sampled_from((0, 1, 4095, 4096)), st.integers(0, 4096)))
@example(EDGES, 0)
@example(EDGES, 1)
@example(EDGES, 4095)
@example(EDGES, 4096)
def test_decay_equals_the_reference(values: list[int], amount: int) -> None:
    assert numerics.decay(_array(*values), amount).tolist() == [reference.decay(x, amount) for x in values]


@pytest.mark.parametrize(
    ("x", "amount", "kept"),
    [
        (-1, 0, -1),
        (-1, 1, 0),  # -4095/4096 rounds toward zero, a right shift would give -1
        (1, 1, 0),
        (-4097, 2048, -2048),  # -2048.5
        (LIMIT, 4095, 2048),  # 2^23 / 2^12
        (-LIMIT, 4095, -2048),
        (LIMIT, 4096, 0),
        (LIMIT, 0, LIMIT),
    ],
)
def test_decay_by_hand(x: int, amount: int, kept: int) -> None:
    assert numerics.decay(_array(x), amount).tolist() == [kept]


@given(states, states, currents, st.tuples(thresholds, decays, decays, biases))
@example(LIMIT, LIMIT - 1, (1 << 17) - 1, (0, 0, 0, 0))  # wraps
@example(0, 1 - LIMIT, -1, (0, 4095, 0, -4096 << 7))  # clips
@example(0, 0, 5, (5, 4095, 0, 0))  # at the threshold: no spike
@example(0, 0, 5, (5, 4095, 0, 1))  # one above: spike
def test_lif_step_equals_the_reference(u: int, v: int, a: int, parameters: tuple[int, int, int, int]) -> None:
    vth, du, dv, bias = parameters
    new = numerics.lif_step(_array(u), _array(v), _array(a), vth=vth, du=du, dv=dv, bias=bias)
    assert tuple(int(x[0]) for x in new) == reference.lif_step(u, v, a, vth=vth, du=du, dv=dv, bias=bias)


def test_lif_step_fires_strictly_above_the_threshold_and_resets_to_zero() -> None:
    # IF neurons: u = a << 6 = 640 with vth << 6 = 640; the bias decides.
    zero = _array(0, 0, 0)
    u, v, spikes = numerics.lif_step(zero, zero, _array(10, 10, 10), vth=10, du=4095, dv=0, bias=_array(-1, 0, 1))
    assert u.tolist() == [640, 640, 640]
    assert v.tolist() == [639, 640, 0]
    assert spikes.tolist() == [False, False, True]


def test_lif_step_leaves_its_arguments_alone() -> None:
    u, v, a = _array(100), _array(200), _array(3)
    numerics.lif_step(u, v, a, vth=0, du=0, dv=0, bias=0)
    assert (u.tolist(), v.tolist(), a.tolist()) == ([100], [200], [3])


def test_constants_are_those_of_lava() -> None:
    """Widths of the fixed-point LIF in Lava 0.10.0, ``lava/proc/lif/models.py``."""
    assert (numerics.STATE_LIMIT, numerics.DECAY_UNITY, numerics.STATE_SHIFT) == (2**23, 4096, 6)
    assert (numerics.VTH_MAX, numerics.DECAY_MAX, numerics.BIAS_EXP_MAX) == (131071, 4095, 7)
    assert (numerics.BIAS_MANT_MIN, numerics.BIAS_MANT_MAX) == (-4096, 4095)
