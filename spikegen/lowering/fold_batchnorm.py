"""Pass: fold every BatchNorm into the convolution before it."""

from __future__ import annotations

import dataclasses

import numpy as np

from spikegen.lowering.graph import ConvOp, LayerGraph, NormOp, Op


def fold_batchnorm(graph: LayerGraph) -> LayerGraph:
    """``graph`` without :class:`NormOp`.

    ``scale * (W x + b) + shift = (scale W) x + (scale b + shift)``. A norm whose input is no convolution, or a
    convolution that something else reads too, becomes a 1x1 convolution of one channel per group.
    """
    renamed: dict[str, str] = {}
    ops: dict[str, Op] = {}
    for original in graph.ops:
        op = dataclasses.replace(original, inputs=tuple(renamed.get(name, name) for name in original.inputs))
        if isinstance(op, NormOp):
            before = ops[op.inputs[0]]
            if isinstance(before, ConvOp) and len(graph.consumers(original.inputs[0])) == 1:
                weight = before.weight * np.repeat(op.scale, before.shuffle**2)[:, None, None, None]
                ops[before.name] = dataclasses.replace(before, weight=weight, bias=before.bias * op.scale + op.shift)
                renamed[op.name] = before.name
                continue
            channels = op.shape[0]
            weight = np.reshape(op.scale, (channels, 1, 1, 1))
            op = ConvOp(op.name, op.inputs, op.shape, weight, op.shift, groups=channels)
        ops[op.name] = op
    return LayerGraph(graph.timesteps, graph.steps, tuple(ops.values()))
