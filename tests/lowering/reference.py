"""Slow, direct evaluation in float64 of what the passes rewrite: layer graphs, composed networks and single kernels.

Weights and inputs in the tests lie on a dyadic grid, so that every sum is exact in float64 and results must be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from spikegen.lowering.graph import (
    AddOp,
    ConcatOp,
    ConditionOp,
    ConvOp,
    GainOp,
    InputOp,
    LayerGraph,
    NeuronOp,
    NormOp,
    Op,
    ReadoutOp,
    UpsampleOp,
)
from spikegen.lowering.kernels import Kernel
from spikegen.lowering.network import FloatNetwork
from spikegen.models.hard_reset import HardResetNeuron
from spikegen.models.neuron import SpikingNeuron

STATE_UNITS = 1 << 12  # SLAYER keeps its state in whole multiples of 1/4096

Values: TypeAlias = dict[str, Tensor]  # float64 [N, T, C, H, W]
Images: TypeAlias = npt.NDArray[np.float64]


def neuron(current: Tensor, threshold: float, du: int, dv: int) -> Tensor:
    """Spikes of SLAYER's CUBA neuron for ``current`` [N, T, ...]: integer states, rounded toward zero."""
    units = torch.trunc(current * STATE_UNITS)
    u = v = torch.zeros_like(units[:, 0])
    spikes = []
    for t in range(units.shape[1]):
        u = torch.trunc(u * (STATE_UNITS - du - 1) / STATE_UNITS) + units[:, t]
        v = torch.trunc(v * (STATE_UNITS - dv) / STATE_UNITS) + u
        fired = v > threshold * STATE_UNITS
        v = torch.where(fired, 0.0, v)
        spikes.append(fired)
    return torch.stack(spikes, dim=1).double()


def hard_reset(current: Tensor, threshold: float, du: int, dv: int) -> Tensor:
    """The same for a neuron whose state is not rounded and whose current does not last (du = 4095)."""
    assert du == 4095
    v = torch.zeros_like(current[:, 0])
    spikes = []
    for t in range(current.shape[1]):
        v = v * (STATE_UNITS - dv) / STATE_UNITS + current[:, t]
        fired = v > threshold
        v = torch.where(fired, 0.0, v)
        spikes.append(fired)
    return torch.stack(spikes, dim=1).double()


def repeated(images: Images, timesteps: int) -> Tensor:
    """The image at every timestep; what is streamed as it is."""
    frames = torch.from_numpy(images)
    return frames if frames.dim() == 5 else frames[:, None].expand(-1, timesteps, -1, -1, -1)


Neuron: TypeAlias = Callable[[Tensor, float, int, int], Tensor]


def run_graph(graph: LayerGraph, images: Images, step: int = 0, fire: Neuron = neuron) -> Values:
    """Every value of a layer graph, operation by operation."""
    values: Values = {}
    for op in graph.ops:
        if isinstance(op, InputOp):
            values[op.name] = repeated(images, graph.timesteps)
        else:
            values[op.name] = _operation(op, [values[name] for name in op.inputs], step, fire)
    return values


def _operation(  # noqa: PLR0911 - one line for each operation
    op: Op, inputs: Sequence[Tensor], step: int, fire: Neuron
) -> Tensor:
    x = inputs[0]
    match op:
        case ConvOp():
            weight = torch.from_numpy(op.weight)
            y = functional.conv2d(x.flatten(0, 1), weight, None, op.stride, op.padding, op.dilation, op.groups)
            by_time: Tensor = functional.pixel_shuffle(y, op.shuffle).unflatten(0, x.shape[:2])
            return _gained(by_time, op.gains) + _per_channel(op.bias)
        case GainOp():
            return _gained(x, op.gains)
        case NormOp():
            return x * _per_channel(op.scale) + _per_channel(op.shift)
        case UpsampleOp():
            return x.repeat_interleave(op.factor, dim=-1).repeat_interleave(op.factor, dim=-2)
        case AddOp():
            return x + inputs[1]
        case ConcatOp():
            return torch.cat(list(inputs), dim=2)
        case ConditionOp():
            return x + _per_channel(op.table[step])
        case NeuronOp():
            return fire(x, op.threshold, op.du, op.dv)
        case ReadoutOp():
            return x
    raise AssertionError(op)


def _per_channel(values: npt.NDArray[np.float64]) -> Tensor:
    """Values [C], or [T, C]."""
    return torch.from_numpy(values)[..., None, None]


def _gained(x: Tensor, gains: npt.NDArray[np.float64] | None) -> Tensor:
    """``x`` [N, T, C, H, W] times the gain of each timestep."""
    return x if gains is None else x * torch.from_numpy(gains)[:, None, None, None]


def apply(kernel: Kernel, x: Tensor) -> Tensor:
    """``kernel`` on messages [B, C, H, W]."""
    if kernel.weight is None:
        return x.repeat_interleave(kernel.upsample, dim=-1).repeat_interleave(kernel.upsample, dim=-2)
    weight = torch.from_numpy(kernel.weight)
    y = functional.conv2d(x, weight, None, kernel.stride, kernel.padding, kernel.dilation, kernel.groups)
    return functional.pixel_shuffle(y, kernel.shuffle)


def run_network(network: FloatNetwork, images: Images, step: int = 0, fire: Neuron = neuron) -> Values:
    """Messages of every node of a composed network, and the currents (with bias) of its readouts."""
    values: Values = {"input": repeated(images, network.timesteps)}
    for population in network.populations:
        frames = (len(images), network.timesteps)
        current = torch.zeros(*frames, *population.shape, dtype=torch.float64)
        for p in network.projections:
            if p.target == population.name:
                part = apply(p.kernel, values[p.source].flatten(0, 1)).unflatten(0, frames)
                assert part.shape == current.shape, p.name
                current = current + _gained(part, p.kernel.gains)
        bias = population.bias if population.table is None else population.bias + population.table[step]
        current = current + _per_channel(bias)
        values[population.name] = current if population.neuron is None else fire(current, *population.neuron)
    return values


def model_spikes(model: torch.nn.Module, images: Images, step: int | None = None) -> tuple[dict[str, Tensor], Tensor]:
    """Spikes of every neuron layer [N, T, C, H, W], and the output, of a torch model in double precision.

    ``step`` is None for a model that does not take it.
    """
    spikes: dict[str, Tensor] = {}

    def keep(name: str) -> None:
        def hook(layer: torch.nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
            assert isinstance(layer, SpikingNeuron | HardResetNeuron)
            spikes[name] = output.unflatten(0, (layer.timesteps, -1)).transpose(0, 1)

        model.get_submodule(name).register_forward_hook(hook)

    for name, module in model.named_modules():
        if isinstance(module, SpikingNeuron | HardResetNeuron):
            keep(name)
    with torch.no_grad():
        arguments = [] if step is None else [torch.full((len(images),), step)]
        output = model.eval().double()(torch.from_numpy(images), *arguments)
    return spikes, output
