"""The simulator equals the scalar reference in every way of computing, value by value and count by count."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings

from spikegen.errors import BackendError, ConfigError, ProgramError
from spikegen.program import (
    Conditioning,
    Dense,
    Evaluation,
    Input,
    Lif,
    Program,
    Readout,
    Target,
    overflow_risks,
)
from spikegen.program.ir import neurons
from spikegen.simulator import Simulator
from spikegen.simulator.torch_engine import TorchEngine
from tests import reference
from tests.program.examples import changed, every_field, every_primitive
from tests.simulator.ways import WAYS, each_way, simulator
from tests.strategies import frames, programs


def assert_equals_reference(made: Simulator, images: npt.NDArray[np.int32], step: int) -> list[reference.Result]:
    """Spikes, relayed messages, readouts and all counts."""
    program = made.program
    found = made.evaluate(images, step, record=True)
    expected = [reference.evaluate(program, image, step) for image in images]
    assert set(found.messages) | set(found.readouts) == set(program.nodes)
    for name, values in {**found.messages, **found.readouts}.items():
        np.testing.assert_array_equal(values, [result.array(program, name) for result in expected], err_msg=name)
        assert values.dtype == np.int32
    for kind in ("events", "stored", "effective"):
        sums = {name: sum(getattr(r, kind)[name] for r in expected) for name in getattr(expected[0], kind)}
        assert getattr(found.counts, kind) == sums, kind
    assert found.counts.images == len(images)
    return expected


def assert_same_evaluation(a: Evaluation, b: Evaluation) -> None:
    """Equality of everything that an evaluation holds."""
    assert a.counts == b.counts
    for left, right in ((a.readouts, b.readouts), (a.messages, b.messages)):
        assert list(left) == list(right)
        for name in left:
            np.testing.assert_array_equal(left[name], right[name], err_msg=name)


# How often the examples did what makes them worth testing.
SEEN: Counter[str] = Counter()


def _see(way: str, made: Simulator, results: list[reference.Result]) -> None:
    program = made.program
    SEEN["programs"] += 1
    SEEN[way] += 1
    if isinstance(made.engine, TorchEngine):
        SEEN["beyond float32"] += any(feeds is None for feeds in made.engine._feeds.values())
        SEEN.update({f"kernel {choice.kernel}" for part in made.engine.choices.values() for choice in part})
    SEEN["wraps"] += any(result.wraps for result in results)
    SEEN["clips"] += any(result.clips for result in results)
    scaled = [p for p in program.projections if p.gains.size]
    SEEN["gains"] += bool(scaled)
    SEEN[f"delays {way}"] += any(isinstance(p, Lif) and p.delays.any() for p in program.populations)
    SEEN["graded"] += any(program.message_bits(p.source) for p in scaled)
    for population in program.populations:
        SEEN["clocks"] += not program.into(population.name)
        if isinstance(population, Lif):
            SEEN["neurons"] += 1
            spikes = sum(result.events[population.name] for result in results)
            SEEN["firing"] += 0 < spikes < len(results) * program.timesteps * neurons(population)


@settings(max_examples=500)
@given(st.data())
def _random_programs(data: st.DataObject) -> None:
    way = data.draw(st.sampled_from(tuple(WAYS)), label="way")
    program = data.draw(programs())
    images = data.draw(frames(program, images=(1, 2)))
    step = data.draw(st.integers(0, program.conditioning.steps - 1))
    made = simulator(way, program)
    results = assert_equals_reference(made, images, step)
    assert not any(result.wraps or result.clips or result.misfits for result in results)  # overflow_risks was empty
    _see(way, made, results)


@settings(max_examples=100)
@given(st.data())
def _overflowing_programs(data: st.DataObject) -> None:
    way = data.draw(st.sampled_from(tuple(WAYS)), label="way")
    program = data.draw(programs(overflow=True))
    made = simulator(way, program)
    results = assert_equals_reference(made, data.draw(frames(program, images=(2,))), 0)
    assert overflow_risks(program) or not any(result.wraps or result.clips for result in results)
    _see(way, made, results)


def test_random_programs_equal_the_reference() -> None:
    SEEN.clear()
    _random_programs()
    assert SEEN["programs"] >= 500
    assert SEEN["firing"] > 0.4 * SEEN["neurons"]  # the rest is silent or fires always
    assert SEEN["gains"] > SEEN["programs"] / 4
    assert SEEN["graded"] > SEEN["programs"] / 8
    assert SEEN["clocks"] > SEEN["programs"] / 30
    assert min(SEEN[way] for way in WAYS) >= SEEN["programs"] / (4 * len(WAYS))
    assert min(SEEN[f"delays {way}"] for way in WAYS) >= SEEN["programs"] / (8 * len(WAYS))
    assert min(SEEN[f"kernel {name}"] for name in ("int8", "float32", "matmul")) >= SEEN["programs"] / 8
    assert SEEN["kernel copy"] >= SEEN["programs"] / 100


def test_overflowing_programs_equal_the_reference() -> None:
    """Wrapped currents and clipped membranes too."""
    SEEN.clear()
    _overflowing_programs()
    assert SEEN["wraps"] >= SEEN["programs"] / 10
    assert SEEN["clips"] >= SEEN["programs"] / 10
    assert SEEN["beyond float32"] >= SEEN["programs"] / 4  # proven by no bound, so left to numpy
    assert min(SEEN[way] for way in WAYS) >= SEEN["programs"] / (4 * len(WAYS))


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch sees no CUDA device; way 'matmul' runs its kernels on the CPU"
)
def test_cuda_is_a_way_where_there_is_one() -> None:
    assert "cuda" in WAYS


@each_way
def test_every_field_equals_the_reference(way: str) -> None:
    """Gains on binary spikes, on graded messages and on those of a Lif that hears nothing."""
    program = every_field()
    images_ = np.random.default_rng(2).integers(-15, 16, (2, *program.input.shape)).astype(np.int32)
    result, _ = assert_equals_reference(simulator(way, program), images_, 1)
    assert 0 < result.events["clock"] < neurons(program.nodes["clock"]) * program.timesteps
    levels = program.levels
    assert (levels["clock"], levels["a"], levels["r"]) == (0, 1, 2)


@each_way
@pytest.mark.parametrize(("du", "dv"), [(4095, 0), (1024, 0), (0, 128), (4095, 1), (0, 0)])
def test_many_neurons_equal_the_reference(way: str, du: int, dv: int) -> None:
    """A decay that is off by one changes few spikes, so it takes many neurons with thresholds amid their membranes."""
    rng = np.random.default_rng(du + dv)
    count, steps = 1500, 8
    program = Program(
        "wide",
        steps,
        Input("in", (8, 1, 1), 4, 1.0),
        (
            Lif("n", (count, 1, 1), 12_000, du, dv, rng.integers(-4096, 4096, count).astype(np.int16), 0),
            Readout("out", (1, 1, 1), np.ones(steps), np.zeros(1)),
        ),
        (
            Dense("w", "in", "n", rng.integers(-128, 128, (count, 8)).astype(np.int8), 2),
            Dense("o", "n", "out", np.ones((1, count), dtype=np.int8), 0),
        ),
    )
    frame = rng.integers(-15, 16, (1, 8, 1, 1)).astype(np.int32)
    (result,) = assert_equals_reference(simulator(way, program), frame, 0)
    assert result.events["n"] > count / 20


@each_way
@settings(max_examples=10)
@given(data=st.data())
def test_the_batch_size_never_changes_a_result(way: str, data: st.DataObject) -> None:
    program = data.draw(programs())
    images = data.draw(frames(program, images=(5,)))
    made = simulator(way, program)
    whole = made.evaluate(images, 0, record=True)
    for batch in (1, 2, 5):
        made.batch = batch
        assert_same_evaluation(made.evaluate(images, 0, record=True), whole)


@each_way
@settings(max_examples=10)
@given(data=st.data())
def test_images_do_not_meet(way: str, data: st.DataObject) -> None:
    program = data.draw(programs())
    images = data.draw(frames(program, images=(3,)))
    made = simulator(way, program)
    together = made.evaluate(images, 0, record=True)
    for index in (2, 0, 1):  # in another order: no state is left behind
        alone = made.evaluate(images[index : index + 1], 0, record=True)
        for name, values in {**alone.messages, **alone.readouts}.items():
            np.testing.assert_array_equal(values[0], {**together.messages, **together.readouts}[name][index])


@each_way
@settings(max_examples=10)
@given(data=st.data())
def test_recording_changes_nothing(way: str, data: st.DataObject) -> None:
    program = data.draw(programs())
    images = data.draw(frames(program, images=(2,)))
    made = simulator(way, program)
    recorded, plain = (made.evaluate(images, 0, record=record) for record in (True, False))
    assert plain.messages == {}
    assert_same_evaluation(plain, dataclasses.replace(recorded, messages={}))


def image(program: Program, value: int = 0, images: int = 1) -> npt.NDArray[np.int32]:
    return np.full((images, *program.input.shape), value, dtype=np.int32)


@each_way
def test_conditioning_of_the_step_is_used(way: str) -> None:
    program = dataclasses.replace(
        changed(every_primitive(), "a", vth=0, bias_mant=[-1, -1]),
        conditioning=Conditioning(3, {"a": np.array([[2, 0], [0, 2], [1, 1]], dtype=np.int16)}),
    )
    made = simulator(way, program)
    rates = [made.evaluate(image(program), k, record=True).messages["a"] for k in range(3)]
    # bias -1 + 2 > 0 fires in every step, -1 + 0 and -1 + 1 never do
    assert [rate[0].all(axis=(0, 2, 3)).tolist() for rate in rates] == [[True, False], [False, True], [False, False]]
    assert not rates[2].any()


@each_way
def test_messages_only_when_asked(way: str) -> None:
    made = simulator(way, every_primitive())
    assert made.evaluate(image(made.program), 0).messages == {}
    assert list(made.evaluate(image(made.program), 0, record=True).messages) == ["in", "a", "r"]


def test_it_is_a_target_and_a_context_manager() -> None:
    program = every_primitive()
    with Simulator(program) as made:
        target: Target = made
        assert target.evaluate(image(program, images=3), 2).readouts["out"].shape == (3, 2, 1, 1, 1)
    made.close()


@each_way
def test_frames_at_their_limits(way: str) -> None:
    program = every_primitive()
    for value in (-15, 15):
        assert_equals_reference(simulator(way, program), image(program, value), 0)


@pytest.mark.parametrize(
    ("frames_", "message"),
    [
        (np.full((1, 2, 3, 3), 16, dtype=np.int32), r"frames hold 16 in channel 0 of in, which takes -15\.\.15"),
        (np.full((1, 2, 3, 3), -16, dtype=np.int32), r"frames hold -16 in channel 0 of in, which takes -15\.\.15"),
        (np.full((1, 2, 3, 3), -(2**31), dtype=np.int32), r"frames hold -2147483648 in channel 0 of in"),
        (np.zeros((1, 2, 3, 3), dtype=np.int64), "frames are int64, in takes int32"),
        (np.zeros((1, 2, 3, 3)), "frames are float64, in takes int32"),
        (
            np.zeros((1, 2, 2, 3, 3), dtype=np.int32),
            r"frames have shape \(1, 2, 2, 3, 3\), in takes \(N, 2, 3, 3\), N >= 1",
        ),
        (np.zeros((2, 3, 3), dtype=np.int32), r"frames have shape \(2, 3, 3\), in takes \(N, 2, 3, 3\), N >= 1"),
        (np.zeros((1, 3, 3, 3), dtype=np.int32), r"frames have shape \(1, 3, 3, 3\), in takes"),
        (np.zeros((0, 2, 3, 3), dtype=np.int32), r"frames have shape \(0, 2, 3, 3\), in takes"),
    ],
)
def test_frames_that_do_not_fit_are_refused(frames_: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Simulator(every_primitive()).evaluate(frames_, 0)


def streamed(program: Program) -> Program:
    """``program`` with a binary spike train as its input."""
    port = Input("in", program.input.shape, 0, 1.0, streamed=True)
    return dataclasses.replace(program, input=port)


@pytest.mark.parametrize(
    ("frames_", "message"),
    [
        (
            np.zeros((1, 2, 3, 3), dtype=np.int32),
            r"frames have shape \(1, 2, 3, 3\), in takes \(N, 2, 2, 3, 3\), N >= 1",
        ),
        (np.zeros((1, 3, 2, 3, 3), dtype=np.int32), r"frames have shape \(1, 3, 2, 3, 3\), in takes \(N, 2, 2, 3, 3\)"),
        (np.zeros((0, 2, 2, 3, 3), dtype=np.int32), r"frames have shape \(0, 2, 2, 3, 3\), in takes"),
        (np.full((1, 2, 2, 3, 3), 2, dtype=np.int32), r"frames hold 2 in channel 0 of in, which takes 0\.\.1"),
        (np.full((1, 2, 2, 3, 3), -1, dtype=np.int32), r"frames hold -1 in channel 0 of in, which takes 0\.\.1"),
    ],
)
def test_streams_that_do_not_fit_are_refused(frames_: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Simulator(streamed(every_primitive())).evaluate(frames_, 0)


def test_every_channel_has_its_own_range() -> None:
    program = changed(every_primitive(), "in", low=[0, -3], high=[10, 2])
    made = Simulator(program)
    frame = np.zeros((1, 2, 3, 3), dtype=np.int32)
    for channel, allowed in ((0, (0, 10)), (1, (-3, 2))):
        for value in range(-15, 16):
            frame[:, :, 1, 2] = 0
            frame[0, channel, 1, 2] = value
            if allowed[0] <= value <= allowed[1]:
                made.evaluate(frame, 0)
                continue
            text = rf"^frames hold {value} in channel {channel} of in, which takes {allowed[0]}\.\.{allowed[1]}$"
            with pytest.raises(ConfigError, match=text):
                made.evaluate(frame, 0)


@each_way
def test_a_stream_of_one_frame_is_that_frame(way: str) -> None:
    program = every_primitive()
    images = np.random.default_rng(1).integers(-15, 16, (3, *program.input.shape)).astype(np.int32)
    stream = np.repeat(images[:, None], program.timesteps, axis=1)
    expected = simulator(way, program).evaluate(images, 0, record=True)
    found = simulator(way, changed(program, "in", streamed=True)).evaluate(stream, 0, record=True)
    assert_same_evaluation(found, expected)


@each_way
def test_a_stream_is_heard_in_its_own_order(way: str) -> None:
    """One weight of 1 from a spike train to a readout: the readout hears the train."""
    program = Program(
        "wire",
        4,
        Input("in", (1, 1, 1), 0, 1.0, streamed=True),
        (Readout("out", (1, 1, 1), np.ones(4), np.zeros(1)),),
        (Dense("w", "in", "out", np.ones((1, 1), dtype=np.int8), 0),),
    )
    trains = np.array([[0, 1, 1, 0], [1, 0, 0, 0]], dtype=np.int32)
    found = simulator(way, program).evaluate(trains.reshape(2, 4, 1, 1, 1), 0, record=True)
    np.testing.assert_array_equal(found.readouts["out"].reshape(2, 4), trains)
    np.testing.assert_array_equal(found.messages["in"].reshape(2, 4), trains)
    assert (found.counts.events, found.counts.stored) == ({"in": 3}, {"w": 3})


@pytest.mark.parametrize("step", [-1, 3])
def test_steps_that_do_not_exist_are_refused(step: int) -> None:
    program = every_primitive()
    with pytest.raises(ConfigError, match=rf"diffusion step is {step}, the Program has 0\.\.2"):
        Simulator(program).evaluate(image(program), step)


@pytest.mark.parametrize("batch", [0, -1])
def test_batches_that_are_not_positive_are_refused(batch: int) -> None:
    with pytest.raises(ConfigError, match=f"batch is {batch}, it must be at least 1"):
        Simulator(every_primitive(), batch=batch)


def test_programs_against_the_rules_are_refused() -> None:
    with pytest.raises(ProgramError, match="a: vth is -1"):
        Simulator(changed(every_primitive(), "a", vth=-1))


@each_way
@pytest.mark.parametrize(
    ("exponent", "name", "bits"),
    # one input of 15 through one weight of 127 << exponent: 1905 << exponent must fit
    [("in>r", "r", 11), ("in>a", "a", 18), ("in>y", "y", 23)],
)
def test_values_without_meaning_are_refused_not_cut(way: str, exponent: str, name: str, bits: int) -> None:
    program = every_primitive()
    one = np.zeros((1, 2, 1, 1), dtype=np.int8)
    one[0, 0] = 127
    program = changed(program, "in>r", weight=one)
    program = changed(program, "a>r", weight=np.zeros((1, 2, 2, 1)))
    program = changed(program, "in>a", weight=np.pad(one.reshape(2, 1, 1, 1), ((0, 0), (0, 0), (1, 1), (1, 1))))
    program = changed(program, "r", bits=11)
    program = changed(program, "r>out", weight=np.zeros((1, 9)))
    program = dataclasses.replace(
        program,
        projections=tuple(
            dataclasses.replace(p, name="in>y", source="in", weight=np.repeat(one, 4, axis=0)) if p.name == "a>y" else p
            for p in program.projections
        ),
    )
    program = changed(program, "in>r", exponent=0)
    fits = bits - 11  # 1905 has 11 bits
    if name != "r":
        program = changed(program, exponent, exponent=fits)
    simulator(way, program).evaluate(image(program, 15), 0)
    reached = 1905 << fits + 1
    message = rf"^{name}: its current reaches \d+\.\.{reached}, limit is \+-{2**bits - 1}"
    with pytest.raises(BackendError, match=message):
        simulator(way, changed(program, exponent, exponent=fits + 1)).evaluate(image(program, 15), 0)


@each_way
def test_the_limit_of_a_message_is_exact(way: str) -> None:
    one = np.array([1, 0], dtype=np.int8).reshape(1, 2, 1, 1)
    program = changed(every_primitive(), "in>r", weight=one, exponent=0)
    program = changed(changed(program, "a>r", weight=np.zeros((1, 2, 2, 1))), "r", bits=3)
    for value in (-7, 7):
        simulator(way, program).evaluate(image(program, value), 0)
    for value in (-8, 8):
        with pytest.raises(
            BackendError, match=rf"^r: its current reaches {value}\.\.{value}, limit is \+-7; export with"
        ):
            simulator(way, program).evaluate(image(program, value), 0)
