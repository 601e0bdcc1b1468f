"""Both models, in every form, on real Lava processes equal the simulator: every message, readout and count."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from spikegen.errors import ConfigError
from spikegen.exporters.lava import LavaTarget
from spikegen.lowering.retime import retime
from spikegen.program import Conv, Dense, Input, Lif, Program, Readout, Relay, overflow_risks, validate
from spikegen.simulator import Simulator
from tests.lava.networks import FORMS, assert_equal, everything, frames

IMAGES = 3  # per run

CASES = (
    *((timesteps, "fused") for timesteps in (1, 2, 4, 8)),
    *((4, form) for form in FORMS if form != "fused"),
    *((1, "conv"), (2, "fast-conv"), (8, "sparse")),
)

pytestmark = pytest.mark.lava


@pytest.fixture(scope="module", params=CASES, ids=str)
def target(request: pytest.FixtureRequest) -> Iterator[LavaTarget]:
    timesteps, form = request.param
    with LavaTarget(everything(timesteps), images=IMAGES, timeout=60, **FORMS[form]) as built:
        yield built


def test_evaluations_in_a_row_equal_the_simulator(target: LavaTarget) -> None:
    """Steps change, repeat and come back; runs are full, not full, and several; nothing of one leaks into the next."""
    simulator = Simulator(target.program)
    for index, (step, images) in enumerate(((1, IMAGES), (1, 1), (2, 2 * IMAGES - 1), (0, 2), (1, IMAGES))):
        images_of_run = frames(target.program, images, seed=index)
        record = index != 1
        assert_equal(
            target.evaluate(images_of_run, step, record=record), simulator.evaluate(images_of_run, step, record=record)
        )


PORTS = {
    "binary stream": Input("in", (2, 6, 4), 0, 1.0, streamed=True),
    "graded stream": Input("in", (2, 6, 4), 5, 1 / 32, np.array([0, -31]), np.array([20, 3]), streamed=True),
    "binary": Input("in", (2, 6, 4), 0, 1.0),
}


def input_everywhere(port: Input) -> Program:
    """The input into a node of every type and level, by convolution and matrix, with gains and behind delays."""
    rng = np.random.default_rng(8)

    def weight(*shape: int, reach: int) -> npt.NDArray[np.int8]:
        return rng.integers(-reach, reach + 1, shape).astype(np.int8)

    gains = np.array([2, -1, 3, 1], dtype=np.int32)
    bias = rng.integers(-100, 100, 4).astype(np.int16)
    populations = (
        Lif("a", (4, 6, 4), 300 if port.bits else 100, 3000, 500, bias, 6),
        Relay("relay", (4, 6, 4), 13),
        Lif("deep", (4, 6, 4), 1500 if port.bits else 200, 4095, 0, bias, 7),
        Readout("out", (2, 6, 4), np.ones(4), np.zeros(2)),
    )
    projections = (
        Conv("in>a", "in", "a", weight(4, 2, 3, 3, reach=12), 3, padding=(1, 1)),
        Conv("in>relay", "in", "relay", weight(4, 2, 1, 1, reach=8), 1, gains=gains),
        Conv("a>relay", "a", "relay", weight(4, 4, 1, 1, reach=40), 0),
        Conv("relay>deep", "relay", "deep", weight(4, 4, 1, 1, reach=3), 0),
        Conv("in>deep", "in", "deep", weight(4, 1, 1, 3, reach=8), 2, padding=(0, 1), groups=2),
        Dense("in>deep.dense", "in", "deep", weight(96, 48, reach=3), 3),
        Conv("deep>out", "deep", "out", weight(2, 4, 3, 3, reach=127), 0, padding=(1, 1)),
        Conv("in>out", "in", "out", weight(2, 2, 1, 2, reach=20), 0, padding=(0, 1), dilation=(1, 2)),
    )
    program = retime(Program("input-everywhere", 4, port, populations, projections))
    validate(program)
    assert overflow_risks(program) == []
    return program


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", list(PORTS))
def test_every_kind_of_input_equals_the_simulator(kind: str, form: str) -> None:
    """Several runs; a stream of a run that is not full is followed by silence."""
    program = input_everywhere(PORTS[kind])
    simulator = Simulator(program)
    with LavaTarget(program, images=IMAGES, timeout=60, **FORMS[form]) as built:
        for index, images in enumerate((IMAGES, 1, 2 * IMAGES - 1)):
            sent = frames(program, images, seed=index)
            expected = simulator.evaluate(sent, 0, record=True)
            assert_equal(built.evaluate(sent, 0, record=True), expected)
        with pytest.raises(ConfigError, match=r"^frames hold 32 in channel 0 of in, which takes 0\.\."):
            built.evaluate(np.full_like(sent, 32), 0)
    lively = {name: np.count_nonzero(messages) / messages.size for name, messages in expected.messages.items()}
    assert min(lively.values()) > 0.05, lively
    assert max(lively["a"], lively["deep"]) < 0.95, lively
    if PORTS[kind].streamed:
        assert (expected.messages["in"][:, 1:] != expected.messages["in"][:, :-1]).any()


def test_the_network_is_lively(target: LavaTarget) -> None:
    """Equality of silence would show nothing: every node sends messages, and not at all times."""
    found = Simulator(target.program).evaluate(frames(target.program, 8), 1, record=True)
    if target.program.timesteps > 1:
        assert all(np.count_nonzero(sent) / sent.size > 0.01 for sent in found.messages.values())
        assert all(found.messages[name].mean() < 0.99 for name in ("a", "down", "leaky", "mixed", "flat"))


def test_refuses_frames_that_do_not_fit_and_goes_on(target: LavaTarget) -> None:
    good = frames(target.program, 1)
    for bad in (good[:, :1], good.astype(np.int64), np.full_like(good, 32)):
        with pytest.raises(ConfigError):
            target.evaluate(bad, 0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        target.evaluate(good, 3)
    assert_equal(target.evaluate(good, 0), Simulator(target.program).evaluate(good, 0))


@pytest.mark.parametrize(
    "arguments",
    [
        {"images": 0},
        {"model": "folded"},
        {"model": "unrolled", "synapses": "fast"},
        {"synapses": "conv"},
        {"timeout": 0.0},
        {"timeout": float("nan")},
    ],
)
def test_refuses_arguments_out_of_range(arguments: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        LavaTarget(everything(1), **arguments)  # type: ignore[arg-type]
