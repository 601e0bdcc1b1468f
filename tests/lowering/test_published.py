"""The published networks, tiny: the network of populations fires as the torch model, tails and gains included."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spikegen.errors import LoweringError
from spikegen.lowering.compose_linear import compose_linear
from spikegen.lowering.fold_batchnorm import fold_batchnorm
from spikegen.lowering.graph import ReadoutOp
from spikegen.lowering.network import FloatNetwork
from spikegen.lowering.trace import trace
from spikegen.models import FSDDIMConfig, UNetConfig
from spikegen.models.coding import DirectCoding
from spikegen.models.fsddim import FSDDIM
from spikegen.models.gain import TemporalGain
from spikegen.models.hard_reset import HardResetNeuron
from spikegen.models.readouts import MembraneReadout
from spikegen.models.swish_tail import SwishTailReadout
from spikegen.models.unet import SpikingUNet
from spikegen.program import Readout
from spikegen.runtime import host_readout
from tests.lowering.graphs import images_for
from tests.lowering.networks import STEPS, TIMESTEPS, on_grid
from tests.lowering.reference import hard_reset, model_spikes, run_network

EXACT_DECAY = 0.25  # of FSDDIM's 0.2, which no binary fraction is
SHAPE = (1, 8, 8)


def unet(tail: str, tsm: bool) -> SpikingUNet:
    config = UNetConfig(8, 1, 2, (1, 2), 1, 1, TIMESTEPS, STEPS, neuron="hard-reset", tail=tail, tsm=tsm)
    model = SpikingUNet(config)
    model.embedding = nn.Embedding(STEPS, 8)  # type: ignore[assignment]  # sines are on no grid
    return model


def fsddim() -> FSDDIM:
    model = FSDDIM(FSDDIMConfig(8, 1, 2, (1, 2), 1, 1, TIMESTEPS, STEPS))
    model.embedding = nn.Embedding(STEPS, 8)  # type: ignore[assignment]
    for module in model.modules():
        if isinstance(module, HardResetNeuron):
            module.voltage_decay = EXACT_DECAY
    return model


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "tail": lambda: unet("swish", tsm=False),
    "gains": lambda: unet("spiking", tsm=True),
    "tail and gains": lambda: unet("swish", tsm=True),
    "spiking tail": lambda: unet("spiking", tsm=False),
    "fsddim": fsddim,
}
GAINS = torch.tensor([0.5, 1.0, 1.5])


def gained(model: nn.Module) -> None:
    """Every layer its own gains, of which one is negative and one is all ones."""
    layers = [module for module in model.modules() if isinstance(module, TemporalGain)]
    for index, layer in enumerate(layers):
        layer.gains.data = GAINS.roll(index % 3) * (-1 if index == 2 else 1) if index != 3 else torch.ones(3)


@pytest.mark.parametrize("rate", [0.0, 1e4])
@pytest.mark.parametrize("name", NETWORKS)
def test_it_fires_as_its_network_of_populations(name: str, rate: float) -> None:
    model = on_grid(NETWORKS[name]())
    gained(model)
    images = images_for(np.random.default_rng(2), SHAPE, count=3)
    graph = fold_batchnorm(trace(model, SHAPE, TIMESTEPS, STEPS))
    network, streams = compose_linear(graph, {op.name: rate for op in graph.ops})
    assert any(stream.relay for stream in streams) == (rate > 0 and name != "fsddim")
    assert len(network.clocks()) == (2 if "gains" in name else 0)
    for step in (0, STEPS - 1):
        spikes, output = model_spikes(model, images, step)
        values = run_network(network, images, step, hard_reset)
        for population in network.populations:
            if population.origin:
                part = slice(population.origin_start, population.origin_start + population.shape[0])
                expected = spikes[population.origin][:, :, part]
                assert 0 < float(values[population.name].mean()) < 1, population.name
                torch.testing.assert_close(values[population.name], expected, rtol=0, atol=0, msg=population.name)
        # all but the tail and the weights of the mean is exact, so this is rounding only
        torch.testing.assert_close(read(network, values["readout"]), output, rtol=0, atol=1e-12)


def read(network: FloatNetwork, stream: Tensor) -> Tensor:
    """What the host makes of a real-valued readout: as of currents that are whole numbers of a tiny unit."""
    (population,) = (p for p in network.populations if p.weights is not None)
    assert population.weights is not None
    unit = 2.0**-20
    whole = stream / unit
    torch.testing.assert_close(whole, whole.round(), rtol=0, atol=0)
    nothing = np.zeros(population.shape[0])
    readout = Readout("readout", population.shape, population.weights, nothing, unit, population.tail)
    return torch.from_numpy(host_readout(readout, whole.numpy().astype(np.int64)))


class Conditioned(nn.Module):
    """A gain behind the bias of the diffusion step."""

    def __init__(self) -> None:
        super().__init__()
        self.coding = DirectCoding(3)
        self.time = nn.Embedding(STEPS, 2)
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.mix = nn.Conv2d(2, 2, 1)
        self.gain = TemporalGain(3)
        self.neuron = HardResetNeuron(3)
        self.tail = nn.Conv2d(2, 1, 1)
        self.readout = MembraneReadout(3)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        bias = self.time(t).repeat(3, 1)[:, :, None, None]
        y: Tensor = self.readout(self.tail(self.neuron(self.gain(self.mix(self.conv(self.coding(x)) + bias)))))
        return y


def test_a_gain_of_a_value_that_depends_on_the_diffusion_step_is_refused_by_name() -> None:
    model = Conditioned().eval()
    model.gain.gains.data = torch.tensor([1.0, 2.0, 1.0])
    graph = fold_batchnorm(trace(model, SHAPE, 3, STEPS))
    with pytest.raises(LoweringError, match=r"^mix: its gain differs between timesteps and scales a value that dep"):
        compose_linear(graph, {})
    model.gain.gains.data = torch.full((3,), 2.0)  # the same at every timestep: a factor of the table
    network, _ = compose_linear(fold_batchnorm(trace(model, SHAPE, 3, STEPS)), {})
    (population,) = (p for p in network.populations if p.table is not None)
    weight = model.mix.weight.detach()[:, :, 0, 0].double()
    expected = 2 * model.time.weight.detach().double() @ weight.T
    assert population.table is not None
    np.testing.assert_allclose(population.table, expected.numpy(), rtol=1e-12)


class Tail(nn.Sequential):
    """A tail behind one convolution; ``joined`` reads a concatenation instead."""

    def __init__(self, joined: bool = False) -> None:
        super().__init__()
        self.coding = DirectCoding(3)
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.neuron = HardResetNeuron(3, 0.25)
        self.joined = joined
        self.readout = SwishTailReadout(4 if joined else 2, 3, 3, tsm=True)

    def forward(self, x: Tensor) -> Tensor:
        stream = self.conv(self.coding(x))
        y: Tensor = self.readout(torch.cat([stream, self.neuron(stream)], 1) if self.joined else stream)
        return y


def measured(model: nn.Module) -> nn.Module:
    """BatchNorm with statistics and parameters of its own."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                assert tensor is not None
                tensor.data = torch.rand(tensor.shape, generator=generator) + 0.5
        elif isinstance(module, TemporalGain):
            module.gains.data = torch.rand(module.timesteps, generator=generator) + 0.5
    return model.eval()


def test_the_tail_of_a_readout_is_that_of_the_module() -> None:
    model = measured(Tail()).double()
    (op,) = (op for op in trace(model, SHAPE, 3, 1).ops if isinstance(op, ReadoutOp))
    currents = np.random.default_rng(0).integers(-4000, 4000, (2, 3, 2, 8, 8)).astype(np.int32)
    readout = Readout("readout", (2, 8, 8), op.weights, np.zeros(2), 1 / 1024, op.tail)
    with torch.no_grad():
        stream = torch.from_numpy(currents / 1024).transpose(0, 1).flatten(0, 1)
        expected = model.get_submodule("readout")(stream).numpy()
    np.testing.assert_allclose(host_readout(readout, currents), expected, rtol=0, atol=1e-12)


def test_a_tail_of_a_concatenation_is_refused_by_name() -> None:
    graph = fold_batchnorm(trace(measured(Tail(joined=True)), SHAPE, 3, 1))
    with pytest.raises(LoweringError, match=r"^readout: its tail reads a concatenation of 2 values"):
        compose_linear(graph, {})


def test_a_tail_with_infinite_values_is_refused_by_name() -> None:
    model = measured(Tail())
    assert isinstance(model.readout, SwishTailReadout)
    model.readout.mix.weight.data[0, 0, 0, 0] = torch.inf
    with pytest.raises(LoweringError, match=r"readout \(SwishTailReadout\): its mix_weight has NaN or infinite values"):
        trace(model, SHAPE, 3, 1)


def test_multiply_accumulates_of_the_tail_are_counted() -> None:
    graph = trace(measured(Tail()), SHAPE, 3, 1)
    inside = (3 * 8 - 2) ** 2  # of 3 x 3 taps on 8 x 8 pixels
    channels = 1 * 2 + 2 * 3 + 3 * 3
    assert graph.macs() == channels * inside
    assert graph.macs(padded=True) == channels * 9 * 64


def test_folding_leaves_the_convolutions_of_the_model() -> None:
    graph = trace(unet("swish", tsm=True), SHAPE, TIMESTEPS, STEPS)
    convs = [module for module in unet("swish", tsm=True).modules() if isinstance(module, nn.Conv2d)]
    folded = fold_batchnorm(graph)
    assert sum(type(op).__name__ == "ConvOp" for op in folded.ops) + 2 == len(convs)
    assert folded.macs() == graph.macs()
