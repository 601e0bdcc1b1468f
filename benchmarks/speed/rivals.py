"""The same network on other neurons: SLAYER's (lava-dl) and SpikingJelly's, in the float model's own graph."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from spikingjelly.activation_based.neuron import IFNode, LIFNode
from torch import Tensor, nn

from spikegen.models.hard_reset import HardResetNeuron
from spikegen.models.neuron import SpikingNeuron


class SpikingJellyNeuron(nn.Module):
    """SpikingJelly's node in multi-step mode (torch backend), SNN time folded into the batch around it.

    Convolutions and BatchNorm of SpikingJelly in multi-step mode fold time into the batch as well
    (``activation_based/functional.py``, ``seq_to_ann_forward``), so the rest of the graph is what it would run.
    """

    def __init__(self, neuron: HardResetNeuron) -> None:
        super().__init__()
        self.timesteps = neuron.timesteps
        kind = {"v_threshold": neuron.threshold, "v_reset": 0.0, "step_mode": "m", "backend": "torch"}
        decay = neuron.voltage_decay
        self.node = LIFNode(tau=1 / decay, decay_input=neuron.decay_input, **kind) if decay else IFNode(**kind)

    def forward(self, x: Tensor) -> Tensor:
        self.node.reset()
        spikes: Tensor = self.node(x.unflatten(0, (self.timesteps, -1)))
        return spikes.flatten(0, 1)


def slayer(neuron: HardResetNeuron) -> nn.Module:
    """The CUBA neuron of lava-dl with the same threshold and decay."""
    gain = neuron.voltage_decay if neuron.decay_input else 1.0
    return SpikingNeuron(neuron.timesteps, neuron.threshold, voltage_decay=neuron.voltage_decay, gain=gain)


RIVALS: dict[str, Callable[[HardResetNeuron], nn.Module]] = {"SLAYER": slayer, "SpikingJelly": SpikingJellyNeuron}


def with_neurons(model: nn.Module, make: Callable[[HardResetNeuron], nn.Module]) -> nn.Module:
    """A copy of ``model`` with the same weights and other neurons."""
    twin = copy.deepcopy(model)
    for name, module in list(twin.named_modules()):
        if isinstance(module, HardResetNeuron):
            parent, _, child = name.rpartition(".")
            setattr(twin.get_submodule(parent), child, make(module))
    return twin.eval()


def forward(model: nn.Module, x: Tensor, t: Tensor) -> Tensor:
    """One evaluation without gradients."""
    with torch.inference_mode():
        noise: Tensor = model(x, t)
    return noise
