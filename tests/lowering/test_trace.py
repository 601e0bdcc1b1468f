"""Tracing: every supported layer is exact, everything else is refused by name."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spikegen.errors import LoweringError
from spikegen.lowering.calls import Call
from spikegen.lowering.compose_linear import compose_linear
from spikegen.lowering.fold_batchnorm import fold_batchnorm
from spikegen.lowering.graph import ConditionOp, ConvOp, InputOp, LayerGraph, NeuronOp, ReadoutOp
from spikegen.lowering.layers import LAYERS, layer_title
from spikegen.lowering.trace import trace
from spikegen.models import SpikingNeuron, SpikingUNet, UNetConfig
from spikegen.models.coding import DirectCoding
from spikegen.models.denoiser import TimeBias
from spikegen.models.gain import TemporalGain
from spikegen.models.hard_reset import HardResetNeuron
from spikegen.models.readouts import FusedReadout, MeanReadout, MembraneReadout
from spikegen.models.swish_tail import SwishTailReadout
from tests.lowering.graphs import images_for
from tests.lowering.networks import EMBEDDING, STEPS, TIMESTEPS, ConvNorm, Network, Plain, neuron, on_grid
from tests.lowering.reference import hard_reset, model_spikes, run_graph, run_network
from tests.lowering.reference import neuron as slayer

SHAPE = (1, 6, 6)


class Joined(nn.Module):
    """Two branches of spikes joined by a function."""

    def __init__(self, join: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.left, self.right, self.last = ConvNorm(1, 2), ConvNorm(1, 2), neuron()
        self.join = join

    def forward(self, x: Tensor, _embedding: Tensor) -> Tensor:
        y: Tensor = self.last(self.join(self.left(x), self.right(x)))
        return y


class Conditioned(nn.Module):
    """A time bias, added with the operator on the left and the function on the right."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = ConvNorm(1, 2), neuron()
        self.a, self.b = (TimeBias(EMBEDDING, 2, TIMESTEPS) for _ in range(2))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        y: Tensor = self.last(torch.add(self.a(embedding) + self.conv(x), self.b(embedding)))
        return y


def chain(*layers: nn.Module, channels: int = 2, readout: nn.Module | None = None) -> Network:
    return Network(Plain(*layers), channels, readout)


# One model for each row of the table that models of this package use; those of other libraries: plain_cases.py.
CASES: dict[Any, Callable[[], nn.Module]] = {
    nn.Conv2d: lambda: chain(
        nn.Conv2d(1, 4, (3, 2), stride=(1, 2), padding=(2, 0), dilation=(2, 1)),
        neuron(),
        nn.Conv2d(4, 2, 1, groups=2, bias=False),
        neuron(0.5),
    ),
    nn.BatchNorm2d: lambda: chain(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), neuron(), nn.BatchNorm2d(2), neuron(0.5)),
    nn.Upsample: lambda: chain(nn.Conv2d(1, 2, 1), neuron(), nn.Upsample(scale_factor=3), nn.Conv2d(2, 2, 3), neuron()),
    nn.Identity: lambda: chain(nn.Identity(), ConvNorm(1, 2), nn.Identity(), neuron()),
    SpikingNeuron: lambda: chain(
        nn.Conv2d(1, 2, 3, bias=False), neuron(0.75, 0.5, 0.25), nn.Conv2d(2, 2, 3), neuron(0.25, 1.0, 0.5, 0.5)
    ),
    DirectCoding: lambda: chain(ConvNorm(1, 2), neuron()),
    nn.ConvTranspose2d: lambda: chain(
        nn.Conv2d(1, 4, 3, 2, 1),
        neuron(),
        nn.ConvTranspose2d(4, 4, 3, 2, 1, output_padding=1, groups=2),
        nn.BatchNorm2d(4),
        neuron(0.5, 1.0, 0.5, 0.5),
        nn.ConvTranspose2d(4, 2, (3, 2), padding=(2, 1), bias=False, dilation=(2, 1)),
        neuron(),
    ),
    MembraneReadout: lambda: chain(ConvNorm(1, 2), neuron()),
    MeanReadout: lambda: chain(ConvNorm(1, 2), neuron(), readout=MeanReadout(TIMESTEPS)),
    FusedReadout: lambda: chain(ConvNorm(1, 2), neuron(), readout=FusedReadout(TIMESTEPS)),
    HardResetNeuron: lambda: chain(
        ConvNorm(1, 2),
        HardResetNeuron(TIMESTEPS),
        nn.Conv2d(2, 2, 3),
        HardResetNeuron(TIMESTEPS, 0.5, 0.25),
        nn.Conv2d(2, 2, 3),
        HardResetNeuron(TIMESTEPS, 0.5, 0.5, decay_input=True),
    ),
    nn.AvgPool2d: lambda: chain(
        ConvNorm(1, 2), neuron(), nn.AvgPool2d((1, 2)), nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), neuron(0.25)
    ),
    TemporalGain: lambda: chain(
        nn.Conv2d(1, 2, 3), TemporalGain(TIMESTEPS), nn.BatchNorm2d(2), neuron(), TemporalGain(TIMESTEPS), neuron(0.5)
    ),
    SwishTailReadout: lambda: chain(ConvNorm(1, 2), neuron(), readout=SwishTailReadout(1, 2, TIMESTEPS, tsm=True)),
    operator.add: lambda: Network(Joined(lambda a, b: a + b), 2),
    torch.add: lambda: Network(Joined(torch.add), 2),
    torch.cat: lambda: Network(Joined(lambda a, b: torch.cat([a, b], 1)), 4),
    "conditioning": lambda: Network(Conditioned(), 2),
}


def traced(model: nn.Module) -> LayerGraph:
    return trace(model, SHAPE, TIMESTEPS, STEPS)


@pytest.mark.parametrize("layer", CASES, ids=lambda layer: getattr(layer, "__name__", layer))
def test_a_supported_layer_gives_the_numbers_and_spikes_of_torch(layer: Any) -> None:
    model = on_grid(CASES[layer](), seed=1)
    graph = traced(model)
    network, _ = compose_linear(fold_batchnorm(graph), {})
    images = images_for(np.random.default_rng(0), SHAPE, count=4)
    for step in (0, STEPS - 1):
        spikes, output = model_spikes(model, images, step)
        fire = hard_reset if layer is HardResetNeuron else slayer
        values, lowered = run_graph(graph, images, step, fire), run_network(network, images, step, fire)
        for name, sent in spikes.items():
            assert 0 < float(sent.mean()) < 1, name
            torch.testing.assert_close(values[name], sent, rtol=0, atol=0, msg=name)
        (weights,) = (torch.from_numpy(op.weights) for op in graph.ops if isinstance(op, ReadoutOp))
        for currents in (values["readout"], lowered["readout"]):
            if layer is SwishTailReadout:
                read = model.get_submodule("readout")(currents.transpose(0, 1).flatten(0, 1))
            else:
                read = torch.einsum("ntchw,t->nchw", currents, weights)
            # 1/3 and powers of 0.8 are on no grid: float64 sums of them depend on their order
            tolerance = 0 if layer not in (MeanReadout, FusedReadout, SwishTailReadout) else 1e-14
            torch.testing.assert_close(read, output, rtol=0, atol=tolerance)


def test_the_gain_of_a_neuron_becomes_a_higher_threshold() -> None:
    graph = traced(chain(nn.Conv2d(1, 2, 3), neuron(0.75, 1.0, 0.5, 0.5)))
    (op,) = (op for op in graph.ops if isinstance(op, NeuronOp))
    assert (op.threshold, op.du, op.dv) == (1.5, 4095, 2048)


class Unknown(nn.Module):
    """Layers that are not in the table, one of them nested, one behind another, and what depends on them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
        self.pool = nn.LPPool2d(2, 2)
        self.fire = neuron()

    def forward(self, x: Tensor, _embedding: Tensor) -> Tensor:
        y: Tensor = self.fire(torch.sigmoid(x)) + self.fire(self.pool(self.inner(x))).mul(2.0)
        return y


def refusal(model: nn.Module) -> str:
    with pytest.raises(LoweringError) as refused:
        traced(model)
    return str(refused.value)


def test_all_unknown_layers_are_named_at_once() -> None:
    supported = ", ".join(sorted({layer_title(key) for key in LAYERS}))
    assert refusal(Network(Unknown(), 2)) == (
        "what cannot be lowered:\n"
        "  - sigmoid (sigmoid): unknown layer; use a spiking neuron, or compute it on the host behind the readout\n"
        "  - body.inner.1 (ReLU): unknown layer; use a spiking neuron\n"
        "  - body.pool (LPPool2d): unknown layer\n"
        "  - mul (mul): unknown layer; use +, BatchNorm2d or a convolution: a product of two values, or with a "
        "constant, is not supported\n"
        f"supported: {supported}"
    )


class Function(nn.Module):
    """A function of two convolutions and of a value that depends on the diffusion step."""

    def __init__(self, function: Callable[[Tensor, Tensor, Tensor], Tensor], channels: int = 2) -> None:
        super().__init__()
        self.a, self.b, self.time = (
            nn.Conv2d(1, channels, 3),
            nn.Conv2d(1, 2, 3),
            TimeBias(EMBEDDING, channels, TIMESTEPS),
        )
        self.function, self.fire = function, neuron()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        y: Tensor = self.fire(self.function(self.a(x), self.b(x), self.time(embedding)))
        return y


def per_channel() -> SpikingNeuron:
    layer = neuron()
    layer.neuron.shared_param = False
    return layer


def persistent() -> SpikingNeuron:
    layer = neuron()
    layer.neuron.persistent_state = True
    return layer


def broken() -> nn.Conv2d:
    layer = nn.Conv2d(1, 2, 3)
    with torch.no_grad():
        layer.weight[0, 0, 0, 0] = torch.nan
    return layer


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "padding mode": (lambda: nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), "body.0: padding .* 'reflect'"),
    "padding name": (lambda: nn.Conv2d(1, 2, 3, padding="same"), "body.0: padding 'same'"),
    "upsample mode": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), "body.0: upsampling mode 'bilinear'"),
    "upsample factor": (lambda: nn.Upsample(scale_factor=1.5), r"body.0: .* factor 1\.5"),
    "upsample size": (lambda: nn.Upsample(size=8), "body.0: .* factor None"),
    "no statistics": (lambda: nn.BatchNorm2d(1, track_running_stats=False), "body.0: BatchNorm without running stat"),
    "per-channel": (per_channel, "body.0: per-channel decays"),
    "persistent": (persistent, "body.0: .*persistent state"),
    "no decay": (lambda: neuron(1.0, 0.0), "body.0: decays are 0/4096"),
    "full leak": (lambda: neuron(1.0, 1.0, 1.0), "body.0: decays are 4096/4096 and 4096/4096"),
    "gain": (lambda: neuron(gain=-0.5), r"body.0: its gain is -0\.5; it must be > 0 and finite"),
    "large kernel": (lambda: nn.Conv2d(1, 1, 7), r"body.0: its output would have 0 x 0 pixels; use more padding or a"),
    "timesteps": (lambda: SpikingNeuron(2), r"body.0 \(SpikingNeuron\): it has 2 timesteps, the model 3"),
    "coding": (lambda: nn.Sequential(nn.Conv2d(1, 1, 1), DirectCoding(3)), "body.0.1: direct coding repeats the input"),
    "early readout": (
        lambda: nn.Sequential(MembraneReadout(3), nn.Conv2d(1, 2, 1)),
        r"body.0.1 \(Conv2d\): it reads a readout, which must be the end of the model",
    ),
    "not finite": (broken, r"body.0 \(Conv2d\): its weight has NaN or infinite values"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_parameter_that_is_not_supported_is_refused_by_name(case: str) -> None:
    layer, message = REFUSED[case]
    with pytest.raises(LoweringError, match=message):
        traced(chain(layer(), neuron()))


FUNCTIONS: dict[str, tuple[Callable[[Tensor, Tensor, Tensor], Tensor], str]] = {
    "dim": (lambda a, b, _: torch.cat([a, b], dim=2), "cat: concatenation along dimension 2"),
    "dim missing": (lambda a, b, _: torch.cat([a, b]), "cat: concatenation along dimension 0"),
    "keywords": (lambda a, b, _: torch.cat(tensors=[a, b], dim=1), r"cat \(cat\): arguments tensors="),
    "alpha": (lambda a, b, _: torch.add(a, b, alpha=2), r"add \(add\): arguments alpha=2 are not supported"),
    "alpha of time": (lambda a, _, t: torch.add(a, t, alpha=2), r"add \(add\): arguments alpha=2 are not supported"),
    "number": (lambda a, _b, _t: a + 1, "add: only the sum of two values of one shape"),
    "broadcast": (lambda a, b, _: a + nn.functional.max_pool2d(b, 4), r"max_pool2d \(max_pool2d"),
    "time product": (lambda a, _, t: a * t, r"mul \(mul\): unknown layer"),
    "time concat": (lambda a, _, t: torch.cat([a, t], 1), r"cat \(cat\): of the diffusion step; only \+"),
    "method": (lambda a, b, _: a.add(b), r"add \(add\): unknown layer"),
    "time per pixel": (lambda a, _, t: a + t.expand(-1, -1, 4, 4), r"expand: conditioning has shape .* 4, 4\)"),
    "time per timestep": (
        lambda a, _, t: a + t * torch.arange(12.0)[:, None, None, None],
        "mul: conditioning differs between timesteps",
    ),
    "time error": (lambda a, _, t: a + t.view(7), "view: it cannot be evaluated for diffusion steps 0..3"),
}


@pytest.mark.parametrize("case", FUNCTIONS)
def test_a_function_that_is_not_supported_is_refused_by_name(case: str) -> None:
    function, message = FUNCTIONS[case]
    with pytest.raises(LoweringError, match=message):
        traced(Network(Function(function), 2))


def test_values_of_different_shapes_are_refused() -> None:
    assert "add: only the sum of two values of one shape" in refusal(Network(Function(lambda a, b, _: a + b, 3), 3))


class Twice(nn.Module):
    """One neuron module in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fire, self.other = nn.Conv2d(1, 2, 3), neuron(), nn.Conv2d(2, 2, 3)

    def forward(self, x: Tensor, _embedding: Tensor) -> Tensor:
        y: Tensor = self.fire(self.other(self.fire(self.conv(x))))
        return y


class Renamed(nn.Module):
    """A layer named as the graph's own input."""

    def __init__(self) -> None:
        super().__init__()
        self.input, self.readout = nn.Conv2d(1, 1, 3), MembraneReadout(1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.readout(self.input(x))
        return y


class Raw(nn.Module):
    """Returns currents, and has as many arguments as asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3)

    def forward(self, x: Tensor, _t: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class Three(Raw):
    def forward(self, x: Tensor, t: Tensor, _label: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, t)


class Branching(Raw):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return super().forward(x, t) if x.sum() > 0 else x


def test_a_layer_that_is_used_twice_is_refused() -> None:
    assert "body.fire: it is used twice" in refusal(Network(Twice(), 2))
    with pytest.raises(LoweringError, match="input: it is used twice, or a layer has the name"):
        trace(Renamed(), SHAPE, 1, 1)


def test_a_model_must_end_with_one_readout() -> None:
    assert (
        "output (conv): a model must return the value of one readout "
        "(MembraneReadout, MeanReadout, FusedReadout, SwishTailReadout)" in refusal(Raw())
    )


def test_a_model_takes_the_input_and_perhaps_the_step() -> None:
    expected = "Three: forward must take the input and, if it wants it, the diffusion step, not 3 arguments"
    assert expected in refusal(Three())


def test_a_model_that_looks_at_values_cannot_be_traced() -> None:
    assert "Branching: the model cannot be traced" in refusal(Branching())


def test_conditioning_tables_are_the_time_biases_of_the_model() -> None:
    torch.manual_seed(0)
    steps = 50
    model = SpikingUNet(UNetConfig(8, 1, 4, (1, 2), 1, 1, 2, steps)).eval()
    graph = trace(model, (1, 8, 8), 2, steps)
    tables = [op.table for op in graph.ops if isinstance(op, ConditionOp)]
    biases = [module for module in model.modules() if isinstance(module, TimeBias)]
    assert len(tables) == len(biases) > 0
    for step in (0, 1, 17, steps - 1):
        embedding = model.embedding(torch.tensor([step]))
        for table, bias in zip(tables, biases, strict=True):
            own = bias(embedding)[0, :, 0, 0].detach().double().numpy()
            # float32 matrix products round differently for another batch size
            np.testing.assert_allclose(table[step], own, rtol=1e-5, atol=1e-6)


def brute_force_macs(conv: ConvOp, source: tuple[int, int, int]) -> int:
    out, inputs, *kernel = conv.weight.shape
    taps = 0
    for y in range(conv.shape[1]):
        for x in range(conv.shape[2]):
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    row = y * conv.stride[0] + i * conv.dilation[0] - conv.padding[0]
                    column = x * conv.stride[1] + j * conv.dilation[1] - conv.padding[1]
                    taps += 0 <= row < source[1] and 0 <= column < source[2]
    return out * inputs * taps


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 4, 3, padding=1),
        nn.Conv2d(2, 4, 3, padding=1, stride=2),
        nn.Conv2d(2, 4, 3, padding=1, groups=2),
        nn.Conv2d(2, 4, (3, 2), padding=(4, 1), dilation=(2, 1), stride=(1, 3)),
        nn.Conv2d(2, 4, 1),
    ],
    ids=str,
)
def test_dense_macs_leave_out_the_padding(layer: nn.Conv2d) -> None:
    handler = LAYERS[nn.Conv2d].handler
    source = (2, 5, 6)
    model = LayerGraph(1, 1, (InputOp("input", (), source),))
    conv = handler(layer, model.ops, Call("conv", {}))
    assert isinstance(conv, ConvOp)
    expected = brute_force_macs(conv, source)
    assert LayerGraph(1, 1, (*model.ops, conv)).macs() == expected
    dense = int(np.prod(layer.weight.shape)) * conv.shape[1] * conv.shape[2]
    assert expected <= dense
    assert (expected == dense) == (max(conv.padding) == 0)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (HardResetNeuron(TIMESTEPS, 0.0), "body.1: its threshold is 0.0 and its decay 0.0; the threshold must be > 0"),
        (HardResetNeuron(TIMESTEPS, 1.0, 1.0), "body.1: its threshold is 1.0 and its decay 1.0; .* the decay in"),
        (TemporalGain(5), r"body.1 \(TemporalGain\): it has 5 timesteps, the model 3"),
        (nn.AvgPool2d(2, padding=1), "body.1: pooling with padding, ceil_mode or a divisor_override is not supported"),
        (nn.AvgPool2d(9), "body.1: its output would have 0 x 0 pixels; use a smaller kernel"),
    ],
    ids=["threshold", "decay", "timesteps", "padding", "kernel"],
)
def test_parameters_of_published_layers_that_are_refused(layer: nn.Module, message: str) -> None:
    model = chain(nn.Conv2d(1, 2, 3, padding=1), layer, neuron())
    with pytest.raises(LoweringError, match=message):
        traced(model)


def test_gains_that_are_not_finite_are_refused_by_name() -> None:
    layer = TemporalGain(TIMESTEPS)
    layer.gains.data[1] = torch.nan
    with pytest.raises(LoweringError, match=r"body.1 \(TemporalGain\): its gains has NaN or infinite values"):
        traced(chain(nn.Conv2d(1, 2, 3), layer, neuron()))
