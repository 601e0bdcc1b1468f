"""Fan-out and counts against brute force, and by hand."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from spikegen.program import Conv, Counts, Dense, Program, Readout
from spikegen.program.counting import Counter, FanOut, conv_taps, fan_out, tap_rows
from spikegen.program.ir import Input, Shape, neurons
from tests import reference
from tests.program.examples import every_primitive
from tests.strategies import programs


@settings(max_examples=200)
@given(programs())
def test_fan_out_equals_brute_force(program: Program) -> None:
    for projection in program.projections:
        source = program.nodes[projection.source]
        synapses = reference.synapses(program, projection)
        stored, effective = fan_out(projection, source)
        for index in reference.indices(source.shape):
            assert stored[index] == len(synapses[index])
            assert effective[index] == sum(synapse.weight != 0 for synapse in synapses[index])


SEEN = {"clocks": 0, "dense": 0, "grouped": 0, "strided": 0, "dilated": 0}


@settings(max_examples=100)
@given(programs(), st.integers(0, 2**32 - 1))
def _random_events(program: Program, seed: int) -> None:
    rng = np.random.default_rng(seed)
    events = {
        name: rng.integers(0, 1 << 40, node.shape) * rng.integers(0, 2, node.shape)
        for name, node in program.nodes.items()
        if not isinstance(node, Readout)
    }
    found = Counter(program).counts(3, events)
    taps = {name: tap_rows(program, name) @ sent.ravel() for name, sent in events.items()}
    assert found == Counts.from_taps(program, 3, taps)
    assert found.events == {name: sum(sent.ravel().tolist()) for name, sent in events.items()}
    for projection in program.projections:
        sent = events[projection.source]
        synapses = reference.synapses(program, projection)
        stored = sum(int(sent[index]) * len(met) for index, met in synapses.items())
        effective = sum(int(sent[index]) * sum(s.weight != 0 for s in met) for index, met in synapses.items())
        assert (found.stored[projection.name], found.effective[projection.name]) == (stored, effective)
        both = FanOut(projection, program.nodes[projection.source]).operations(sent)
        assert both == (stored, effective)
        SEEN["dense"] += isinstance(projection, Dense)
        SEEN["clocks"] += not program.into(projection.source) and projection.source != program.input.name
        if isinstance(projection, Conv):
            SEEN["grouped"] += 1 < projection.groups < len(projection.weight)
            SEEN["strided"] += projection.stride not in ((1, 1), (2, 2))
            SEEN["dilated"] += projection.dilation not in ((1, 1), (2, 2))


def test_operations_and_counts_equal_brute_force() -> None:
    SEEN.update(dict.fromkeys(SEEN, 0))
    _random_events()
    assert min(SEEN.values()) >= 5, SEEN


def test_operations_by_hand() -> None:
    # the corner of a padded 3x3 kernel has 4 synapses, the middle 9; the first tap is zero: it reaches 4 of 9 pixels
    weight = np.ones((1, 1, 3, 3))
    weight[0, 0, 0, 0] = 0
    fan = FanOut(conv(weight, padding=(1, 1)), Input("a", (1, 3, 3), 1, 1.0))
    corner, middle = np.zeros((2, 1, 3, 3), dtype=np.int64)
    corner[0, 0, 0], middle[0, 1, 1] = 5, 7
    assert fan.operations(corner) == (5 * 4, 5 * 3)
    assert fan.operations(middle) == (7 * 9, 7 * 8)
    assert fan.operations(corner + middle) == (20 + 63, 15 + 56)


def conv(weight: Any, **parameters: Any) -> Conv:
    return Conv("c", "a", "b", np.asarray(weight, dtype=np.int8), 1, **parameters)


def stored(projection: Conv | Dense, shape: Shape) -> list[Any]:
    found: list[Any] = fan_out(projection, Input("a", shape, 1, 1.0))[0].tolist()
    return found


def test_borders_by_hand() -> None:
    # 3x3 kernel, padding 1: a corner is seen by 2 x 2 outputs, an edge by 2 x 3, the middle by 3 x 3
    assert stored(conv(np.ones((1, 1, 3, 3)), padding=(1, 1)), (1, 3, 3)) == [[[4, 6, 4], [6, 9, 6], [4, 6, 4]]]
    # without padding only the middle output exists: each pixel is seen once
    assert stored(conv(np.ones((1, 1, 3, 3))), (1, 3, 3)) == [[[1, 1, 1], [1, 1, 1], [1, 1, 1]]]


def test_stride_by_hand() -> None:
    # 1x1 kernel, stride 2: every other pixel is read, the last of an even row never
    assert stored(conv(np.ones((3, 1, 1, 1)), stride=(2, 2)), (1, 3, 4)) == [[[3, 0, 3, 0], [0, 0, 0, 0], [3, 0, 3, 0]]]
    # width 3, kernel 3, padding 1, stride 2: outputs at 0 and 2, taps 0 1 | 1 2
    assert stored(conv(np.ones((1, 1, 1, 3)), stride=(1, 2), padding=(0, 1)), (1, 1, 3)) == [[[1, 2, 1]]]


def test_dilation_by_hand() -> None:
    # taps at x and x + 2 of width 4: outputs 0 and 1 read 0 2 | 1 3
    assert stored(conv(np.ones((1, 1, 1, 2)), dilation=(1, 2)), (1, 1, 4)) == [[[1, 1, 1, 1]]]
    # width 5: outputs 0, 1, 2 read 0 2 | 1 3 | 2 4
    assert stored(conv(np.ones((1, 1, 1, 2)), dilation=(1, 2)), (1, 1, 5)) == [[[1, 1, 2, 1, 1]]]


def test_groups_and_zeros_by_hand() -> None:
    # 4 outputs in 2 groups: each source channel meets the 2 outputs of its own group; one weight of channel 1 is zero
    projection = conv(np.array([1, 1, 1, 0]).reshape(4, 1, 1, 1), groups=2)
    both = fan_out(projection, Input("a", (2, 1, 1), 1, 1.0))
    assert [side.ravel().tolist() for side in both] == [[2, 2], [2, 1]]


def test_shuffle_moves_synapses_but_adds_none() -> None:
    weight = np.ones((8, 3, 2, 2))
    for shuffle in (1, 2):
        assert stored(conv(weight, shuffle=shuffle), (3, 3, 3)) == stored(conv(weight), (3, 3, 3))
    # 8 outputs x (1, 2 or 4 windows of 2 x 2)
    assert stored(conv(weight), (3, 3, 3))[0] == [[8, 16, 8], [16, 32, 16], [8, 16, 8]]


def test_dense_by_hand() -> None:
    projection = Dense("d", "a", "b", np.array([[1, 0, 0, 2], [3, 0, 4, 5]], dtype=np.int8), 1)
    both = fan_out(projection, Input("a", (2, 1, 2), 1, 1.0))
    assert [side.tolist() for side in both] == [[[[2, 2]], [[2, 2]]], [[[2, 0]], [[1, 2]]]]


def test_taps_by_hand() -> None:
    # width 3, kernel 2, padding 1, stride 2: windows -1 0 | 1 2
    vertical, horizontal = conv_taps(
        conv(np.ones((1, 1, 1, 2)), stride=(1, 2), padding=(0, 1)), Input("a", (1, 1, 3), 1, 1.0)
    )
    assert [tap.tolist() for tap in vertical] == [[0]]
    assert [tap.tolist() for tap in horizontal] == [[-1, 1], [0, 2]]


def test_tap_rows_are_events_then_stored_and_effective_per_projection() -> None:
    program = every_primitive()
    for name in ("in", "a", "r"):
        rows = tap_rows(program, name)
        assert rows.shape == (1 + 2 * len(program.out_of(name)), neurons(program.nodes[name]))
        assert (rows[0] == 1).all()
        for index, projection in enumerate(program.out_of(name)):
            both = fan_out(projection, program.nodes[name])
            np.testing.assert_array_equal(rows[1 + 2 * index : 3 + 2 * index], [side.ravel() for side in both])


def test_counts_from_taps_and_their_sum() -> None:
    program = every_primitive()
    taps = {"in": np.array([9, 1, 2, 3, 4]), "a": np.array([8, 5, 6, 7, 8]), "r": np.array([7, 9, 10])}
    counts = Counts.from_taps(program, 2, taps)
    assert counts.events == {"in": 9, "a": 8, "r": 7}
    assert counts.stored == {"in>a": 1, "in>r": 3, "a>r": 5, "a>y": 7, "r>out": 9}
    assert counts.effective == {"in>a": 2, "in>r": 4, "a>r": 6, "a>y": 8, "r>out": 10}
    total = counts + Counts(
        1, dict.fromkeys(counts.events, 1), dict.fromkeys(counts.stored, 2), dict.fromkeys(counts.stored, 3)
    )
    assert total.images == 3
    assert total.events == {"in": 10, "a": 9, "r": 8}
    assert total.stored == {"in>a": 3, "in>r": 5, "a>r": 7, "a>y": 9, "r>out": 11}
    assert total.effective == {"in>a": 5, "in>r": 7, "a>r": 9, "a>y": 11, "r>out": 13}


@pytest.mark.parametrize("groups", [1, 2])
def test_fan_out_sums_to_all_synapses(groups: int) -> None:
    # 4 x 2 x 2 outputs of 2 / groups x 3 x 3 taps; without padding each tap meets a source neuron
    projection = conv(np.ones((4, 2 // groups, 3, 3)), groups=groups)
    assert np.sum(stored(projection, (2, 4, 4))) == 4 * 2 * 2 * (2 // groups) * 9
