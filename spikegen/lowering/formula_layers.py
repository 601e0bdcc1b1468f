"""The layers of a traced float network as the papers' energy formula counts them."""

from __future__ import annotations

import math

from spikegen.energy.formula import Driven, FormulaLayer
from spikegen.lowering.graph import ConcatOp, ConvOp, InputOp, LayerGraph, NeuronOp, Op, ReadoutOp, UpsampleOp


def formula_layers(graph: LayerGraph, rate: float) -> tuple[FormulaLayer, ...]:
    """Every convolution of ``graph`` with its host tail; ``rate`` is the firing rate of all populations."""
    ops = {op.name: op for op in graph.ops}
    layers = []
    for op in graph.ops:
        pixels = math.prod(op.shape[1:])
        if isinstance(op, ConvOp):
            driven = _driven(ops[op.inputs[0]], ops)
            macs = op.weight.size * pixels // op.shuffle**2
            layers.append(FormulaLayer(op.name, macs, driven, rate if driven is Driven.SPIKES else 0.0))
        elif isinstance(op, ReadoutOp) and op.tail is not None:
            for name, weight in (("conv", op.tail.weight), ("mix", op.tail.mix_weight)):
                layers.append(FormulaLayer(f"{op.name}.{name}", weight.size * pixels, Driven.REAL))
    return tuple(layers)


def _driven(op: Op, ops: dict[str, Op]) -> Driven:
    """What ``op`` delivers; upsampling and concatenation pass spikes on."""
    if isinstance(op, InputOp):
        return Driven.IMAGE
    if isinstance(op, NeuronOp):
        return Driven.SPIKES
    if isinstance(op, UpsampleOp | ConcatOp):
        (first, *others) = {_driven(ops[name], ops) for name in op.inputs}
        return Driven.REAL if others else first
    return Driven.REAL
