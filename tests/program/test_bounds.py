"""Interval bounds hold for every message, and an empty list of risks means that nothing can overflow."""

from __future__ import annotations

import dataclasses
import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from spikegen.program import (
    Conditioning,
    Conv,
    Dense,
    Input,
    Lif,
    Program,
    Readout,
    Relay,
    current_bounds,
    overflow_risks,
    validate,
)
from spikegen.simulator import Simulator
from tests import reference
from tests.program.examples import changed, every_primitive
from tests.strategies import frames, programs


def chain(
    weight: int, exponent: int, bits: int, timesteps: int = 1, *, bias: int = 0, bias_exp: int = 0, **lif: int
) -> Program:
    """One input line -> one neuron -> one readout; the current of the neuron is message * (weight << exponent)."""
    mantissa = np.array([bias], dtype=np.int16)
    vth, du, dv = lif.get("vth", 131071), lif.get("du", 4095), lif.get("dv", 0)
    return Program(
        "chain",
        timesteps,
        Input("in", (1, 1, 1), bits, 1.0),
        (
            Lif("n", (1, 1, 1), vth, du, dv, mantissa, bias_exp),
            Readout("out", (1, 1, 1), np.ones(timesteps), np.ones(1)),
        ),
        (
            Dense("w", "in", "n", np.array([[weight]], dtype=np.int8), exponent),
            Dense("o", "n", "out", np.ones((1, 1), np.int8), 0),
        ),
    )


def relayed(weight: int, exponent: int, bits: int, relay_bits: int) -> Program:
    """The same with a relay instead of the neuron."""
    program = chain(weight, exponent, bits)
    return dataclasses.replace(program, populations=(Relay("n", (1, 1, 1), relay_bits), program.populations[1]))


def overflowing(program: Program, steps: range) -> bool:
    """Whether the reference leaves a width for the extreme frames."""
    port = program.input
    ends = [np.broadcast_to(value[:, None, None], port.shape) for value in (port.low, port.high)]
    results = [reference.evaluate(program, frame, step) for frame in ends for step in steps]
    return any(result.wraps or result.clips or result.misfits for result in results)


@settings(max_examples=150)
@given(st.data())
def test_bounds_hold_for_the_messages_of_the_program(data: st.DataObject) -> None:
    program = data.draw(programs())
    images = data.draw(frames(program, images=(4,)))
    messages = Simulator(program).evaluate(images, 0, record=True)
    currents = {name: values for name, values in messages.messages.items() if isinstance(program.nodes[name], Relay)}
    bounds = current_bounds(program)
    assert list(bounds) == [population.name for population in program.populations]
    for name, values in {**currents, **messages.readouts}.items():
        low, high = bounds[name]
        assert (values >= low[:, None, None]).all(), name
        assert (values <= high[:, None, None]).all(), name


def _random_messages(program: Program, name: str, rng: np.random.Generator) -> dict[reference.Index, int]:
    node = program.nodes[name]
    if isinstance(node, Lif):
        return {index: int(rng.integers(0, 2)) for index in reference.indices(node.shape)}
    assert isinstance(node, Input)
    return {
        index: int(rng.choice([node.low[index[0]], node.high[index[0]]])) for index in reference.indices(node.shape)
    }


@settings(max_examples=100)
@given(programs(max_populations=4), st.integers(0, 2**32 - 1))
def test_bounds_hold_for_any_spikes_and_inputs(program: Program, seed: int) -> None:
    """Messages drawn freely, also those that the network itself would never send."""
    rng = np.random.default_rng(seed)
    for population in program.populations:
        if any(isinstance(program.nodes[p.source], Relay) for p in program.into(population.name)):
            continue  # a relay's own bounds differ by channel: the test above covers it
        total = dict.fromkeys(reference.indices(population.shape), 0)
        t = int(rng.integers(program.timesteps))
        for projection in program.into(population.name):
            gain = int(projection.gains[t]) if projection.gains.size else 1
            sent = _random_messages(program, projection.source, rng)
            for origin, found in reference.synapses(program, projection).items():
                for target, weight in found:
                    total[target] += weight * gain * sent[origin]
        low, high = current_bounds(program)[population.name]
        assert all(low[channel] <= value <= high[channel] for (channel, _, _), value in total.items())


def test_bounds_by_hand() -> None:
    program = every_primitive()
    ones = [np.ones_like(p.weight) for p in program.projections]
    for projection, weight in zip(program.projections, ones, strict=True):
        program = changed(program, projection.name, weight=weight)
    bounds = current_bounds(program)
    # a: 9 taps of weight 1 << 1 on messages of +-15
    assert [x.tolist() for x in bounds["a"]] == [[-270, -270], [270, 270]]
    # r: 2 channels x 2 taps of weight 1 << 2 on 0..1, and 2 channels of weight 1 << 3 on +-15
    assert [x.tolist() for x in bounds["r"]] == [[-240], [16 + 240]]
    # out: 9 neurons of r with weight 1 << 1
    assert [x.tolist() for x in bounds["out"]] == [[-9 * 240 * 2], [9 * 256 * 2]]
    # y: 2 channels of weight 1 << 1
    assert [x.tolist() for x in bounds["y"]] == [[0], [4]]


def test_bounds_follow_the_range_of_each_input_channel() -> None:
    program = changed(every_primitive(), "in", low=[0, -3], high=[10, -1])
    program = changed(program, "in>a", weight=np.stack([np.full((1, 3, 3), 1), np.full((1, 3, 3), -2)]))
    program = changed(program, "a>r", weight=np.zeros((1, 2, 2, 1)))
    program = changed(program, "in>r", weight=np.array([1, 2]).reshape(1, 2, 1, 1))
    bounds = current_bounds(program)
    # 9 taps of 1 << 1 on 0..10, of -2 << 1 on -3..-1 (a tap on padding adds 0)
    assert [x.tolist() for x in bounds["a"]] == [[0, 0], [180, 108]]
    # 1 << 3 on 0..10 and 2 << 3 on -3..-1
    assert [x.tolist() for x in bounds["r"]] == [[-48], [80]]


def test_a_tighter_input_needs_no_smaller_weights() -> None:
    program = chain(1, 0, 18)
    assert overflow_risks(program)
    assert overflow_risks(changed(program, "in", low=[0], high=[131071])) == []
    assert overflow_risks(changed(program, "in", low=[0], high=[131072])) != []


def test_bounds_of_a_binary_input() -> None:
    program = dataclasses.replace(chain(100, 3, 4), input=Input("in", (1, 1, 1), 0, 1.0, streamed=True))
    assert [x.tolist() for x in current_bounds(program)["n"]] == [[0], [800]]


def test_bounds_of_groups_and_shuffles_are_per_channel() -> None:
    program = changed(every_primitive(), "in>a", weight=np.stack([np.full((1, 3, 3), 1), np.full((1, 3, 3), -2)]))
    weight = np.array([1, 2, 3, -4]).reshape(4, 1, 1, 1) * np.ones((4, 2, 1, 1))
    bounds = current_bounds(changed(program, "a>y", weight=weight))
    assert [x.tolist() for x in bounds["a"]] == [[-270, -540], [270, 540]]
    # the four channels become the pixels of one: the best of 3 << 1 and the worst of -4 << 1, from two channels
    assert [x.tolist() for x in bounds["y"]] == [[-16], [12]]


def test_bounds_of_groups_follow_the_channels_of_a_relay() -> None:
    program = dataclasses.replace(
        every_primitive(),
        populations=(Relay("r", (2, 3, 3), 6), Readout("y", (4, 3, 3), np.ones(2), np.zeros(4))),
        projections=(
            Conv("in>r", "in", "r", np.array([1, -2], dtype=np.int8).reshape(2, 1, 1, 1), 0, groups=2),
            Conv("r>y", "r", "y", np.array([1, 1, 1, 3], dtype=np.int8).reshape(4, 1, 1, 1), 0, groups=2),
        ),
        conditioning=Conditioning(1),
    )
    validate(program)
    bounds = current_bounds(program)
    assert [x.tolist() for x in bounds["r"]] == [[-15, -30], [15, 30]]
    assert [x.tolist() for x in bounds["y"]] == [[-15, -15, -30, -90], [15, 15, 30, 90]]


@pytest.mark.parametrize(
    ("gains", "low", "high", "reached"),
    [
        ([], [-2, 3], [5, 4], ([-12, 6], [30, 8])),
        ([1, 1], [-2, 3], [5, 4], ([-12, 6], [30, 8])),
        # the worst of the timesteps, whose gains may turn the range round
        ([1, 4], [-2, 3], [5, 4], ([-48, 6], [120, 32])),
        ([-3, 1], [-2, 3], [5, 4], ([-90, -24], [36, 8])),
        ([0, 0], [-2, 3], [5, 4], ([0, 0], [0, 0])),
        ([0, 2], [-2, 3], [5, 4], ([-24, 0], [60, 16])),
    ],
)
def test_bounds_with_gains(
    gains: list[int], low: list[int], high: list[int], reached: tuple[list[int], list[int]]
) -> None:
    """Weights of 3 << 1 and 1 << 1 behind the two channels of the input, each alone."""
    weight = np.array([3, 1], dtype=np.int8).reshape(2, 1, 1, 1)
    program = dataclasses.replace(
        every_primitive(),
        populations=(Readout("y", (2, 3, 3), np.ones(2), np.zeros(2)),),
        projections=(Conv("in>y", "in", "y", weight, 1, groups=2, gains=np.array(gains)),),
        conditioning=Conditioning(1),
    )
    program = changed(program, "in", low=low, high=high)
    validate(program)
    found = current_bounds(program)["y"]
    # a tap may fall on padding, so a bound of a convolution is never beyond 0 on its own side
    assert [x.tolist() for x in found] == [
        [min(x, 0) for x in reached[0]],
        [max(x, 0) for x in reached[1]],
    ]


@settings(max_examples=60)
@given(st.data())
def test_no_current_leaves_its_bounds(data: st.DataObject) -> None:
    """Gains of either sign among them; the currents are those of the scalar reference."""
    program = data.draw(programs(timesteps=(1, 2, 3), max_populations=3, max_size=5))
    image = data.draw(frames(program, images=(1,)))[0]
    result = reference.evaluate(program, image, 0)
    for name, (low, high) in current_bounds(program).items():
        if not isinstance(program.nodes[name], Lif):  # whose currents are not messages
            found = result.array(program, name)
            assert (found >= low[:, None, None]).all()
            assert (found <= high[:, None, None]).all()


def test_gains_of_a_relay_without_a_risk_fit_the_payload() -> None:
    """A relay beyond its bits is a risk of its own, so behind it no payload is taken for wider than 23 bits."""
    program = changed(changed(every_primitive(), "r", bits=10), "r>out", gains=[8191, -8191], weight=np.eye(1, 9))
    validate(program)
    assert program.payload_bits(program.into("out")[0]) == 23
    low, high = current_bounds(program)["out"]
    assert (low.tolist(), high.tolist()) == ([-2 * 8388607], [2 * 8388607])
    assert overflow_risks(program)[0].startswith("r: message can reach")


@pytest.mark.parametrize(
    ("program", "risk"),
    [
        # a = 131071: u = a << 6 = 8388544, v = u + bias; 8388607 is the limit
        (chain(1, 0, 17), None),
        (chain(1, 0, 17, bias=63), None),
        (chain(1, 0, 17, bias=64), "n: membrane can reach -8388480..8388608, limit is +-8388607"),
        (chain(1, 0, 17, bias=-64), "n: membrane can reach -8388608..8388480, limit is +-8388607"),
        (chain(1, 0, 18), "n: current can reach -16777152..16777152, limit is +-8388607"),
        # du = 0 keeps 4095/4096 of u: 65535 << 6 = 4194240, 4193216 of it stay: 8387456; at the third step it overflows
        (chain(1, 0, 16, timesteps=1, du=0), None),
        (chain(1, 0, 16, timesteps=2, du=0, dv=4095), None),
        (chain(1, 0, 16, timesteps=3, du=0, dv=4095), "n: current can reach -12579648..12579648, limit is +-8388607"),
        # dv = 0: the lowest membrane adds up (2 x 4194240 = 8388480), the highest is reset
        (chain(1, 0, 16, timesteps=2, vth=0), None),
        (chain(1, 0, 16, timesteps=2, vth=0, bias=-63), None),
        (chain(1, 0, 16, timesteps=2, vth=0, bias=-64), "n: membrane can reach -8388608..4194176, limit is +-8388607"),
        (
            chain(1, 0, 16, timesteps=2, vth=131071, bias=64),
            "n: membrane can reach -8388352..8388608, limit is +-8388607",
        ),
        (chain(1, 0, 1, bias=4095, bias_exp=7, timesteps=16), None),
        (chain(1, 0, 1, bias=-4096, bias_exp=7, timesteps=16), "n: membrane can reach -8389632.."),
        (relayed(1, 0, 5, 5), None),
        (relayed(2, 0, 5, 5), "n: message can reach -62..62, limit is +-31"),
        (relayed(1, 1, 5, 6), None),
        # the readout sees messages of 22 bits twice: 2 << 22 does not fit 23 bits and a sign
        (changed(relayed(1, 0, 22, 22), "o", exponent=1), None),
        (
            changed(relayed(1, 0, 22, 22), "o", exponent=2),
            "out: current can reach -16777212..16777212, limit is +-8388607",
        ),
    ],
)
def test_risks_from_both_sides_of_the_limit(program: Program, risk: str | None) -> None:
    risks = overflow_risks(program)
    if risk is None:
        assert risks == []
        assert not overflowing(program, range(1))
    else:
        assert risks[0].startswith(risk)
        assert overflowing(program, range(1))  # the bound is reached: it is no mere caution here


def test_conditioning_counts() -> None:
    program = chain(1, 0, 17)
    assert overflow_risks(dataclasses.replace(program, conditioning=Conditioning(2, {"n": [[0], [63]]}))) == []  # type: ignore[dict-item]
    risky = dataclasses.replace(program, conditioning=Conditioning(2, {"n": [[0], [64]]}))  # type: ignore[dict-item]
    assert overflow_risks(risky)[0].startswith("n: membrane can reach -8388544..8388608")
    assert overflowing(risky, range(1, 2))
    assert not overflowing(risky, range(1))


def test_every_risk_is_named() -> None:
    assert overflow_risks(every_primitive()) == []
    program = changed(changed(every_primitive(), "in>a", exponent=15), "r", bits=1)
    names = [risk.split(":")[0] for risk in overflow_risks(program)]
    assert names == ["a", "a", "r"]


def test_bounds_of_absurd_programs_do_not_wrap_around() -> None:
    """Relays multiply; int64 must not bring the bound back into range."""
    populations = tuple(Relay(f"r{i}", (1, 1, 1), 23) for i in range(12))
    ends = ["in", *(p.name for p in populations), "out"]
    weight = np.full((1, 1), -128, dtype=np.int8)
    program = dataclasses.replace(
        chain(1, 0, 23),
        populations=(*populations, Readout("out", (1, 1, 1), np.ones(1), np.ones(1))),
        projections=tuple(Dense(f"{a}>{b}", a, b, weight, 15) for a, b in itertools.pairwise(ends)),
    )
    assert [risk.split(":")[0] for risk in overflow_risks(program)] == ends[1:]
    long = chain(-128, 15, 23, timesteps=1024, du=0)
    current, membrane = overflow_risks(long)
    assert current.startswith(f"n: current can reach {-(2**40)}..{2**40}, ")  # where bounds saturate
    assert membrane.startswith(f"n: membrane can reach {-(2**40)}..1099520016320, ")  # + the largest threshold


@settings(max_examples=200)
@given(st.data())
def test_no_risk_means_no_overflow(data: st.DataObject) -> None:
    """Programs near the limit, with frames that push: a verdict of no risk must never be followed by an overflow."""
    program = data.draw(programs(overflow=True, max_populations=3))
    images = data.draw(frames(program, images=(1,)))
    result = reference.evaluate(program, images[0], 0)
    if result.wraps or result.clips or result.misfits:
        assert overflow_risks(program)
