"""SLAYER's delays: every spike and the readout are SLAYER's, whatever the neurons and the branches are late by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from spikegen.lowering.compose_linear import compose_linear
from spikegen.lowering.graph import AddOp, ConcatOp, ConvOp, InputOp, LayerGraph, NeuronOp, Op, ReadoutOp
from spikegen.lowering.quantize import _messages
from spikegen.lowering.scale_search import Candidate
from spikegen.lowering.slayer_layers import shape_delays
from spikegen.program import Lif, Program
from spikegen.program.numerics import delayed as late
from spikegen.runtime.readout import host_readout
from spikegen.simulator import Simulator
from spikegen.verification import SlayerTarget
from tests.lowering.plain_cases import CUBA, STREAMED, T
from tests.lowering.slayer_networks import Skip, delayed, normed, program_of, slayer, spikes_of, trains

pytestmark = pytest.mark.filterwarnings("ignore:torch.nn.utils.weight_norm is deprecated:UserWarning")


def lifs(program: Program) -> dict[str, Lif]:
    return {p.name: p for p in program.populations if isinstance(p, Lif)}


def test_equal_delays_move_the_window() -> None:
    torch.manual_seed(0)
    model = delayed([2.3, 2.0, 2.9, 2.5])
    program = program_of(model, STREAMED)
    frames = trains()
    found = Simulator(program).evaluate(frames, 0, record=True).messages["1.neuron"]
    sent = spikes_of(model, frames)
    lag = 2 + 1 + 1
    assert 0 < sent[:, lag:].mean() < 1
    np.testing.assert_array_equal(sent[:, lag:], found[:, :-lag])
    assert not sent[:, :lag].any()
    (readout,) = program.readouts()
    np.testing.assert_array_equal(readout.weights, [1 / T] * (T - lag) + [0.0] * lag)


def test_without_shifts_a_skip_is_exact_to_the_last_timestep() -> None:
    torch.manual_seed(0)
    model = Skip(shift=False)
    frames = trains()
    found = Simulator(program_of(model, STREAMED)).evaluate(frames, 0, record=True).messages["c.neuron"]
    assert 0 < found.mean() < 1
    np.testing.assert_array_equal(spikes_of(model, frames), found)


def test_the_norm_of_a_slayer_neuron_is_a_bias_of_its_membrane() -> None:
    model = normed("MeanOnlyBatchNorm", 0)
    program = program_of(model, STREAMED)
    lif = next(p for p in program.populations if p.name == "0.neuron")
    assert isinstance(lif, Lif)
    assert lif.bias_mant.any()
    frames = trains()
    found = Simulator(program).evaluate(frames, 0, record=True).messages["1.neuron"]
    np.testing.assert_array_equal(spikes_of(model, frames)[:, 2:], found[:, :-2])


def test_delays_of_each_neuron() -> None:
    torch.manual_seed(0)
    model = delayed([0.0, 1.9, 2.2, 50.0])  # the last one is never sent
    program = program_of(model, STREAMED)
    found = lifs(program)
    assert [int(found["0.neuron"].delays[c].max()) for c in range(4)] == [0, 1, 2, T]
    assert not found["1.neuron"].delays.size
    frames = trains()
    messages = Simulator(program).evaluate(frames, 0, record=True).messages["1.neuron"]
    sent, lag = spikes_of(model, frames), 2
    assert 0 < sent[:, lag:].mean() < 1
    np.testing.assert_array_equal(sent[:, lag:], messages[:, :-lag])
    other = delayed([0.0, 0.0, 0.0, 50.0])
    other.load_state_dict({**model.state_dict(), "0.delay.delay": torch.tensor([0.0, 0.0, 0.0, 50.0])})
    assert (spikes_of(other, frames) != sent).any()  # the delays matter


# Where one shift of the window is not enough, every neuron keeps its delay, and the window is SLAYER's own.
KEPT: dict[str, Callable[[], nn.Module]] = {
    "branches that are differently late": lambda: Skip(shift=True),
    "a bias behind a delay": lambda: normed("MeanOnlyBatchNorm", 1),
}


@pytest.mark.parametrize("name", KEPT)
def test_every_neuron_keeps_its_delay(name: str) -> None:
    torch.manual_seed(0)
    model = KEPT[name]()
    program = program_of(model, STREAMED)
    last = list(lifs(program))[-1]
    assert all((lif.delays == 1).all() and lif.delays.size for lif in lifs(program).values())
    frames = trains()
    found = Simulator(program).evaluate(frames, 0, record=True)
    sent = spikes_of(model, frames)
    assert 0 < sent[:, 3:].mean() < 1
    np.testing.assert_array_equal(sent, found.messages[last])
    np.testing.assert_array_equal(SlayerTarget(program).evaluate(frames, 0, record=True).messages[last], sent)
    assert set(program.report["float_agreement"]["spikes"].values()) == {1.0}


@pytest.mark.parametrize("build", [lambda: delayed([0.0, 1.0, 3.0, 2.0]), *KEPT.values()])
def test_the_readout_is_slayers(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(1)
    model = build()
    program = program_of(model, STREAMED, readout="sum")
    frames = trains()
    (readout,) = program.readouts()
    value = host_readout(readout, Simulator(program).evaluate(frames, 0).readouts[readout.name])
    wanted = spikes_of(model, frames).sum(axis=1)
    assert wanted.any()
    np.testing.assert_array_equal(value, wanted)


def test_each_part_of_a_concatenation_has_its_delays() -> None:
    one, none = np.ones((1, 1, 1, 1)), np.zeros(1)
    delays = np.arange(8, dtype=np.int32).reshape(2, 2, 2)
    neurons = [
        NeuronOp(name, ("cat",), (2, 2, 2), 0.5, 4095, 0, delays=d) for name, d in (("x", delays), ("y", delays + 1))
    ]
    ops: tuple[Op, ...] = (
        InputOp("input", (), (1, 2, 2), spikes=True),
        *(NeuronOp(name, ("input",), (1, 2, 2), vth, 4095, 0) for name, vth in (("a", 0.25), ("b", 0.5))),
        ConcatOp("cat", ("a", "b"), (2, 2, 2)),
        *neurons,
        AddOp("sum", ("x", "y"), (2, 2, 2)),
        ConvOp("read", ("sum",), (1, 2, 2), np.repeat(one, 2, axis=1), none),
        ReadoutOp("out", ("read",), (1, 2, 2), np.ones(T)),
    )
    network, _ = compose_linear(LayerGraph(T, 1, ops), {})
    found = {p.name: p.delays.tolist() for p in network.populations if p.origin in {"x", "y"}}
    assert found == {
        "x[0:1]": delays[:1].tolist(),
        "x[1:2]": delays[1:].tolist(),
        "y[0:1]": (delays[:1] + 1).tolist(),
        "y[1:2]": (delays[1:] + 1).tolist(),
    }


def test_what_lies_behind_is_calibrated_on_late_spikes() -> None:
    lif = Lif("a", (1, 1, 1), 1, 4095, 0, np.zeros(1, dtype=np.int16), 0, delays=np.full((1, 1, 1), 2, dtype=np.int32))
    zero = (np.zeros(1, dtype=np.int64),) * 2
    fires = torch.full((3 * 4, 1, 1, 1), 2.0, dtype=torch.float64)  # at every timestep
    sent = _messages(Candidate(lif, None, (), zero, 0.0, [], 0.0, fires), 4, np.zeros(3, dtype=np.int64))
    np.testing.assert_array_equal(sent[..., 0, 0, 0], [[0, 0, 1, 1]] * 3)


def test_the_weights_of_a_model_with_delays_load_before_its_first_call() -> None:
    def build() -> nn.Module:
        return slayer(lambda c: c.Conv(CUBA, 2, 4, 3, delay=True), lambda c: c.Conv(CUBA, 4, 2, 3))

    trained, fresh = delayed([0.0, 1.9, 2.2, 3.0]), build()
    state = trained.state_dict()
    with pytest.raises(RuntimeError, match=r"size mismatch for 0\.delay\.delay"):
        fresh.load_state_dict(state)
    shape_delays(fresh, state)
    fresh.load_state_dict(state)
    fresh(torch.zeros(1, 2, 6, 6, T))  # draws none anew
    np.testing.assert_array_equal(fresh.state_dict()["0.delay.delay"], state["0.delay.delay"])


def test_delayed_by_hand() -> None:
    spikes = np.arange(1, 9).reshape(1, 4, 2, 1, 1)
    delays = np.array([0, 3], dtype=np.int32).reshape(2, 1, 1)
    np.testing.assert_array_equal(late(spikes, delays)[0, :, :, 0, 0], [[1, 0], [3, 0], [5, 0], [7, 2]])
    assert late(spikes, np.empty(0, dtype=np.int32)) is spikes
