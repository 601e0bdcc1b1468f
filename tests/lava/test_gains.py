"""Gains and clocks on real Lava processes: the gain of the right timestep at every level, shared where it can be."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from spikegen.exporters.lava import LavaTarget
from spikegen.lowering.retime import retime
from spikegen.program import (
    Conv,
    Dense,
    Input,
    Lif,
    Population,
    Program,
    Projection,
    Readout,
    Relay,
    SwishTail,
    overflow_risks,
    validate,
)
from spikegen.simulator import Simulator
from tests.lava.networks import FORMS, assert_equal, frames

IMAGES = 3  # per run
CASES = ((1, "sparse"), (1, "fused"), *((3, form) for form in FORMS), (4, "conv"), (4, "fast-conv"))

pytestmark = pytest.mark.lava

# No two neighbours are equal: no shift in time goes unnoticed.
GAINS = ((3, -1, 2, -2), (2, -3, 0, 1), (1, 2, -1, 3), (-2, 3, 1, -1), (4, 1, -2, 2), (-1, 2, 0, 3))


def network(timesteps: int) -> Program:
    """Gains on spikes, a clock, a relay and a graded input of either sign, some of them behind delays, and a host tail.

    Levels: ``clock`` and ``in`` 0, ``a`` 1, ``relay`` and ``early`` 2, ``b`` 3, ``c`` 4, ``out`` 5.
    """
    rng = np.random.default_rng(11)

    def conv(name: str, out: int, channels: int, gains: npt.NDArray[np.int32], reach: int = 40) -> Conv:
        source, target = name.split(".", maxsplit=1)[0].split(">")
        weight = rng.integers(-reach, reach, (out, channels, 1, 2)).astype(np.int8)
        return Conv(name, source, target, weight, 1, padding=(0, 1), dilation=(1, 2), gains=gains)

    of_input, first, second, third, of_clock, last = (np.array(row[:timesteps], dtype=np.int32) for row in GAINS)
    none = np.empty(0, np.int32)
    one, two = np.ones(1), np.ones(2)
    tail = SwishTail(two, two, np.ones((1, 2, 3, 3)), one, np.ones(timesteps), np.ones((1, 1, 1, 1)), one)
    populations = (
        Lif("clock", (2, 2, 3), 90, 4095, 0, np.array([2500, 4000], dtype=np.int16), 1),
        Lif("a", (3, 2, 3), 150, 4095, 0, np.array([90, -30, 50], dtype=np.int16), 6),
        Relay("relay", (2, 2, 3), 13),
        Readout("early", (1, 2, 3), np.ones(timesteps), rng.normal(size=(timesteps, 1))),
        Lif("b", (2, 2, 3), 1500, 3000, 2500, np.array([0, 60], dtype=np.int16), 6),
        Lif("c", (2, 2, 3), 40, 4095, 0, np.array([10, 60], dtype=np.int16), 5),
        Readout("out", (2, 2, 3), np.ones(timesteps), np.zeros(2), tail=tail),
    )
    dense = rng.integers(-40, 40, (12, 18)).astype(np.int8)
    projections = (
        conv("in>a", 3, 1, of_input),
        conv("in>a.plain", 3, 1, none),
        conv("a>relay", 2, 3, first),
        conv("a>relay.other", 2, 3, second),
        conv("clock>relay", 2, 2, none),
        conv("a>early", 1, 3, first.copy()),  # equal, not identical
        conv("relay>b", 2, 2, third, reach=3),
        Dense("a>b", "a", "b", dense, 0, gains=first),
        conv("clock>b", 2, 2, of_clock),
        conv("in>b", 2, 1, of_input),
        conv("b>c", 2, 2, none),
        conv("a>c", 2, 3, first),
        conv("c>out", 2, 2, last),
        conv("a>out", 2, 3, none),
        conv("a>out.gained", 2, 3, first),
        Dense("a>out.dense", "a", "out", dense, 2, gains=first),
        conv("in>out", 2, 1, of_clock),
    )
    program = retime(Program("gains", timesteps, Input("in", (1, 2, 3), 3, 1 / 8), populations, projections))
    validate(program)
    assert overflow_risks(program) == []
    assert list(program.levels.values()) == [0, 0, 1, 2, 2, 3, 4, 5]
    return program


@pytest.fixture(scope="module", params=CASES, ids=str)
def target(request: pytest.FixtureRequest) -> Iterator[LavaTarget]:
    timesteps, form = request.param
    with LavaTarget(network(timesteps), images=IMAGES, timeout=60, **FORMS[form]) as built:
        yield built


def test_runs_in_a_row_equal_the_simulator(target: LavaTarget) -> None:
    """Full runs, runs that are not, several in one evaluation: the phase of the gains stays right."""
    simulator = Simulator(target.program)
    for index, images in enumerate((IMAGES, 1, 2 * IMAGES - 1, IMAGES)):
        sent = frames(target.program, images, seed=index)
        assert_equal(target.evaluate(sent, 0, record=True), simulator.evaluate(sent, 0, record=True))


def test_a_shift_of_any_gains_would_be_seen(target: LavaTarget) -> None:
    """Equality shows something only if every node is lively and every gain matters."""
    program = target.program
    sent = frames(program, 16)
    found = Simulator(program).evaluate(sent, 0, record=True)
    for name, messages in found.messages.items():
        assert np.count_nonzero(messages) / messages.size > 0.02, name
    if program.timesteps == 1:
        return
    for index, projection in enumerate(program.projections):
        if projection.gains.size:
            shifted = dataclasses.replace(projection, gains=np.roll(projection.gains, 1))
            projections = (*program.projections[:index], shifted, *program.projections[index + 1 :])
            other = Simulator(dataclasses.replace(program, projections=projections)).evaluate(sent, 0)
            assert any((values != found.readouts[name]).any() for name, values in other.readouts.items())


def test_projections_share_gains_and_delays(target: LavaTarget) -> None:
    if target.program.timesteps == 1 or next(iter(target.supervisor.processes)) == "network":  # fused
        return
    names = list(target.supervisor.processes)
    assert [name for name in names if name.startswith("gain ")] == [
        "gain in for in>a",
        "gain a for a>relay",
        "gain a for a>relay.other",
        "gain relay for relay>b",
        "gain clock for clock>b",
        "gain c for c>out",
        "gain in for in>out",
    ]
    assert [name for name in names if name.startswith("delay ")] == [
        "delay clock by 1 for clock>relay",
        "delay a by 1 for a>b",
        "delay clock by 2 for clock>b",
        "delay in by 2 for in>b",
        "delay a by 2 for a>c",
        "delay a by 3 for a>out",
        "delay a by 3 for a>out.gained",
        "delay in by 4 for in>out",
    ]


@pytest.mark.parametrize("form", FORMS)
def test_payloads_of_the_full_width_by_hand(form: str) -> None:
    """A chain of relays with a readout at every level, the same gains at each, and a clock; what comes is known."""
    levels, highest = 4, (1 << 12) - 1
    factors = np.array([2048, -2048, 0, 1, -1], dtype=np.int32)
    one = np.ones((1, 1, 1, 1), dtype=np.int8)
    chain = ["in", *(f"r{level}" for level in range(1, levels))]
    senders = [*chain, "clock"]
    populations: tuple[Population, ...] = (
        Lif("clock", (1, 1, 1), 5, 4095, 0, np.array([3], dtype=np.int16), 6),
        *(Relay(name, (1, 1, 1), 12) for name in chain[1:]),
        *(Readout(f"{form}.{name}", (1, 1, 1), np.ones(5), np.zeros(1)) for name in senders for form in ("c", "d")),
    )
    projections: tuple[Projection, ...] = (
        *(Conv(f"{a}>{b}", a, b, one, 0) for a, b in pairwise(chain)),
        *(Conv(f"{name}>c", name, f"c.{name}", one, 0, gains=factors) for name in senders),
        *(Dense(f"{name}>d", name, f"d.{name}", -one[0, 0], 0, gains=factors) for name in senders),
    )
    program = retime(Program("chain", 5, Input("in", (1, 1, 1), 12, 1.0), populations, projections))
    validate(program)
    assert overflow_risks(program) == []
    sent = np.array([highest, -highest, 7, -1, 0], dtype=np.int32)
    with LavaTarget(program, images=2, timeout=60, **FORMS[form]) as built:
        readouts = built.evaluate(sent.reshape(-1, 1, 1, 1), 0).readouts
    for name in chain:
        np.testing.assert_array_equal(readouts[f"c.{name}"].reshape(5, 5), sent[:, None] * factors)
        np.testing.assert_array_equal(readouts[f"d.{name}"].reshape(5, 5), -sent[:, None] * factors)
    clock = np.array([0, 1, 0, 1, 0])  # 3, 6 > 5, 3, 6 > 5, 3: the same for every image
    np.testing.assert_array_equal(readouts["c.clock"].reshape(5, 5), np.tile(clock * factors, (5, 1)))
    np.testing.assert_array_equal(readouts["d.clock"].reshape(5, 5), np.tile(-clock * factors, (5, 1)))
