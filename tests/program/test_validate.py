"""Every rule of the IR from both sides, with the text of its message."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from spikegen.errors import ProgramError
from spikegen.program import Conditioning, Input, Program, Readout, SwishTail, validate
from tests.program.examples import changed, every_primitive


def problems(program: Program) -> list[str]:
    """What ``validate`` reports."""
    try:
        validate(program)
    except ProgramError as error:
        return error.problems
    return []


def weight(*shape: int) -> np.ndarray[Any, np.dtype[np.int8]]:
    return np.ones(shape, dtype=np.int8)


def test_the_example_is_valid() -> None:
    assert problems(every_primitive()) == []


# node or projection, its last good values, its first bad values and what is said about them
LIMITS: list[tuple[str, str, list[Any], list[tuple[Any, str]]]] = [
    (
        "a",
        "vth",
        [0, 131071],
        [(-1, "a: vth is -1, allowed 0..131071"), (131072, "a: vth is 131072, allowed 0..131071")],
    ),
    ("a", "du", [0, 4095], [(-1, "a: du is -1, allowed 0..4095"), (4096, "a: du is 4096, allowed 0..4095")]),
    ("a", "dv", [0, 4095], [(-1, "a: dv is -1, allowed 0..4095"), (4096, "a: dv is 4096, allowed 0..4095")]),
    ("a", "bias_exp", [0, 7], [(-1, "a: bias_exp is -1, allowed 0..7"), (8, "a: bias_exp is 8, allowed 0..7")]),
    (
        "a",
        "delays",
        [np.zeros(0), np.zeros((2, 3, 3)), np.full((2, 3, 3), 1024)],
        [
            (np.full((2, 3, 3), 1025), "a: axonal delay is 1025, allowed 0..1024"),
            (np.full((2, 3, 3), -1), "a: axonal delay is -1, allowed 0..1024"),
            (np.zeros(2), r"a: delays have shape (2,), they must be (2, 3, 3), or none"),
        ],
    ),
    ("in", "bits", [4, 23], [(-1, "in: bits is -1, allowed 0..23"), (24, "in: bits is 24, allowed 0..23")]),
    (
        "in",
        "low",
        [[-15, 15], [0, 0]],
        [
            ([-16, 0], "in: the range is -16..15, 4 bits hold +-15"),
            ([0], "in: low and high must be 2 integers each, one per channel"),
            ([[0, 0]], "in: low and high must be 2 integers each, one per channel"),
        ],
    ),
    (
        "in",
        "high",
        [[-15, 15], [0, 0]],
        [
            ([0, 16], "in: the range is -15..16, 4 bits hold +-15"),
            ([0, 0, 0], "in: low and high must be 2 integers each, one per channel"),
        ],
    ),
    ("in", "streamed", [True], []),
    ("r", "bits", [1, 23], [(0, "r: bits is 0, allowed 1..23"), (24, "r: bits is 24, allowed 1..23")]),
    (
        "in>a",
        "exponent",
        [0, 15],
        [(-1, "in>a: exponent is -1, allowed 0..15"), (16, "in>a: exponent is 16, allowed 0..15")],
    ),
    ("r>out", "exponent", [0, 15], [(16, "r>out: exponent is 16, allowed 0..15")]),
    (
        "r>out",
        "delay",
        [0, 1024],
        [(-1, "r>out: delay is -1, allowed 0..1024"), (1025, "r>out: delay is 1025, allowed 0..1024")],
    ),
    (
        "out",
        "scale",
        [5e-324, 1e308],
        [
            (value, f"out: scale is {value}, it must be positive and finite")
            for value in (0.0, -1.0, math.inf, math.nan)
        ],
    ),
    ("in", "scale", [1.0], [(0.0, "in: scale is 0.0, it must be positive and finite")]),
    (
        "a",
        "bias_mant",
        [[-4092, 4092]],  # with the conditioning 3 and -4 of the example: -4096 and 4095
        [
            ([0], "a: bias_mant must be 2 mantissas, one per channel"),
            ([[0, 0]], "a: bias_mant must be 2 mantissas, one per channel"),
        ],
    ),
    (
        "out",
        "weights",
        [[0.0, -1.0]],
        [
            (value, "out: weights must be 2 finite numbers, one per timestep")
            for value in ([1.0], [1.0, math.inf], [1.0, math.nan], [[1.0, 1.0]])
        ],
    ),
    (
        "out",
        "bias",
        [[-1e9], [[0.0], [1.0]]],
        [
            (value, "out: bias must be (2, 1) finite numbers, one per timestep and channel")
            for value in ([], [math.nan], [1.0, 1.0], [[0.0]], [[0.0], [math.inf]], [[0.0, 1.0]], [[[0.0]], [[1.0]]])
        ],
    ),
    (
        "in>r",  # messages of 4 bits
        "gains",
        [[], [0, 0], [1, -1], [559240, -559240]],
        [
            ([1], "in>r: gains must be 2 integers, one per timestep, or none"),
            ([[1, 1]], "in>r: gains must be 2 integers, one per timestep, or none"),
            (np.zeros((0, 2)), "in>r: gains must be 2 integers, one per timestep, or none"),
            (
                [0, -559241],
                (
                    "in>r: messages of 4 bits times gains up to 559241 need 24 bits, a payload has 23; "
                    "use smaller gains and larger weights, or fewer bits"
                ),
            ),
            ([1 << 23, 0], "in>r: the gains reach a magnitude of 8388608, limit is 8388607"),
            ([-(1 << 31), 0], "in>r: the gains reach a magnitude of 2147483648, limit is 8388607"),
        ],
    ),
    (
        "a>r",  # binary spikes
        "gains",
        [[0, 0], [8388607, -8388607]],
        [([0, 8388608], "a>r: the gains reach a magnitude of 8388608, limit is 8388607")],
    ),
    (
        "r>out",  # messages of 23 bits
        "gains",
        [[0, 0], [1, -1]],
        [
            (
                [0, 2],
                (
                    "r>out: messages of 23 bits times gains up to 2 need 24 bits, a payload has 23; "
                    "use smaller gains and larger weights, or fewer bits"
                ),
            )
        ],
    ),
    (
        "in>a",
        "stride",
        [(1, 1)],
        [((0, 1), "in>a: stride is 0, allowed 1..4096"), ((1, 4097), "in>a: stride is 4097, allowed 1..4096")],
    ),
    (
        "in>a",
        "padding",
        [(1, 1)],
        [
            ((-1, 1), "in>a: padding is -1, allowed 0..4096"),
            ((1, 10**12), "in>a: padding is 1000000000000, allowed 0..4096"),
        ],
    ),
    ("in>a", "dilation", [(1, 1)], [((1, 0), "in>a: dilation is 0, allowed 1..4096")]),
    (
        "in>a",
        "groups",
        [2],
        [
            (0, "in>a: groups is 0, allowed 1..4096"),
            (1, "in>a: weight (2, 1, 3, 3) with 1 groups and shuffle 1 does not fit 2 source channels"),
        ],
    ),
    (
        "a>y",
        "shuffle",
        [2],
        [
            (0, "a>y: shuffle is 0, allowed 1..4096"),
            (3, "a>y: weight (4, 2, 1, 1) with 1 groups and shuffle 3 does not fit 2 source channels"),
            (1, "a>y: delivers (4, 3, 3), y is (1, 6, 6)"),
        ],
    ),
    (
        "a>r",
        "weight",
        [weight(1, 2, 2, 1)],
        [
            (weight(2, 2, 1), "a>r: weight shape is (2, 2, 1), it must be (out, in / groups, height, width)"),
            (weight(1, 2, 0, 1), "a>r: weight shape is (1, 2, 0, 1), it must be (out, in / groups, height, width)"),
            (weight(1, 3, 2, 1), "a>r: weight (1, 3, 2, 1) with 1 groups and shuffle 1 does not fit 2 source channels"),
            (weight(1, 2, 3, 1), "a>r: delivers (1, 1, 3), r is (1, 3, 3)"),
            (weight(1, 2, 9, 1), "a>r: delivers (1, -11, 3), r is (1, 3, 3)"),
        ],
    ),
    (
        "r>out",
        "weight",
        [weight(1, 9)],
        [
            (weight(1, 8), "r>out: weight shape is (1, 8), it must be (1, 9)"),
            (weight(9), "r>out: weight shape is (9,), it must be (1, 9)"),
        ],
    ),
    ("in>r", "delay", [1], [(0, "r: its inputs arrive at different levels [1, 2]; run retime")]),
]
GOOD = [(name, field, value) for name, field, good, _ in LIMITS for value in good]
BAD = [(name, field, value, message) for name, field, _, bad in LIMITS for value, message in bad]


@pytest.mark.parametrize(("name", "field", "value"), GOOD)
def test_values_within_their_limits_are_accepted(name: str, field: str, value: Any) -> None:
    assert problems(changed(every_primitive(), name, **{field: value})) == []


@pytest.mark.parametrize(("name", "field", "value", "message"), BAD)
def test_values_outside_their_limits_are_named(name: str, field: str, value: Any, message: str) -> None:
    assert problems(changed(every_primitive(), name, **{field: value})) == [message]


def test_a_range_goes_up() -> None:
    program = changed(every_primitive(), "in", low=[0, 6], high=[0, 5])
    assert problems(program) == ["in: the range of channel 1 is 6..5, low must not be above high"]


@pytest.mark.parametrize(("low", "high"), [([0, 0], [1, 0]), ([0, 1], [1, 1]), ([-1, 0], [1, 1]), ([0, 0], [1, 2])])
def test_binary_inputs_have_no_other_range(low: list[int], high: list[int]) -> None:
    port = Input("in", (2, 3, 3), 0, 1.0, streamed=True)
    assert problems(dataclasses.replace(every_primitive(), input=port)) == []
    port = dataclasses.replace(port, low=np.array(low), high=np.array(high))
    found = f"{min(low)}..{max(high)}"
    message = f"in: the range is {found}, binary spikes are 0..1 in every channel"
    assert problems(dataclasses.replace(every_primitive(), input=port)) == [message]


@pytest.mark.parametrize("macs", [-1, 2**53 + 1])
def test_multiply_accumulates_of_the_ann(macs: int) -> None:
    assert problems(dataclasses.replace(every_primitive(), ann_macs=2**53)) == []
    program = dataclasses.replace(every_primitive(), ann_macs=macs)
    assert problems(program) == [f"program: ann_macs is {macs}, allowed 0..9007199254740992"]


@pytest.mark.parametrize(
    ("mantissas", "bad"), [([-4096, 4095], []), ([-4097, 0], [-4097]), ([-9999, 4096], [-9999, 4096])]
)
def test_bias_mantissas(mantissas: list[int], bad: list[int]) -> None:
    program = dataclasses.replace(changed(every_primitive(), "a", bias_mant=mantissas), conditioning=Conditioning(1))
    assert problems(program) == [f"a: bias mantissa is {value}, allowed -4096..4095" for value in bad]


@pytest.mark.parametrize(("steps", "good"), [(0, False), (1, True), (1024, True), (1025, False)])
def test_timesteps(steps: int, good: bool) -> None:
    program = dataclasses.replace(every_primitive(), timesteps=steps)
    for readout in program.readouts():
        program = changed(program, readout.name, weights=np.ones(steps), bias=np.zeros(readout.shape[0]))
    assert problems(program) == ([] if good else [f"program: timesteps is {steps}, allowed 1..1024"])


@pytest.mark.parametrize("name", ["", "n" * 121, "a b", "ä", "a/b", "a\n"])
def test_names(name: str) -> None:
    message = f"{name!r}: a name has 1 to 120 of the characters A-Z a-z 0-9 _ . : > [ ] -"
    assert problems(changed(every_primitive(), "a>y", name=name)) == [message]
    assert problems(dataclasses.replace(every_primitive(), name=name)) == [message]
    assert problems(changed(every_primitive(), "a>y", name="A-z_0.9:>[]")) == []
    assert problems(changed(every_primitive(), "a>y", name="n" * 120)) == []


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 0), (-2, 3, 3), (1 << 13, 1 << 13, 2), ()])
def test_shapes(shape: tuple[int, ...]) -> None:
    message = f"in: shape is {shape}, it must be (channels, height, width), at most 67108864 neurons"
    assert problems(changed(every_primitive(), "in", shape=shape)) == [message]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("a>y", {"source": "b"}, "a>y: there is no population b"),
        ("in>r", {"source": "b", "target": "c"}, "in>r: there is no population b, c"),
        ("in>r", {"source": "r"}, "in>r: r does not come before r (a cycle)"),
        ("in>r", {"source": "out"}, "in>r: out does not come before r (a cycle)"),
        ("in>r", {"target": "in"}, "in>r: in is the input, nothing leads into it"),
        ("in>r", {"name": "a>r"}, "a>r: two projections have this name"),
        ("r>out", {"source": "in", "target": "y"}, "out: no projection leads into it; only a Lif can do without"),
    ],
)
def test_graph_rules(name: str, changes: dict[str, str], message: str) -> None:
    assert problems(changed(every_primitive(), name, **changes)) == [message]


def test_populations_need_names_of_their_own() -> None:
    program = changed(every_primitive(), "y", name="out")
    assert "out: two populations have this name" in problems(program)
    assert "in: two populations have this name" in problems(changed(every_primitive(), "y", name="in"))


def test_there_is_a_readout() -> None:
    program = every_primitive()
    kept = tuple(p for p in program.populations if not isinstance(p, Readout))
    projections = tuple(p for p in program.projections if p.target not in {"out", "y"})
    program = dataclasses.replace(program, populations=kept, projections=projections)
    assert problems(program) == ["program: it has no readout"]
    assert problems(dataclasses.replace(program, populations=(), projections=())) == ["program: it has no readout"]


def test_a_readout_ends_the_path() -> None:
    program = changed(every_primitive(), "a>y", source="out", weight=weight(36, 1, 1, 1), shuffle=6)
    assert problems(program) == ["out: a readout has no outgoing projection"]


def test_a_relay_has_an_input_and_a_lif_may_have_none() -> None:
    program = every_primitive()
    clock = dataclasses.replace(program.populations[0], name="clock")
    assert problems(dataclasses.replace(program, populations=(clock, *program.populations))) == []
    relay = dataclasses.replace(program.populations[1], name="alone")
    message = "alone: no projection leads into it; only a Lif can do without"
    assert problems(dataclasses.replace(program, populations=(relay, *program.populations))) == [message]


def test_a_gain_on_messages_of_undefined_bits() -> None:
    """The node is named; nothing is computed from its bits."""
    program = changed(changed(every_primitive(), "in>r", gains=[1, 1]), "in", bits=10**9)
    assert problems(program) == ["in: bits is 1000000000, allowed 0..23"]


def tail(**changes: Any) -> SwishTail:
    """What fits the readout ``y`` of 1 channel, with 2 output channels, changed."""
    fields: dict[str, Any] = {
        "norm_scale": np.ones(1),
        "norm_shift": np.zeros(1),
        "weight": np.ones((2, 1, 3, 31)),
        "bias": np.zeros(2),
        "gains": np.ones(2),
        "mix_weight": np.ones((2, 2, 1, 5)),
        "mix_bias": np.zeros(2),
    }
    return SwishTail(**fields | changes)


SIZES = "height, width) with odd height and width up to 31"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        ({"norm_scale": np.ones(2)}, "norm_scale has shape (2,), it must be (1,)"),
        ({"norm_shift": np.ones((1, 1))}, "norm_shift has shape (1, 1), it must be (1,)"),
        ({"weight": np.ones((2, 2, 3, 3))}, f"weight has shape (2, 2, 3, 3), it must be (2, 1, {SIZES}"),
        ({"weight": np.ones((3, 1, 3, 3))}, f"weight has shape (3, 1, 3, 3), it must be (2, 1, {SIZES}"),
        ({"weight": np.ones((2, 1, 2, 3))}, f"weight has shape (2, 1, 2, 3), it must be (2, 1, {SIZES}"),
        ({"weight": np.ones((2, 1, 3, 0))}, f"weight has shape (2, 1, 3, 0), it must be (2, 1, {SIZES}"),
        ({"weight": np.ones((2, 1, 33, 1))}, f"weight has shape (2, 1, 33, 1), it must be (2, 1, {SIZES}"),
        ({"weight": np.ones((2, 1))}, f"weight has shape (2, 1), it must be (2, 1, {SIZES}"),
        ({"mix_weight": np.ones((2, 1, 1, 1))}, f"mix_weight has shape (2, 1, 1, 1), it must be (2, 2, {SIZES}"),
        ({"gains": np.ones(3)}, "gains has shape (3,), it must be (2,)"),
        ({"gains": np.ones(0)}, "gains has shape (0,), it must be (2,)"),
        ({"mix_bias": np.ones(1)}, "mix_bias has shape (1,), it must be (2,)"),
        (
            {"bias": np.zeros(0)},
            (
                "bias has shape (0,), it must be one number for each of at least 1 output channels, "
                "at most 67108864 outputs"
            ),
        ),
        (
            {"bias": np.zeros((2, 1))},
            (
                "bias has shape (2, 1), it must be one number for each of at least 1 output channels, "
                "at most 67108864 outputs"
            ),
        ),
        (
            {"bias": np.zeros(67108864 // 36 + 1)},
            (
                "bias has shape (1864136,), it must be one number for each of at least 1 output channels, "
                "at most 67108864 outputs"
            ),
        ),
        *(
            (
                {field.name: np.full_like(getattr(tail(), field.name), value)},
                f"{field.name} holds numbers that are not finite",
            )
            for field in dataclasses.fields(SwishTail)
            for value in (math.nan, -math.inf)
        ),
    ],
)
def test_tails(changes: dict[str, Any], message: str | None) -> None:
    found = problems(changed(every_primitive(), "y", tail=tail(**changes)))
    assert found == ([] if message is None else [f"y: tail: {message}"])


@pytest.mark.parametrize(
    ("steps", "tables", "message"),
    [
        (0, {}, "conditioning: steps is 0, allowed 1..65536"),
        (65537, {}, "conditioning: steps is 65537, allowed 1..65536"),
        (0, {"a": np.zeros((0, 2))}, "conditioning: steps is 0, allowed 1..65536"),
        (2, {"r": np.zeros((2, 1))}, "conditioning: r is not a Lif population"),
        (2, {"z": np.zeros((2, 1))}, "conditioning: z is not a Lif population"),
        (2, {"a": np.zeros((3, 2))}, "conditioning: a has (3, 2), it must be (2, 2)"),
        (2, {"a": np.zeros((2, 1))}, "conditioning: a has (2, 1), it must be (2, 2)"),
        # the bias mantissas of a are -5 and 7
        (1, {"a": [[-4092, 0]]}, "conditioning of a: bias mantissa is -4097, allowed -4096..4095"),
        (1, {"a": [[0, 4089]]}, "conditioning of a: bias mantissa is 4096, allowed -4096..4095"),
    ],
)
def test_conditioning(steps: int, tables: dict[str, Any], message: str) -> None:
    program = dataclasses.replace(every_primitive(), conditioning=Conditioning(steps, tables))
    assert problems(program) == [message]


def test_conditioning_at_its_limits() -> None:
    for steps, tables in ((1, {}), (65536, {}), (2, {"a": np.array([[-4091, 4088], [0, 0]], dtype=np.int16)})):
        assert problems(dataclasses.replace(every_primitive(), conditioning=Conditioning(steps, tables))) == []


def test_all_violations_are_reported_at_once() -> None:
    program = changed(every_primitive(), "a", vth=-1, du=5000, bias_mant=[0, 0, 0])
    program = changed(changed(program, "in>r", exponent=16, delay=-1), "out", scale=0.0)
    with pytest.raises(ProgramError) as caught:
        validate(program)
    assert caught.value.problems == [
        "a: vth is -1, allowed 0..131071",
        "a: du is 5000, allowed 0..4095",
        "a: bias_mant must be 2 mantissas, one per channel",
        "r: its inputs arrive at different levels [0, 2]; run retime",
        "out: scale is 0.0, it must be positive and finite",
        "in>r: exponent is 16, allowed 0..15",
        "in>r: delay is -1, allowed 0..1024",
    ]
    assert str(caught.value) == "\n  - ".join(["these rules are broken:", *caught.value.problems])


def test_all_graph_violations_are_reported_at_once() -> None:
    program = changed(changed(every_primitive(), "a>y", source="b"), "in>r", target="c")
    program = dataclasses.replace(changed(program, "r>out", name=" "), timesteps=0)
    assert problems(program) == [
        "program: timesteps is 0, allowed 1..1024",
        "' ': a name has 1 to 120 of the characters A-Z a-z 0-9 _ . : > [ ] -",
        "in>r: there is no population c",
        "a>y: there is no population b",
    ]


def test_one_violation_is_its_own_message() -> None:
    with pytest.raises(ProgramError, match=r"^a: vth is -1, allowed 0\.\.131071$"):
        validate(changed(every_primitive(), "a", vth=-1))
