"""Quantisation: nearest grid point, proofs without risks, exact where the network already lies on a grid."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from spikegen.errors import LoweringError
from spikegen.lowering import InputFormat, lower, retime, scale_search
from spikegen.lowering.calibrate import Calibration, noised, record_spikes
from spikegen.lowering.compose_linear import compose_linear
from spikegen.lowering.fold_batchnorm import fold_batchnorm
from spikegen.lowering.kernels import Kernel
from spikegen.lowering.network import FloatNetwork, FloatPopulation, FloatProjection
from spikegen.lowering.quantize import quantize
from spikegen.lowering.scale_search import ScaleSearch
from spikegen.lowering.trace import trace
from spikegen.models import SpikingNeuron
from spikegen.models.coding import DirectCoding
from spikegen.models.readouts import FusedReadout, MeanReadout, MembraneReadout
from spikegen.program import Conv, Lif, Program, Readout, Relay, current_bounds, overflow_risks
from spikegen.program.bounds import message_interval
from spikegen.program.numerics import BIAS_EXP_MAX, BIAS_MANT_MAX, WEIGHT_MAX, WEIGHT_MIN, IntArray
from spikegen.program.storage import digest
from spikegen.simulator import Simulator
from spikegen.simulator.currents import projection_currents
from spikegen.training import load_images
from tests.lowering.graphs import images_for
from tests.lowering.networks import STEPS, TIMESTEPS, Network, Plain, neuron, unet
from tests.lowering.reference import apply, model_spikes


class Lowered(NamedTuple):
    """A float network, its Program, and the calibration data."""

    network: FloatNetwork
    program: Program
    data: Calibration


@functools.cache
def lowered(relays: bool) -> Lowered:
    """The small U-Net with random weights, its streams composed or relayed."""
    torch.manual_seed(0)
    model = unet()
    data = noised(load_images("digits"), "linear", STEPS, [0, STEPS - 1], 4, 0)
    model.train()
    for _ in range(20):  # statistics that make the neurons fire
        model(torch.from_numpy(data.images).float(), torch.from_numpy(data.steps))
    graph = fold_batchnorm(trace(model, (1, 8, 8), TIMESTEPS, STEPS))
    network, _ = compose_linear(graph, {op.name: 1e4 if relays else 0.0 for op in graph.ops})
    return Lowered(network, retime(quantize(network, data, InputFormat(), "small")), data)


@pytest.fixture(params=[False, True], ids=["composed", "relayed"])
def case(request: pytest.FixtureRequest) -> Lowered:
    return lowered(request.param)


def unit(program: Program, name: str) -> float:
    """Real value of one unit of a node's message."""
    node = program.nodes[name]
    return 1.0 if isinstance(node, Lif) else node.scale


def messages(case: Lowered) -> dict[str, IntArray]:
    """What the simulator sends for the calibration data."""
    program, data = case.program, case.data
    frames = program.input.quantize(data.images)
    parts = [
        Simulator(program).evaluate(frames[data.steps == step], int(step), record=True).messages
        for step in np.unique(data.steps)
    ]
    return {name: np.concatenate([part[name] for part in parts]).astype(np.int64) for name in parts[0]}


def test_weights_are_the_nearest_point_of_their_grid_or_clipped(case: Lowered) -> None:
    kernels = {p.name: p.kernel.weight for p in case.network.projections}
    assert len(kernels) == len(case.program.projections)
    for conv in case.program.projections:
        weight = kernels[conv.name]
        assert weight is not None
        exact = weight * unit(case.program, conv.source) / case.program.nodes[conv.target].scale
        error = np.abs(exact - conv.weight.astype(np.float64) * (1 << conv.exponent))
        clipped = ((conv.weight == WEIGHT_MAX) & (exact > 0)) | ((conv.weight == WEIGHT_MIN) & (exact < 0))
        assert (error[~clipped] <= (1 << conv.exponent) * (0.5 + 1e-9)).all(), conv.name
        assert clipped.mean() < 0.1, conv.name
        if (weight < 0).any():
            assert conv.exponent >= 1, conv.name


def test_thresholds_are_whole_numbers_of_units(case: Lowered) -> None:
    floats = {p.name: p for p in case.network.populations}
    for node in case.program.populations:
        if isinstance(node, Lif):
            threshold, du, dv = floats[node.name].neuron or (0.0, 0, 0)
            assert node.vth * node.scale == pytest.approx(threshold, rel=1e-12)
            assert (node.du, node.dv) == (du, dv)


def test_conditioning_is_the_nearest_point_of_the_bias_grid(case: Lowered) -> None:
    floats = {p.name: p for p in case.network.populations}
    assert case.program.conditioning.tables.keys() == {p.name for p in case.network.populations if p.table is not None}
    for node in case.program.populations:
        if not isinstance(node, Lif):
            continue
        grid = (1 << node.bias_exp) * node.scale / 64
        mantissas = np.stack([case.program.bias_mant(node, step) for step in range(STEPS)])
        largest = max(np.abs(mantissas).max(), np.abs(node.bias_mant).max())
        assert largest <= BIAS_MANT_MAX
        assert node.bias_exp == 0 or largest > BIAS_MANT_MAX // 2  # the smallest exponent that holds them all
        table = floats[node.name].table
        if table is not None:  # the difference to the plain bias is free of the bias correction; both are rounded
            np.testing.assert_allclose((mantissas - node.bias_mant) * grid, table, rtol=0, atol=grid * 1.001)


def test_the_mean_current_of_every_channel_is_kept(case: Lowered) -> None:
    sent = messages(case)
    floats = {p.name: p for p in case.network.populations}
    for node in case.program.populations:
        if not isinstance(node, Lif):
            continue
        into = {p.name: p for p in case.program.into(node.name)}
        error = torch.zeros(())
        for projection in case.network.projections:
            if projection.target != node.name:
                continue
            conv = into[projection.name]
            assert isinstance(conv, Conv)
            x = torch.from_numpy(sent[conv.source]).double().flatten(0, 1)
            rounded = conv.weight.astype(np.float64) * (1 << conv.exponent) * node.scale
            error = error + apply(projection.kernel, x) * unit(case.program, conv.source)
            error = error - apply(dataclasses.replace(projection.kernel, weight=rounded), x)
        grid = (1 << node.bias_exp) * node.scale / 64
        stored = node.bias_mant * grid
        wanted = error.mean(dim=(0, 2, 3)).numpy() + floats[node.name].bias
        np.testing.assert_allclose(stored, wanted, rtol=0, atol=grid / 2 * 1.001, err_msg=node.name)


def test_no_sum_can_overflow(case: Lowered) -> None:
    assert overflow_risks(case.program) == []
    assert case.program.report["overflow_risks"] == []
    rows = case.program.report["quantisation"]
    assert [row["population"] for row in rows] == [p.name for p in case.program.populations]
    bounds = current_bounds(case.program)
    for row in rows:
        assert row["overflow"] == "impossible"
        assert row["relative_error"] < 0.05, row
        low, high = bounds[row["population"]]
        assert (row["current_min"], row["current_max"]) == (low.min(), high.max())


def test_relays_are_exact_in_their_readers_and_stay_within_their_bits() -> None:
    case = lowered(relays=True)
    sent = messages(case)
    relays = [p for p in case.program.populations if isinstance(p, Relay)]
    assert relays
    for relay in relays:
        assert 0 < np.abs(sent[relay.name]).max() < 1 << relay.bits
        readers = case.program.out_of(relay.name)
        assert readers
        for conv in readers:
            assert len(np.unique(conv.weight[conv.weight != 0])) == 1  # identities
            whole = int(np.abs(conv.weight).max()) << conv.exponent
            assert whole * case.program.nodes[conv.target].scale == pytest.approx(relay.scale, rel=1e-12)


def test_the_same_network_and_data_give_the_same_program() -> None:
    case = lowered(relays=True)
    again = retime(quantize(case.network, case.data, InputFormat(), "small"))
    assert digest(again) == digest(case.program)


UNIT = 1 / 64  # the grid that SLAYER's state has 64 points in: currents on it are exact there and in the Program


class OnGrid(nn.Module):
    """Spikes of two layers and the image into one leaky population; all weights even multiples of UNIT, largest 254."""

    def __init__(self, current_decay: float, voltage_decay: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.a = neuron(4.0)
        self.down = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.b = neuron(6.0, 1.0, voltage_decay)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.back = nn.Conv2d(6, 4, 1, bias=False)
        self.skip = nn.Conv2d(4, 4, 5, padding=2, groups=2, bias=False)
        self.direct = nn.Conv2d(1, 4, 1, bias=False)
        self.c = neuron(8.0, current_decay, voltage_decay)
        rng = np.random.default_rng(0)
        with torch.no_grad():
            for conv, gain in ((self.first, 8), (self.down, 1), (self.back, 1), (self.skip, 1), (self.direct, 8)):
                mantissas = rng.integers(-126, 127, tuple(conv.weight.shape))
                mantissas.flat[0] = 127
                conv.weight.copy_(torch.from_numpy(mantissas * 2 * UNIT * gain))
                if conv.bias is not None:
                    conv.bias.copy_(torch.from_numpy(rng.integers(-4095, 4096, len(conv.bias)) * UNIT / 64))

    def forward(self, x: torch.Tensor, _embedding: torch.Tensor) -> torch.Tensor:
        a = self.a(self.first(x))
        b = self.b(self.down(a))
        y: torch.Tensor = self.c(self.back(self.up(b)) + self.skip(a) + self.direct(x))
        return y


@pytest.mark.parametrize(("current_decay", "voltage_decay"), [(1.0, 0.0), (1.0, 0.3), (0.4, 0.0), (0.25, 0.125)])
def test_a_network_on_an_integer_grid_is_reproduced_exactly(current_decay: float, voltage_decay: float) -> None:
    model = Network(OnGrid(current_decay, voltage_decay), 4)
    with torch.no_grad():
        model.tail.weight.copy_(torch.randint(-126, 127, model.tail.weight.shape) / 32)
        model.tail.weight[0, 0, 0, 0] = 127 / 32
    images = images_for(np.random.default_rng(1), (1, 8, 8), count=6).clip(-15 / 8, 15 / 8)
    data = Calibration(images[:2], np.array([0, 1]))
    program = lower(model, (1, 8, 8), TIMESTEPS, STEPS, data, input_format=InputFormat(4, 15 / 8))
    assert [row["relative_error"] for row in program.report["quantisation"]] == [0.0] * 4
    assert program.input.scale == 1 / 8
    frames = program.input.quantize(images)
    found = Simulator(program).evaluate(frames, 0, record=True)
    spikes, output = model_spikes(model, images, 0)
    assert len(spikes) == 3
    for name, sent in spikes.items():
        assert 0.05 < float(sent.mean()) < 0.95
        np.testing.assert_array_equal(found.messages[name], sent.numpy(), err_msg=name)
    readout = next(program.readouts())
    currents = found.readouts[readout.name] * readout.scale + readout.bias[:, :, None, None]
    np.testing.assert_allclose(np.einsum("ntchw,t->nchw", currents, readout.weights), output, rtol=0, atol=1e-12)


def small(*layers: nn.Module, channels: int = 2) -> Program:
    torch.manual_seed(0)
    model = Network(Plain(*layers), channels)
    images = images_for(np.random.default_rng(0), (1, 4, 4))
    return lower(model, (1, 4, 4), TIMESTEPS, STEPS, Calibration(images, np.array([0, 1])))


def test_weights_of_one_sign_may_be_odd() -> None:
    layer = nn.Conv2d(1, 2, 3, padding=1)
    with torch.no_grad():
        layer.weight.abs_()
    program = small(layer, neuron(0.5))
    (conv,) = (p for p in program.projections if p.source == "input")
    assert (conv.weight >= 0).all()
    assert conv.exponent >= 0


def test_spikes_that_go_straight_into_neurons_need_no_other_input() -> None:
    program = small(nn.Conv2d(1, 2, 3, padding=1), neuron(0.5), nn.Identity(), neuron(0.5))
    images = program.input.quantize(images_for(np.random.default_rng(1), (1, 4, 4)))
    sent = Simulator(program).evaluate(images, 0, record=True).messages
    assert sent["body.1"].any()
    np.testing.assert_array_equal(sent["body.3"], sent["body.1"])


def wide(inputs: int) -> Program:
    """A layer of many graded inputs per neuron: the scales that are tried first leave no room for all at once."""
    torch.manual_seed(0)
    model = nn.Sequential(DirectCoding(4), nn.Conv2d(inputs, 3, 1), SpikingNeuron(4, 0.5), MeanReadout(4)).eval()
    images = np.random.default_rng(0).normal(size=(20, inputs, 1, 1))
    return lower(model, (inputs, 1, 1), 4, 1, Calibration(images, np.zeros(20, dtype=np.int64)))


def test_a_wide_layer_is_proved_with_few_values_of_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    found = wide(64)
    assert found.report["overflow_risks"] == overflow_risks(found) == []
    (error,) = (row["relative_error"] for row in found.report["quantisation"] if row["population"] == "2")
    assert 0.02 < error < 0.2
    monkeypatch.setattr(scale_search, "TOLERATED", error - 0.001)
    assert wide(64).report["overflow_risks"]
    monkeypatch.setattr(scale_search, "FAR", range(0))
    before = wide(64)
    assert before.report["overflow_risks"] == overflow_risks(before) != []


def test_a_proof_that_would_cost_too_much_is_not_taken() -> None:
    program = wide(512)
    assert any("2: membrane can reach" in risk for risk in program.report["overflow_risks"])
    assert program.report["overflow_risks"] == overflow_risks(program)


def weighted(scale: float, bias: float = 0.0) -> nn.Conv2d:
    layer = nn.Conv2d(1, 2, 3, padding=1)
    with torch.no_grad():
        layer.weight.mul_(scale)
        layer.bias.fill_(bias)  # type: ignore[union-attr]
    return layer


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (weighted(0.0), "^body.1: all its weights are zero"),
        (weighted(1.0, 1e6), r"^body\.1: no scale fits its weights, threshold and bias; .* the largest bias 1e\+06"),
        (weighted(1e-9), r"^body\.1: no scale fits"),
    ],
    ids=["zero", "bias", "tiny"],
)
def test_what_fits_no_grid_is_refused_by_name(layer: nn.Conv2d, message: str) -> None:
    with pytest.raises(LoweringError, match=message):
        small(layer, neuron(0.5))


class Spikes(nn.Sequential):
    """Takes the image only; the readout reads the spikes of the last neuron as they are."""

    def __init__(self, readout: nn.Module) -> None:
        super().__init__()
        self.coding = DirectCoding(4)
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.fire = SpikingNeuron(4, 0.25, voltage_decay=0.5, gain=0.5)
        self.readout = readout


@pytest.mark.parametrize("readout", [FusedReadout(4, 0.5), MembraneReadout(4), MeanReadout(4), FusedReadout(4)])
def test_a_readout_of_spikes_receives_them_as_they_are(readout: nn.Module) -> None:
    torch.manual_seed(0)
    model = Spikes(readout).eval()
    images = images_for(np.random.default_rng(0), (2, 4, 5), count=6)
    program = lower(model, (2, 4, 5), 4, 1, Calibration(images, np.zeros(6, dtype=np.int64)))
    (conv,) = program.into("readout")
    assert (conv.source, conv.exponent) == ("fire", 0)
    assert isinstance(conv, Conv)
    np.testing.assert_array_equal(conv.weight, np.ones((3, 1, 1, 1)))
    (node,) = program.readouts()
    assert node.scale == 1.0
    assert not node.bias.any()
    found = Simulator(program).evaluate(program.input.quantize(images), 0, record=True)
    sent = found.messages["fire"]
    assert 0.05 < sent.mean() < 0.95
    np.testing.assert_array_equal(found.readouts["readout"], sent)
    by_host = torch.einsum("tnchw,t->nchw", torch.from_numpy(sent * node.scale).transpose(0, 1), node_weights(node))
    with torch.no_grad():
        expected = model.double().readout(torch.from_numpy(sent).transpose(0, 1).flatten(0, 1).double())
    torch.testing.assert_close(by_host, expected, rtol=0, atol=0)


def node_weights(node: Readout) -> torch.Tensor:
    return torch.from_numpy(node.weights.copy())


@pytest.mark.parametrize(("bits", "dtype"), [(4, torch.float32), (20, torch.float32), (23, torch.float32)])
def test_the_search_sees_exact_currents(bits: int, dtype: torch.dtype) -> None:
    """In float32 where that is exact, in float64 where messages times weights are beyond 24 bits."""
    rng = np.random.default_rng(bits)
    kernel = Kernel(rng.normal(size=(3, 2, 3, 3)), padding=(1, 1))
    population = FloatPopulation("out", (3, 5, 4), np.zeros(3), weights=np.ones(2))
    network = FloatNetwork(2, 1, (2, 5, 4), (population,), (FloatProjection("p", "input", "out", kernel),))
    port = InputFormat(bits, 1.0).port((2, 5, 4))
    messages = rng.integers(-port.high[0], port.high[0] + 1, (6, 2, 2, 5, 4)).astype(np.int32)
    sent = {"input": messages}
    search = ScaleSearch(network, population, sent, {"input": port.scale}, {"input": message_interval(port)}, 0.0)
    assert search.inputs[0].dtype == dtype
    best = search.best()
    expected = projection_currents(best.projections[0], messages.reshape(-1, 2, 5, 4))
    np.testing.assert_array_equal(best.current.numpy(), expected)


def test_a_model_of_one_argument_is_called_with_the_images() -> None:
    model = Spikes(MeanReadout(4)).eval()
    images = images_for(np.random.default_rng(0), (2, 4, 5), count=3)
    recorded, output = record_spikes(model, Calibration(images, np.zeros(3, dtype=np.int64)))
    with torch.no_grad():
        np.testing.assert_array_equal(output, model(torch.from_numpy(images).float()).numpy())
    assert recorded["fire"].shape == (3, 4, 3, 4, 5)


def test_recorded_spikes_are_those_of_the_model() -> None:
    model = unet().eval()
    data = noised(load_images("digits"), "linear", STEPS, [2], 3, 0)
    recorded, output = record_spikes(model, data)
    with torch.no_grad():
        again = model(torch.from_numpy(data.images).float(), torch.from_numpy(data.steps))
    np.testing.assert_array_equal(output, again.numpy())
    assert {sent.dtype for sent in recorded.values()} == {np.dtype(np.int32)}
    assert {sent.shape[:2] for sent in recorded.values()} == {(3, TIMESTEPS)}
    assert not any(module._forward_hooks for module in model.modules())


def test_noised_images_follow_the_schedule() -> None:
    clean = load_images("digits")
    data = noised(clean, "linear", 1000, [0, 999], 200, 0)
    assert data.images.shape == (400, 1, 8, 8)
    assert data.steps.tolist() == [0] * 200 + [999] * 200
    # at step 0 next to nothing is noise, at the end nearly all is: 200 * 64 values, so 3 % is more than 3 sigma
    assert data.images[:200].std() == pytest.approx(clean[:].std(), rel=0.03)
    assert data.images[200:].std() == pytest.approx(1.0, rel=0.03)
    again = noised(clean, "linear", 1000, [0, 999], 200, 0)
    np.testing.assert_array_equal(data.images, again.images)


def test_the_largest_bias_that_fits_is_the_documented_one() -> None:
    program = small(weighted(1.0, 0.25), neuron(0.5))
    (node,) = (p for p in program.populations if isinstance(p, Lif))
    reach = BIAS_MANT_MAX * (1 << BIAS_EXP_MAX) / 64 * node.scale
    assert reach > 0.25
    assert math.isclose(node.vth * node.scale, 0.5)
