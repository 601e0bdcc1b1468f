"""A small model of someone else's for every row of the table of layers that the models of this package do not use."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import Tensor, nn

from spikegen.lowering.export_module import InputSpec
from spikegen.models.neuron import import_cuba

T = 6
IMAGE = InputSpec((2, 6, 6), T, bits=3, largest=7.0)
FEATURES = InputSpec((12, 1, 1), T, flat=True, bits=3, largest=7.0)
STREAMED = InputSpec((2, 6, 6), T, streamed=True, bits=0)


@dataclass(frozen=True)
class Case:
    """A model and its input.

    Attributes:
        build: makes the model.
        spec: its input.
        exact: the Program fires as the float model, bit for bit, not only the layer graph.
    """

    build: Callable[[], nn.Module]
    spec: InputSpec = IMAGE
    exact: bool = True


class Calls(nn.Module):
    """``function`` of spikes, and perhaps layers that read it."""

    def __init__(self, function: Callable[[Tensor], Tensor], before: nn.Module, after: nn.Module | None = None) -> None:
        super().__init__()
        self.before, self.after, self.function = before, after, function

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.function(self.before(x))
        if self.after is not None:
            y = self.after(y)
        return y


class Repeated(nn.Module):
    """Multi-step layers behind ``function``, which repeats a frame over time, as in SpikingJelly's tutorials."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.function = multi(), function

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(self.function(x)).mean(0)
        return y


def fire(mode: str = "s", threshold: float = 1.0) -> nn.Module:
    made: nn.Module = neuron.IFNode(threshold, surrogate_function=surrogate.ATan(), step_mode=mode)
    return made


def conv(mode: str = "s", inputs: int = 2, outputs: int = 4) -> nn.Module:
    made: nn.Module = layer.Conv2d(inputs, outputs, 3, padding=1, step_mode=mode)
    return made


def spikes(mode: str = "s") -> nn.Sequential:
    return nn.Sequential(conv(mode), fire(mode))


def read(mode: str = "s", features: int = 144) -> nn.Sequential:
    return nn.Sequential(layer.Linear(features, 5, step_mode=mode), fire(mode))


def between(*layers: nn.Module, features: int = 144) -> nn.Module:
    """Single-step layers between spikes and a Linear."""
    return nn.Sequential(spikes(), *layers, nn.Flatten(), read(features=features))


def multi(*layers: nn.Module, features: int = 144) -> nn.Module:
    """The same of multi-step layers."""
    return nn.Sequential(spikes("m"), *layers, layer.Flatten(step_mode="m"), read("m", features))


def blocks(*chosen: Callable[[Any], nn.Module]) -> Callable[[], nn.Module]:
    """SLAYER blocks, each made from the package `slayer.block.cuba`."""

    def build() -> nn.Module:
        import_cuba()  # says so where lava-dl is missing
        from lava.lib.dl.slayer.block import cuba

        torch.manual_seed(5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deprecates the weight_norm that SLAYER uses
            return nn.Sequential(*(make(cuba) for make in chosen))

    return build


def slayer_neuron() -> nn.Module:
    """A neuron by itself, on the input."""
    return nn.Sequential(import_cuba().Neuron(2.5, 0.5, 0.25))


CUBA = {"threshold": 0.5, "current_decay": 0.5, "voltage_decay": 0.1}
LEAKY_POOL = {"threshold": 1.2, "current_decay": 0.9, "voltage_decay": 0.3}


def first(cuba: Any) -> nn.Module:
    made: nn.Module = cuba.Conv(CUBA, 2, 4, 3, padding=1, weight_scale=3, weight_norm=True)
    return made


def dense(cuba: Any, features: int = 144) -> nn.Module:
    made: nn.Module = cuba.Dense(CUBA, features, 5, weight_scale=2)
    return made


def view(x: Tensor) -> Tensor:
    n, c, _, w = x.shape
    return x.view(n, c, -1, w).view(x.size(0), -1)


def over_time(function: Callable[[Tensor], Tensor]) -> Callable[[], nn.Module]:
    return lambda: Calls(function, spikes("m"))


SLAYER = "lava.lib.dl.slayer."
JELLY = "spikingjelly.activation_based."

PLAIN: dict[Any, Case] = {
    nn.Linear: Case(lambda: nn.Sequential(nn.Linear(12, 8), fire(), nn.Linear(8, 5), fire()), FEATURES),
    nn.BatchNorm1d: Case(lambda: nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), fire()), FEATURES),
    nn.AdaptiveAvgPool2d: Case(lambda: between(nn.AdaptiveAvgPool2d((3, None)), fire(threshold=0.5), features=72)),
    nn.MaxPool2d: Case(lambda: between(nn.MaxPool2d(3, 2, 1), features=36)),
    nn.Dropout: Case(lambda: between(nn.Dropout())),
    nn.Dropout2d: Case(lambda: between(nn.Dropout2d())),
    nn.Flatten: Case(between),
    nn.Unflatten: Case(
        lambda: nn.Sequential(nn.Linear(12, 32), fire(), nn.Unflatten(1, (2, 4, 4)), conv(), fire()), FEATURES
    ),
    torch.flatten: Case(lambda: Calls(lambda x: torch.flatten(x, 1), spikes(), read())),
    torch.reshape: Case(lambda: Calls(lambda x: torch.reshape(x, (-1, 144)), spikes(), read())),
    torch.mean: Case(over_time(lambda x: torch.mean(x, 0))),
    torch.sum: Case(over_time(lambda x: torch.sum(x, dim=0))),
    "Tensor.flatten": Case(lambda: Calls(lambda x: x.flatten(start_dim=1), spikes(), read())),
    "Tensor.reshape": Case(lambda: Calls(lambda x: x.reshape(x.shape[0], -1), spikes(), read())),
    "Tensor.view": Case(lambda: Calls(view, spikes(), read())),
    "Tensor.mean": Case(over_time(lambda x: x.mean(0))),
    "Tensor.sum": Case(over_time(lambda x: x.sum(dim=0))),
    "Tensor.unsqueeze": Case(lambda: Repeated(lambda x: x.unsqueeze(dim=0).repeat(T, 1, 1, 1, 1))),
    "Tensor.repeat": Case(lambda: Repeated(lambda x: x.unsqueeze(0).repeat([T, 1, 1, 1, 1]))),
    "Tensor.expand": Case(lambda: Repeated(lambda x: x.unsqueeze(0).expand(T, -1, -1, 6, 6))),
    f"{SLAYER}block.cuba.Conv": Case(
        blocks(first, lambda c: c.Conv(CUBA, 4, 2, (3, 2), (1, 2), (2, 0), (2, 1), 2, weight_scale=4)), STREAMED
    ),
    f"{SLAYER}block.cuba.ConvT": Case(
        blocks(first, lambda c: c.ConvT(CUBA, 4, 4, 4, 2, 1, groups=2, weight_scale=3, delay_shift=False)), STREAMED
    ),
    f"{SLAYER}block.cuba.Dense": Case(blocks(first, lambda c: c.Flatten(), dense), STREAMED),
    f"{SLAYER}block.cuba.Pool": Case(
        blocks(lambda c: c.Conv(CUBA, 2, 4, 2, weight_scale=4), lambda c: c.Pool(LEAKY_POOL, 2)), STREAMED
    ),
    f"{SLAYER}block.cuba.Unpool": Case(
        blocks(lambda c: c.Pool(CUBA, (2, 3)), lambda c: c.Unpool(CUBA, 2, weight_scale=0.6)), STREAMED
    ),
    f"{SLAYER}block.cuba.Flatten": Case(blocks(lambda c: c.Flatten(), lambda c: dense(c, 72)), STREAMED),
    f"{SLAYER}neuron.cuba.Neuron": Case(slayer_neuron, STREAMED),
    f"{JELLY}neuron.IFNode": Case(lambda: nn.Sequential(spikes("m"), conv("m", 4, 2), fire("m", 0.5))),
    f"{JELLY}neuron.LIFNode": Case(
        lambda: nn.Sequential(
            conv(), neuron.LIFNode(2.0), conv(inputs=4), neuron.LIFNode(4.0, decay_input=False, v_threshold=0.75)
        ),
        exact=False,
    ),
    f"{JELLY}neuron.ParametricLIFNode": Case(lambda: nn.Sequential(conv(), neuron.ParametricLIFNode(2.0)), exact=False),
    f"{JELLY}layer.Conv2d": Case(multi),
    f"{JELLY}layer.ConvTranspose2d": Case(
        lambda: multi(layer.ConvTranspose2d(4, 2, 2, 2, step_mode="m"), fire("m"), features=288)
    ),
    f"{JELLY}layer.Linear": Case(multi),
    f"{JELLY}layer.BatchNorm2d": Case(lambda: nn.Sequential(conv("m"), layer.BatchNorm2d(4, step_mode="m"), fire("m"))),
    f"{JELLY}layer.BatchNorm1d": Case(lambda: nn.Sequential(nn.Linear(12, 8), layer.BatchNorm1d(8), fire()), FEATURES),
    f"{JELLY}layer.AvgPool2d": Case(lambda: multi(layer.AvgPool2d(2, step_mode="m"), fire("m", 0.5), features=36)),
    f"{JELLY}layer.AdaptiveAvgPool2d": Case(
        lambda: multi(layer.AdaptiveAvgPool2d((3, 3), step_mode="m"), fire("m", 0.5), features=36)
    ),
    f"{JELLY}layer.MaxPool2d": Case(lambda: multi(layer.MaxPool2d(2, step_mode="m"), features=36)),
    f"{JELLY}layer.Flatten": Case(multi),
    f"{JELLY}layer.Dropout": Case(lambda: multi(layer.Dropout(step_mode="m"))),
    f"{JELLY}layer.Dropout2d": Case(lambda: multi(layer.Dropout2d(step_mode="m"))),
    f"{JELLY}layer.SeqToANNContainer": Case(
        lambda: nn.Sequential(
            layer.SeqToANNContainer(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)),
            fire("m"),
            layer.SeqToANNContainer(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)),
            fire("m"),
        )
    ),
    f"{JELLY}layer.MultiStepContainer": Case(
        lambda: layer.MultiStepContainer(nn.Conv2d(2, 4, 3), fire(), nn.Flatten(), nn.Linear(64, 3), fire())
    ),
}
