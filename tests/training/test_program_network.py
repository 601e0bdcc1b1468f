"""The network that learns and the Program are equal, integer for integer; its gradients are those of its surrogate."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch.autograd import Function

from spikegen.errors import ProgramError
from spikegen.lowering import export_checkpoint
from spikegen.program import Conv, Input, Lif, Program, Readout, Relay, overflow_risks, validate
from spikegen.program.numerics import DECAY_UNITY
from spikegen.runtime.readout import host_readout
from spikegen.simulator import Simulator
from spikegen.training.host_readout import HostReadout
from spikegen.training.integer_neuron import LifConstants, fire
from spikegen.training.program_network import ProgramNetwork
from spikegen.training.tuned_bounds import hold_bounds
from tests.program.examples import changed, every_field
from tests.strategies import frames, programs


def assert_equals_simulator(network: ProgramNetwork, images: npt.NDArray[np.int32], step: int) -> None:
    """Every message of every node, and what the host reads, for integer ``images``."""
    program = network.to_program()
    expected = Simulator(program).evaluate(images, step, record=True)
    real = torch.from_numpy(images.astype(np.float64) * program.input.scale)
    steps = torch.full((len(images),), step)
    with torch.no_grad():
        found = network.messages(network.quantize(real), steps)
        output = network(real, steps)
    assert found.keys() == program.nodes.keys()
    for name, values in {**expected.messages, **expected.readouts}.items():
        sent = found[name].transpose(0, 1).expand(values.shape)
        np.testing.assert_array_equal(sent.numpy(), values, err_msg=name)
    for readout in program.readouts():
        value = HostReadout(readout)(found[readout.name]).detach().numpy()
        host = host_readout(readout, expected.readouts[readout.name])
        if readout.tail is None:
            np.testing.assert_array_equal(value, host)
        else:  # exp and the order of sums are those of another library
            np.testing.assert_allclose(value, host, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        again = HostReadout(next(program.readouts()))(found[next(program.readouts()).name])
    np.testing.assert_array_equal(output, again)


def moved(program: Program, seed: int, amount: float = 0.2) -> ProgramNetwork:
    """A network whose values moved as training moves them, within its bounds."""
    network = ProgramNetwork(program)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in network.parameters():
            values.add_(amount * torch.randn(values.shape, generator=generator))
    network.clamp_()
    hold_bounds(network)
    return network


@settings(max_examples=60)
@given(st.data())
def test_random_programs(data: st.DataObject) -> None:
    program = data.draw(programs(overflow=data.draw(st.booleans(), label="overflow"), max_populations=4))
    images = data.draw(frames(program, images=(2,)))
    step = data.draw(st.integers(0, program.conditioning.steps - 1))
    assert_equals_simulator(ProgramNetwork(program), images, step)


@settings(max_examples=40)
@given(st.data())
def test_random_programs_that_learnt(data: st.DataObject) -> None:
    program = data.draw(programs(max_populations=4))
    network = moved(program, data.draw(st.integers(0, 9)))
    tuned = network.to_program()
    validate(tuned)
    assert overflow_risks(tuned) == []
    for before, after in zip(program.projections, tuned.projections, strict=True):
        assert not after.weight[before.weight == 0].any()
    assert_equals_simulator(network, data.draw(frames(program, images=(2,))), 0)


def test_every_field_of_a_program() -> None:
    """Gains, a tail, a population that hears nothing, delays, groups, dilation, shuffle and Dense."""
    program = every_field()
    validate(program)
    images = np.random.default_rng(0).integers(-15, 16, (5, *program.input.shape)).astype(np.int32)
    for step in range(program.conditioning.steps):
        assert_equals_simulator(ProgramNetwork(program), images, step)
        assert_equals_simulator(moved(program, seed=step), images, step)


def test_a_broken_program_is_refused() -> None:
    with pytest.raises(ProgramError, match="vth"):
        ProgramNetwork(changed(every_field(), "a", vth=-1))


def test_the_input_is_rounded_as_the_host_does() -> None:
    network = ProgramNetwork(every_field())
    port = network.program.input
    x = np.random.default_rng(0).normal(size=(50, *port.shape))
    x[0, 0, 0] = np.array([0.5, 1.5, -2.5]) * port.scale
    np.testing.assert_array_equal(network.quantize(torch.from_numpy(x))[0].numpy(), port.quantize(x))


def test_projections_that_share_a_geometry_are_one_convolution() -> None:
    weight = np.ones((2, 2, 3, 3), dtype=np.int8)
    program = Program(
        "forked",
        2,
        Input("in", (2, 4, 4), 3, 1.0),
        tuple(Readout(name, (2, 4, 4), np.ones(2), np.zeros(2)) for name in "abcd"),
        (
            Conv("in>a", "in", "a", weight, 1, padding=(1, 1)),
            Conv("in>b", "in", "b", 3 * weight, 2, padding=(1, 1)),
            Conv("in>c", "in", "c", weight[:, :1], 1, padding=(1, 1), groups=2),
            Conv("in>d", "in", "d", weight[:, :, 1:2, 1:2], 1),
        ),
    )
    network = ProgramNetwork(program)
    assert [[p.name for p in bundle] for bundle in network._plan["in"].values()] == [
        ["in>a", "in>b"],
        ["in>c"],
        ["in>d"],
    ]
    assert_equals_simulator(network, np.arange(64, dtype=np.int32).reshape(2, 2, 4, 4) % 15 - 7, 0)


class _Spike(Function):
    """The ArcTan surrogate, alpha = 2, on the membrane divided by the threshold."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, threshold: float) -> Tensor:
        ctx.save_for_backward(v)
        ctx.threshold = threshold
        return (v > threshold).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (v,) = ctx.saved_tensors
        return gradient / (1 + (math.pi * (v / ctx.threshold - 1)) ** 2) / ctx.threshold, None


def slow_fire(current: Tensor, bias: Tensor, constants: LifConstants, timesteps: int) -> Tensor:
    """Step by step, differentiated by torch; rounding passes the gradient."""
    u = v = torch.zeros_like(current[0])
    spikes = []
    for t in range(timesteps):
        kept_u, kept_v = u * (4095 - constants.du) / DECAY_UNITY, v * (4096 - constants.dv) / DECAY_UNITY
        u = kept_u + (kept_u.trunc() - kept_u).detach() + 64 * current[t if len(current) > 1 else 0]
        charged = kept_v + (kept_v.trunc() - kept_v).detach() + u + bias[:, :, None, None]
        s: Tensor = _Spike.apply(charged, float(constants.threshold))  # type: ignore[no-untyped-call]
        spikes.append(s)
        v = charged * (1 - s)
    return torch.stack(spikes)


@pytest.mark.parametrize("steady", [False, True])
@pytest.mark.parametrize(("du", "dv"), [(4095, 0), (4095, 819), (1000, 0), (1000, 300), (0, 4095)])
def test_the_gradient_of_a_population(du: int, dv: int, steady: bool) -> None:
    generator = torch.Generator().manual_seed(du + dv)
    timesteps = 5
    constants = LifConstants(300 << 6, du, dv, bounded=True)
    shape = (1 if steady else timesteps, 3, 2, 4, 4)
    current = torch.randint(-200, 400, shape, generator=generator).double()
    bias = torch.randint(-999, 999, (3, 2), generator=generator).double()
    bias[0, 0] = 0
    current[0, 0, 0] = 300  # exactly the threshold, which is not above it
    current.requires_grad_()
    bias.requires_grad_()
    sent = torch.randn((timesteps, 3, 2, 4, 4), generator=generator).double()
    expected = slow_fire(current, bias, constants, timesteps)
    wanted = torch.autograd.grad((expected * sent).sum(), (current, bias))
    assert 0.1 < expected.mean() < 0.9
    for bounded in (True, False):
        spikes = fire(current, bias, dataclasses.replace(constants, bounded=bounded), timesteps)
        torch.testing.assert_close(spikes.double(), expected, rtol=0, atol=0)
        found = torch.autograd.grad((spikes * sent.float()).sum(), (current, bias))
        for a, b in zip(found, wanted, strict=True):  # float32 against float64
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


def test_the_gradient_passes_the_rounding() -> None:
    """That of the loss by an integer weight times its unit; 0 for a weight that is 0, none for a copied stream."""
    program = relayed(8)
    network = ProgramNetwork(program)
    shadow = network.weight("in>r")
    output = network(torch.ones(2, 2, 4, 4), torch.zeros(2, dtype=torch.long))
    output.sum().backward()
    # every output is 2 (weights of the host) x 3 (copy) x 2 (in>r) x its weight x 1, in units of the LSB 0.5
    expected = torch.where(shadow.kept == 0, 0.0, torch.tensor(2 * 16 * 2 * 3.0 * 2 * 0.5 * shadow.unit))
    assert shadow.values.grad is not None
    torch.testing.assert_close(shadow.values.grad, expected)
    assert network.weight("r>y").values.grad is None


def relayed(weight: int, bits: int = 12) -> Program:
    """in -> r -> y, where the second projection is the copy of a stream; one weight is 0."""
    kernel = np.array([[weight, 0], [5, weight]], dtype=np.int8)[:, :, None, None]
    return Program(
        "relayed",
        2,
        Input("in", (2, 4, 4), 1, 1.0),
        (Relay("r", (2, 4, 4), bits), Readout("y", (2, 4, 4), np.ones(2), np.zeros(2), 0.5)),
        (
            Conv("in>r", "in", "r", kernel, 1),
            Conv("r>y", "r", "y", np.full((2, 1, 1, 1), 3, dtype=np.int8), 0, groups=2),
        ),
    )


def test_the_copy_of_a_stream_does_not_learn() -> None:
    network = ProgramNetwork(relayed(8))
    assert [shadow.values.requires_grad for shadow in (network.weight("in>r"), network.weight("r>y"))] == [True, False]


def test_a_relay_that_outgrows_its_bits_is_shrunk_where_it_does() -> None:
    program = relayed(8, bits=6)  # the second channel reaches (5 + 8) * 2 = 26 of 63
    network = ProgramNetwork(program)
    shadow = network.weight("in>r")
    with torch.no_grad():
        shadow.values[1] *= 3
    assert overflow_risks(network.to_program())
    before = shadow.values.detach().clone()
    assert hold_bounds(network) == ["r"]
    assert overflow_risks(network.to_program()) == []
    assert torch.equal(shadow.values[0], before[0])
    mantissas = shadow.integers()[1].ravel()
    assert 28 <= mantissas.sum() <= 31
    assert hold_bounds(network) == []


def test_a_membrane_that_could_overflow_is_shrunk() -> None:
    """Weights and bias of one channel; the others and the next population stay as they are."""
    kernel = np.full((3, 1, 3, 3), 20, dtype=np.int8)
    program = Program(
        "limit",
        4,
        Input("in", (1, 6, 6), 7, 1.0),
        (
            Lif("a", (3, 6, 6), 1000, 4095, 0, np.array([0, 50, 0], dtype=np.int16), 7),
            Readout("y", (1, 6, 6), np.ones(4), np.zeros(1)),
        ),
        (
            Conv("in>a", "in", "a", kernel, 0, padding=(1, 1)),
            Conv("a>y", "a", "y", np.full((1, 3, 1, 1), 3, dtype=np.int8), 0),
        ),
    )
    assert overflow_risks(program) == []
    results = []
    for _ in range(2):
        network = ProgramNetwork(program)
        with torch.no_grad():
            network.weight("in>a").values[1] *= 5
            network.bias("a").values[1] = 3000 / network.bias("a").unit
        network.clamp_()
        assert [risk.split(":")[0] for risk in overflow_risks(network.to_program())] == ["a"]
        assert hold_bounds(network) == ["a"]
        tuned = network.to_program()
        assert overflow_risks(tuned) == []
        results.append(tuned.projections[0].weight)
        np.testing.assert_array_equal(results[-1][[0, 2]], kernel[[0, 2]])
        assert 20 < results[-1][1].min() < 100
        bias = network.bias("a").integers()
        np.testing.assert_array_equal(bias[[0, 2]], 0)
        assert 50 < bias[1] < 3000
        np.testing.assert_array_equal(tuned.projections[1].weight, program.projections[1].weight)
    np.testing.assert_array_equal(results[0], results[1])
    images = np.full((1, 1, 6, 6), 127, dtype=np.int32)
    assert_equals_simulator(network, images, 0)


def test_a_population_that_had_a_risk_is_left_alone() -> None:
    network = ProgramNetwork(relayed(8, bits=3))
    assert network.risky == {"r"}
    assert hold_bounds(network) == []
    np.testing.assert_array_equal(network.to_program().projections[0].weight, relayed(8).projections[0].weight)


def test_biases_leave_room_for_their_conditioning() -> None:
    program = every_field()
    network = ProgramNetwork(program)
    for sign in (1, -1):
        with torch.no_grad():
            network.bias("a").values.fill_(sign * 1e6)
        network.clamp_()
        validate(network.to_program())
        sums = network.bias("a").integers() + program.conditioning.tables["a"]
        assert (sums.max() if sign > 0 else sums.min()) == (4095 if sign > 0 else -4096)


@pytest.mark.slow
def test_the_shipped_network() -> None:
    program = export_checkpoint("digits-unet").network("denoiser")
    images = program.input.quantize(1.5 * np.random.default_rng(0).standard_normal((3, *program.input.shape)))
    for step in (30, 700):
        assert_equals_simulator(ProgramNetwork(program), images, step)
        assert_equals_simulator(moved(program, seed=step, amount=0.05), images, step)
