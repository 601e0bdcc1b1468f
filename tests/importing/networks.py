"""Random networks of the authors that fire, and the spikes of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.base import MemoryModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikegen.models.hard_reset import HardResetNeuron


def randomised(network: nn.Module, run: Callable[[], Any], seed: int = 0) -> None:
    """Random parameters, and BatchNorm statistics of a ``run`` of the network, so that its populations fire.

    Gains, scales and shifts are far from 1 and 0, so that a tensor in the wrong place changes the result.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, like: Tensor) -> Tensor:
        return torch.empty_like(like).uniform_(low, high, generator=generator)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.weight.copy_(uniform(0.6, 1.4, module.weight))
                module.bias.copy_(uniform(0.1, 0.7, module.bias))
                module.momentum = 1.0
            elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Conv3d | nn.Linear):
                assert module.bias is not None
                module.bias.copy_(uniform(-0.3, 0.3, module.bias))
        for name, parameter in network.named_parameters():
            if name.endswith("tsmp"):
                parameter.copy_(uniform(0.5, 1.5, parameter))
            elif name.endswith("alpha"):
                parameter.fill_(0.3)
        network.train()
        run()
        network.eval()
        functional.reset_net(network)
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.add_(uniform(-0.1, 0.1, module.running_mean))
                module.running_var.mul_(uniform(0.8, 1.2, module.running_var))


@contextmanager
def recorded(network: nn.Module) -> Iterator[list[Tensor]]:
    """The spikes of every neuron layer, (T * N, C, H, W), in the order in which they are computed."""
    spikes: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: spikes.append(output))
        for module in network.modules()
        if isinstance(module, HardResetNeuron | MemoryModule)
    ]
    functional.reset_net(network)
    try:
        with torch.no_grad():
            yield spikes
    finally:
        for hook in hooks:
            hook.remove()


def assert_equal_spikes(ours: list[Tensor], theirs: list[Tensor]) -> None:
    """Every population fires somewhere, is silent somewhere, and fires where the authors' does."""
    assert len(ours) == len(theirs) > 0
    for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert 0.001 < float(b.mean()) < 0.999, f"population {index} fires at {float(b.mean())}"
        assert torch.equal(a, b.flatten(0, 1)), f"population {index}"
