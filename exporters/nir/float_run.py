"""A layer graph of NIR in float64: what the frameworks compute, with decays that are not rounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from spikegen.errors import LoweringError
from spikegen.exporters.nir.walk import Walked
from spikegen.lowering.graph import AddOp, ConvOp, FloatArray, InputOp, NeuronOp, NormOp, Op, ReadoutOp
from spikegen.simulator.delays import late

Keep: TypeAlias = Callable[[str, Tensor], None]


def run_float(walked: Walked, frames: FloatArray, keep: Keep) -> Mapping[str, FloatArray]:
    """Evaluate ``walked`` on real inputs.

    Args:
        walked: a NIR graph.
        frames: float64 [N, C, H, W], repeated at every timestep, or [N, T, C, H, W].
        keep: gets the name and the spikes as they are sent, behind delays, float64 [N, T, C, H, W], of every neuron.

    Returns:
        readout -> float64 [N, T, C, H, W], what it reads at every timestep.
    """
    graph = walked.graph
    left = {op.name: len(graph.consumers(op.name)) for op in graph.ops}
    values: dict[str, Tensor] = {}
    outputs: dict[str, FloatArray] = {}
    for op in graph.ops:
        if isinstance(op, InputOp):
            given = torch.from_numpy(frames)
            values[op.name] = given if given.ndim == 5 else given[:, None].expand(-1, graph.timesteps, -1, -1, -1)
            continue
        inputs = [values[name] for name in op.inputs]
        for name in op.inputs:
            left[name] -= 1
            if not left[name]:
                del values[name]
        if isinstance(op, ReadoutOp):
            outputs[op.name] = inputs[0].numpy()
        elif isinstance(op, NeuronOp):
            bias = 0.0 if op.bias is None else torch.from_numpy(op.bias)[:, None, None]
            fired = _fired(inputs[0], op.threshold, bias, *walked.decays[op.name])
            values[op.name] = late(fired, op.delays, time=1)
            keep(op.name, values[op.name])
        else:
            values[op.name] = _linear(op, inputs)
    return outputs


def _linear(op: Op, inputs: list[Tensor]) -> Tensor:
    x = inputs[0]
    match op:
        case ConvOp():
            weight, bias = torch.from_numpy(op.weight), torch.from_numpy(op.bias)
            flat = functional.conv2d(x.flatten(0, 1), weight, bias, op.stride, op.padding, op.dilation, op.groups)
            by_time: Tensor = flat.unflatten(0, x.shape[:2])
            return by_time
        case NormOp():
            return x * torch.from_numpy(op.scale)[:, None, None] + torch.from_numpy(op.shift)[:, None, None]
        case AddOp():
            return x + inputs[1]
    raise LoweringError(f"{op.name}: {type(op).__name__} is no operation of NIR")


def _fired(current: Tensor, threshold: float, bias: Tensor | float, fade: float, leak: float) -> Tensor:
    """Spikes of neurons for ``current`` [N, T, ...] that lose ``fade`` of u, ``leak`` of v and add ``bias``."""
    u = v = torch.zeros_like(current[:, 0])
    spikes = torch.empty_like(current, memory_format=torch.contiguous_format)
    for t in range(current.shape[1]):
        u = u * (1.0 - fade) + current[:, t]
        v = v * (1.0 - leak) + u + bias
        fired = v > threshold
        spikes[:, t] = fired
        v = v.masked_fill(fired, 0.0)
    return spikes
