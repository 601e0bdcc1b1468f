"""Pass: fold every BatchNorm and every gain of TSM into the convolution before it."""

from __future__ import annotations

import dataclasses

import numpy as np

from spikegen.lowering.graph import ConvOp, GainOp, LayerGraph, NormOp, Op


def fold_batchnorm(graph: LayerGraph) -> LayerGraph:
    """``graph`` without :class:`NormOp` and :class:`GainOp`.

    ``scale * (W x + b) + shift = (scale W) x + (scale b + shift)`` and ``g[t] (W x + b) = g[t] W x + g[t] b``; so the
    scale of a norm behind a gain is inside of the gain, its shift outside. A norm or gain whose input is no
    convolution, or a convolution that something else reads too, becomes a 1x1 convolution of one channel per group.
    """
    renamed: dict[str, str] = {}
    ops: dict[str, Op] = {}
    for original in graph.ops:
        op = dataclasses.replace(original, inputs=tuple(renamed.get(name, name) for name in original.inputs))
        if isinstance(op, NormOp | GainOp):
            before = ops[op.inputs[0]]
            if isinstance(before, ConvOp) and len(graph.consumers(original.inputs[0])) == 1:
                ops[before.name] = _folded(before, op)
                renamed[op.name] = before.name
                continue
            channels = op.shape[0]
            identity = np.ones((channels, 1, 1, 1))
            op = _folded(ConvOp(op.name, op.inputs, op.shape, identity, np.zeros(channels), groups=channels), op)
        ops[op.name] = op
    return LayerGraph(graph.timesteps, graph.steps, tuple(ops.values()))


def _folded(conv: ConvOp, op: NormOp | GainOp) -> ConvOp:
    """``op`` behind ``conv`` as one convolution; gains that are all equal scale its weights."""
    if isinstance(op, NormOp):
        weight = conv.weight * np.repeat(op.scale, conv.shuffle**2)[:, None, None, None]
        return dataclasses.replace(conv, weight=weight, bias=conv.bias * op.scale + op.shift)
    if (op.gains == op.gains[0]).all():
        return dataclasses.replace(conv, weight=conv.weight * op.gains[0], bias=conv.bias * op.gains[0])
    gains = op.gains if conv.gains is None else conv.gains * op.gains
    return dataclasses.replace(conv, gains=gains, bias=op.gains[:, None] * conv.bias)
