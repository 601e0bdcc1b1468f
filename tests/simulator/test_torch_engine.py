"""The torch engine: a few images at a time, memory given back, and only what float32 holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from spikegen.lowering.retime import retime
from spikegen.program import Conv, Dense, Input, Lif, Program, Projection, Readout, Relay
from spikegen.program.ir import Population
from spikegen.simulator import Simulator, torch_engine
from spikegen.simulator.torch_engine import TorchEngine, _last_uses
from tests.program.examples import every_field, every_primitive
from tests.simulator.test_simulator import assert_equals_reference, assert_same_evaluation
from tests.simulator.ways import WAYS, each_way, simulator
from tests.strategies import frames, programs

TORCH = [way for way in WAYS if way != "numpy"]


@settings(max_examples=60)
@given(st.data())
def test_the_size_of_a_chunk_never_changes_a_result(data: st.DataObject) -> None:
    way = data.draw(st.sampled_from(TORCH))
    program = data.draw(programs())
    images = data.draw(frames(program, images=(3, 7)))
    largest = 4 * program.timesteps * max(int(np.prod(p.shape)) for p in program.populations)
    bytes_ = data.draw(st.sampled_from((0, 2 * largest, 4 * largest + 3)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_engine, "_CHUNK_BYTES", dict.fromkeys(("cpu", "cuda"), bytes_))
        found = simulator(way, program).evaluate(images, 0, record=True)
    assert_same_evaluation(found, Simulator(program, engine="numpy").evaluate(images, 0, record=True))


@pytest.mark.parametrize(
    ("bytes_", "sizes"), [(0, [1] * 5), (143, [1] * 5), (144 * 2, [2, 2, 1]), (144 * 5 - 1, [4, 1]), (144 * 9, [5])]
)
def test_chunks_hold_so_many_images(bytes_: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """4 bytes times T = 2 times 18 neurons: 144 of an image of population a."""
    program = every_primitive()
    engine = TorchEngine(program)
    monkeypatch.setitem(torch_engine._CHUNK_BYTES, "cpu", bytes_)
    computed = []
    current = engine._current

    def spy(population: Population, feeds: Any, live: Any, chunk: slice) -> torch.Tensor:
        if population.name == "a":
            computed.append(chunk.stop - chunk.start)
        return current(population, feeds, live, chunk)

    monkeypatch.setattr(engine, "_current", spy)
    engine.run(np.zeros((5, *program.input.shape), dtype=np.int32), 0, record=False)
    assert computed == sizes


@settings(max_examples=60)
@given(program=programs(max_populations=8))
def test_messages_are_kept_until_their_last_reader(program: Program) -> None:
    order = list(program.nodes)
    deleted = [(name, after) for after, names in _last_uses(program).items() for name in names]
    senders = [name for name, node in program.nodes.items() if not isinstance(node, Readout)]
    assert sorted(name for name, _ in deleted) == sorted(senders)
    for name, after in deleted:
        readers = [p.target for p in program.projections if p.source == name]
        assert after == max(readers, key=order.index, default=name)


@pytest.mark.parametrize("record", [False, True])
def test_messages_are_freed_after_their_last_reader(record: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    program = every_field()
    engine = TorchEngine(program)
    population_of = engine._population
    held = {}

    def spy(population: Population, live: Mapping[str, torch.Tensor], images: int, step: int) -> Any:
        held[population.name] = set(live)
        return population_of(population, live, images, step)

    monkeypatch.setattr(engine, "_population", spy)
    engine.run(np.zeros((1, *program.input.shape), dtype=np.int32), 0, record=record)
    # in and clock are read by r, a by y, r by out; clock comes first
    assert held == {
        "clock": {"in"},
        "a": {"in", "clock"},
        "r": {"in", "clock", "a"},
        "out": {"a", "r"},
        "y": {"a"},
    }


def constant(message: int, *projections: Projection, shape: tuple[int, int, int] = (1, 1, 1)) -> Program:
    """From an input of four channels, of which every message is ``message``."""
    ends = np.full(4, message)
    return Program(
        "constant",
        2,
        Input("in", (4, 1, 1), message.bit_length(), 1.0, ends, ends),
        (Readout("out", shape, np.ones(2), np.zeros(shape[0])),),
        projections,
    )


def dense(*weights: int, exponent: int = 0, gains: tuple[int, ...] = ()) -> Dense:
    row = np.array([weights], dtype=np.int8)
    return Dense(f"w{exponent}", "in", "out", row, exponent, gains=np.array(gains, dtype=np.int32))


@pytest.mark.parametrize(
    ("message", "projections", "held"),
    [
        # 256 x 2^16 = 2^24
        ((1 << 16) - 1, [dense(127, -128, 1, 0)], True),
        (1 << 16, [dense(127, -128, 1, 0)], False),
        (-(1 << 16) + 1, [dense(127, -128, 1, 0)], True),
        (-(1 << 16), [dense(127, -128, 1, 0)], False),
        # a common exponent moves the point
        ((1 << 16) - 1, [dense(127, -128, 1, 0, exponent=3)], True),
        (1 << 16, [dense(127, -128, 1, 0, exponent=3)], False),
        # (128 + (16 << 3)) x 2^16, in units of the smaller
        ((1 << 16) - 1, [dense(64, -64, 0, 0), dense(8, -8, 0, 0, exponent=3)], True),
        (1 << 16, [dense(64, -64, 0, 0), dense(8, -8, 0, 0, exponent=3)], False),
        # gains at a timestep
        ((1 << 15) - 1, [dense(127, -128, 1, 0, gains=(-2, -2))], True),
        (1 << 15, [dense(127, -128, 1, 0, gains=(-2, -2))], False),
        ((1 << 16) - 1, [dense(127, -128, 1, 0, gains=(0, 0))], True),
        (1 << 16, [dense(127, -128, 1, 0, gains=(0, 0))], False),
    ],
)
def test_only_what_float32_holds_runs_in_it(message: int, projections: list[Projection], held: bool) -> None:
    program = constant(message, *projections)
    for way in TORCH:
        made = simulator(way, program)
        assert isinstance(made.engine, TorchEngine)
        assert (made.engine._feeds["out"] is not None) == held
        assert_equals_reference(made, np.full((2, 4, 1, 1), message, dtype=np.int32), 0)


@each_way
def test_sums_beyond_float32_are_exact(way: str) -> None:
    """Terms of 30 bits that nearly cancel: float32 would round each of them."""
    message = (1 << 22) + 12_345
    program = constant(message, dense(127, -126, 0, 0))
    (result,) = assert_equals_reference(simulator(way, program), np.full((1, 4, 1, 1), message, dtype=np.int32), 0)
    assert result.array(program, "out").ravel().tolist() == [message] * 2


@each_way
def test_groups_that_share_a_shuffle_block(way: str) -> None:
    weight = np.arange(-4, 4, dtype=np.int8).reshape(8, 1, 1, 1)
    projection = Conv("w", "in", "out", weight.repeat(2, axis=1), 1, groups=2, shuffle=2)
    program = constant(3, projection, shape=(2, 2, 2))
    split = constant(3, Conv("w", "in", "out", weight[:4].repeat(2, axis=1), 1, groups=2, shuffle=2), shape=(1, 2, 2))
    for each in (program, split):
        assert_equals_reference(simulator(way, each), np.full((2, 4, 1, 1), 3, dtype=np.int32), 0)


@each_way
def test_two_projections_from_one_pixel(way: str) -> None:
    """1x1 pixels become 3x3 by padding alone, and the second projection is added to the first."""
    wide = Conv("a", "in", "out", np.arange(36, dtype=np.int8).reshape(1, 4, 3, 3), 1, padding=(2, 2))
    thin = Conv("b", "in", "out", np.full((1, 4, 1, 1), -5, dtype=np.int8), 2, padding=(1, 1))
    program = constant(3, wide, thin, shape=(1, 3, 3))
    assert_equals_reference(simulator(way, program), np.full((2, 4, 1, 1), 3, dtype=np.int32), 0)


@each_way
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_steady_and_changing_currents_add_up(way: str, order: tuple[int, ...]) -> None:
    """A still image, spikes and gains into one population, in any order; the image goes through a relay too."""
    rng = np.random.default_rng(3)

    def weight(*shape: int) -> np.ndarray[Any, np.dtype[np.int8]]:
        return rng.integers(-8, 9, shape).astype(np.int8)

    into = (
        Conv("still", "r", "b", weight(2, 3, 3, 3), 1, padding=(1, 1)),
        Conv("spikes", "a", "b", weight(2, 2, 3, 3), 4, padding=(1, 1)),
        Conv("scaled", "in", "b", weight(2, 3, 1, 1), 1, gains=np.array([1, -2, 0], dtype=np.int32)),
    )
    program = Program(
        "mixed",
        3,
        Input("in", (3, 4, 4), 4, 1 / 15),
        (
            Relay("r", (3, 4, 4), 5, 1 / 15),
            Lif("a", (2, 4, 4), 200, 4095, 0, np.zeros(2, dtype=np.int16), 0),
            Lif("b", (2, 4, 4), 900, 1000, 300, np.zeros(2, dtype=np.int16), 0),
            Readout("out", (2, 4, 4), np.ones(3), np.zeros(2)),
        ),
        (
            Conv("copy", "in", "r", np.full((3, 1, 1, 1), 1, dtype=np.int8), 1, groups=3),
            Conv("in>a", "in", "a", weight(2, 3, 3, 3), 1, padding=(1, 1)),
            *(into[index] for index in order),
            Conv("out", "b", "out", weight(2, 2, 1, 1), 1),
            Conv("more", "r", "out", weight(2, 3, 1, 1), 1),
        ),
    )
    made = simulator(way, retime(program))
    (result, _) = assert_equals_reference(made, rng.integers(-15, 16, (2, 3, 4, 4)).astype(np.int32), 0)
    assert 0 < result.events["b"] < 96
    assert 0 < result.events["a"] < 96
    if isinstance(made.engine, TorchEngine):
        assert [choice.kernel for choice in made.engine.choices["copy"]] == ["copy"]
        assert None not in made.engine._feeds.values()
