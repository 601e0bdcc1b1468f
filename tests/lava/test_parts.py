"""The parts that need no Lava: schedule, packing, synapse matrices, messages, and that no Lava is imported."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from spikegen.exporters.lava.exchange import Exchange, evaluation
from spikegen.exporters.lava.schedule import Schedule
from spikegen.exporters.lava.synapses import conv_weight, flat_order, sparse_weight
from spikegen.exporters.lava.tapping import POINTS_MAX, tap_plans
from spikegen.exporters.lava.wire import decode, encode, receive
from spikegen.exporters.lava.worker import culprit
from spikegen.program import Conv, Dense, Lif
from spikegen.simulator.currents import projection_currents
from tests.lava.networks import everything, frames


@given(st.integers(1, 16), st.integers(1, 9), st.integers(0, 40))
def test_a_run_is_the_fewest_whole_windows_that_hold_every_level(timesteps: int, images: int, depth: int) -> None:
    schedule = Schedule(timesteps, images, depth)
    assert schedule.period % timesteps == 0
    assert schedule.window + depth <= schedule.period < schedule.window + depth + timesteps
    for level in range(depth + 1):
        for image in range(images):  # first step of an image at this level, in the second run
            assert (schedule.period + image * timesteps + 1 + level) % timesteps == schedule.reset_offset(level)


def test_a_node_handles_the_images_of_a_run_one_after_the_other() -> None:
    schedule = Schedule(timesteps=2, images=3, depth=4)
    for run in range(3):
        first = run * schedule.period + 1
        places = [schedule.place(time, 3) for time in range(first + 3, first + 3 + schedule.window)]
        assert places == [(image, timestep) for image in range(3) for timestep in range(2)]
        assert all(schedule.place(time, 3)[0] < 0 for time in range(first, first + 3))
        assert [schedule.step(time) for time in (first, first + schedule.period - 1)] == [0, schedule.period - 1]
        assert all(schedule.place(time, 3)[0] >= 3 for time in range(first + 9, first + schedule.period))


def test_a_fused_run_takes_t_steps() -> None:
    program = everything(4)
    assert Schedule.fused(program).period == 4
    assert Schedule.unrolled(program, 3).period == 4 * -(-(3 * 4 + program.depth) // 4)


def test_an_exchange_is_shared_with_forks_and_keeps_what_the_run_is_about() -> None:
    """The child stands for the processes of a network: it writes messages, readouts and totals."""
    program = everything(2)
    exchange = Exchange.of(program, 3)
    sent = frames(program, 2)
    exchange.post(sent, 1, record=True)
    child = os.fork()
    if child == 0:  # leave with _exit: the rest of pytest is the parent's
        seen = np.array_equal(exchange.frames[: exchange.images], sent) and (exchange.step, exchange.record) == (
            1,
            True,
        )
        for values in (exchange.messages, exchange.readouts, exchange.totals):
            for index, array in enumerate(values.values()):
                array[:2] = index + 1
        os._exit(0 if seen else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    a = program.nodes["a"]
    assert isinstance(a, Lif)
    assert exchange.biases["a"].tolist() == program.bias_mant(a, 1).tolist() != program.bias_mant(a, 0).tolist()
    found = evaluation(program, 2, exchange.results())
    assert list(found.messages) == [name for name in program.nodes if name not in ("early", "late")]
    for values in (found.messages, found.readouts):
        for index, (name, array) in enumerate(values.items()):
            np.testing.assert_array_equal(array, np.full((2, 2, *program.nodes[name].shape), index + 1, dtype=np.int32))
    assert list(found.counts.events.values()) == list(range(1, len(found.messages) + 1))
    exchange.post(sent[:1], 0, record=False)
    assert not any(name.startswith("messages") for name in exchange.results())


def test_sparse_matrices_are_the_projections() -> None:
    """Against the simulator's currents, for every projection of the Program that has everything."""
    program = everything(2)
    rng = np.random.default_rng(0)
    for projection in program.projections:
        source, target = program.nodes[projection.source], program.nodes[projection.target]
        message = rng.integers(-50, 50, (1, *source.shape)).astype(np.int32)
        doubled = sparse_weight(projection, source, target) @ message.ravel()[flat_order(source.shape)]
        currents = projection_currents(projection, message).ravel()[flat_order(target.shape)]
        np.testing.assert_array_equal((doubled << projection.exponent) >> 1, currents, err_msg=projection.name)


def test_no_zero_weight_is_stored() -> None:
    program = everything(2)
    for projection in program.projections:
        matrix = sparse_weight(projection, program.nodes[projection.source], program.nodes[projection.target])
        assert np.count_nonzero(matrix.data) == matrix.nnz
        assert projection.weight.any() or matrix.nnz == 0


def test_conv_weight_has_the_exponent_and_the_order_of_lava() -> None:
    projection = next(p for p in everything(1).projections if isinstance(p, Conv) and p.weight.shape[2:] == (3, 2))
    weight = conv_weight(projection)
    out, inputs, height, width = projection.weight.shape
    assert weight.shape == (out, width, height, inputs)
    assert weight[1, 0, 0, 2] == int(projection.weight[1, 2, height - 1, width - 1]) << projection.exponent


def test_taps_cover_every_sender_once() -> None:
    program = everything(4)
    plans = tap_plans(program, Schedule.unrolled(program, 3))
    watched = [point.node for plan in plans for point in plan]
    assert watched == [name for name in program.nodes if name not in ("early", "late")]
    assert all(len(plan) <= POINTS_MAX for plan in plans)
    assert {type(p) for p in program.projections} == {Conv, Dense}


def test_messages_survive_the_wire_and_pickle_does_not() -> None:
    frames = np.arange(6, dtype=np.int32).reshape(1, 2, 3)
    near, far = socket.socketpair()
    with near, far:
        near.sendall(encode("run", {"frames": frames, "step": 3, "record": True, "names": ["a", "b"]}))
        message = receive(far)
        with pytest.raises(TimeoutError):
            receive(far, time.monotonic() + 0.05)
        near.close()
        with pytest.raises(EOFError):
            receive(far)
    assert (message["kind"], message["step"], message["record"], list(message["names"])) == ("run", 3, True, ["a", "b"])
    np.testing.assert_array_equal(message["frames"], frames)
    with pytest.raises(ValueError, match="pickle"):
        decode(encode("run", {"object": np.array([{}], dtype=object)})[8:])


class Actor:
    """Stands for Lava's ``SystemProcess``."""

    def __init__(self, code: int | None, exception: tuple[Exception, str] | None = None) -> None:
        self.exitcode, self.exception = code, exception


@pytest.mark.parametrize(
    ("actors", "text"),
    [
        ({"a": Actor(0), "b": Actor(-9), "c": Actor(None)}, "Lava process 'b' was killed by SIGKILL"),
        ({"a": Actor(0), "b": Actor(0, (ValueError("bad"), ""))}, "Lava process 'b' failed: ValueError: bad"),
        ({"a": Actor(0), "b": Actor(3)}, "Lava process 'b' ended unexpectedly with exit code 3"),
        ({"a": Actor(None), "b": Actor(0)}, "Lava process 'b' ended unexpectedly with exit code 0"),
    ],
)
def test_the_culprit_is_named_not_those_that_followed(actors: dict[str, Actor], text: str) -> None:
    assert culprit(actors) == text


def test_importing_the_target_imports_neither_lava_nor_torch() -> None:
    code = "import sys, spikegen.exporters.lava; sys.exit(any(m in sys.modules for m in ('lava', 'torch', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    tested = code.replace("import sys,", "import sys, lava,")
    assert subprocess.run([sys.executable, "-c", tested], check=False).returncode == 1
