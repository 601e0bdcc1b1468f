"""Random layer graphs with dyadic weights, and random images for them."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt

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
from spikegen.lowering.transposed import transposed_conv

KINDS = (
    "conv",
    "conv",
    "conv",
    "transposed",
    "transposed",
    "neuron",
    "neuron",
    "norm",
    "gain",
    "gain",
    "upsample",
    "add",
    "concat",
    "condition",
)
SIZE_MAX = 12
Floats = npt.NDArray[np.float64]


def dyadic(rng: np.random.Generator, *shape: int, largest: int = 8, unit: float = 1 / 8) -> Floats:
    """Random multiples of ``unit``."""
    return rng.integers(-largest, largest + 1, shape) * unit


def images_for(rng: np.random.Generator, shape: tuple[int, int, int], count: int = 2) -> Floats:
    """Images float64 [N, C, H, W] of multiples of 1/8 in [-2, 2]."""
    return dyadic(rng, count, *shape, largest=16)


class _Builder:
    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="weights"))
        self.steps, self.timesteps = draw(st.integers(1, 2)), draw(st.integers(1, 5))
        shape = (draw(st.integers(1, 2)), draw(st.sampled_from((3, 4, 6))), draw(st.sampled_from((4, 6))))
        self.ops: list[Op] = [InputOp("input", (), shape)]

    def source(self) -> Op:
        return self.ops[-1] if self.draw(st.integers(0, 2)) else self.draw(st.sampled_from(self.ops))

    def bias(self, channels: int) -> Floats:
        return dyadic(self.rng, channels) if self.draw(st.booleans(), label="bias") else np.zeros(channels)

    def conv(self, name: str, source: Op) -> Op | None:
        draw, (channels, *size) = self.draw, source.shape
        kernel, stride = draw(st.sampled_from((1, 1, 2, 3, 3, 5))), draw(st.sampled_from((1, 1, 2)))
        padding, dilation = draw(st.sampled_from((kernel // 2, 0, 1))), draw(st.sampled_from((1, 1, 2)))
        out = draw(st.integers(1, 3)) * channels if draw(st.booleans(), label="groups") else draw(st.integers(1, 3))
        groups = channels if out % channels == 0 and draw(st.booleans()) else 1
        height, width = ((n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for n in size)
        if height < 1 or width < 1 or out > 6:
            return None
        weight = dyadic(self.rng, out, channels // groups, kernel, kernel)
        geometry = ((stride,) * 2, (padding,) * 2, (dilation,) * 2)
        return ConvOp(name, (source.name,), (out, height, width), weight, self.bias(out), *geometry, groups)

    def transposed(self, name: str, source: Op) -> Op | None:
        draw, (channels, height, width) = self.draw, source.shape
        stride, kernel = draw(st.sampled_from((1, 2, 2, 3))), draw(st.integers(1, 4))
        padding, dilation = draw(st.integers(0, 1)), draw(st.sampled_from((1, 1, 2)))
        groups = draw(st.sampled_from((1, channels)))
        sizes = [(n - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 for n in (height, width)]
        extra = [-size % stride for size in sizes]  # makes the output a whole number of blocks
        out = draw(st.integers(1, 2)) * groups
        if min(sizes) < 1 or max(sizes) + max(extra) > SIZE_MAX or out > 6:
            return None
        weight = dyadic(self.rng, channels, out // groups, kernel, kernel)
        pairs = (stride,) * 2, (padding,) * 2, (extra[0], extra[1]), (dilation,) * 2
        return transposed_conv(name, source, weight, self.bias(out), *pairs, groups)

    def operation(self, kind: str, name: str, source: Op) -> Op | None:  # noqa: PLR0911 - one line for each kind
        draw, inputs, shape = self.draw, (source.name,), source.shape
        if kind == "conv":
            return self.conv(name, source)
        if kind == "transposed":
            return self.transposed(name, source)
        if kind == "neuron":
            du, dv = draw(st.sampled_from((4095, 4095, 1023))), draw(st.sampled_from((0, 0, 2048)))
            return NeuronOp(name, inputs, shape, draw(st.sampled_from((0.5, 1.0, 3.0))), du, dv)
        if kind == "norm":
            return NormOp(name, inputs, shape, 2.0 ** self.rng.integers(-1, 2, shape[0]), self.bias(shape[0]))
        if kind == "gain":
            return GainOp(name, inputs, shape, dyadic(self.rng, self.timesteps, largest=4, unit=1 / 2))
        if kind == "upsample":
            factor = draw(st.sampled_from((2, 2, 3)))
            enlarged = (shape[0], shape[1] * factor, shape[2] * factor)
            return UpsampleOp(name, inputs, enlarged, factor) if max(enlarged[1:]) <= SIZE_MAX else None
        if kind == "condition":
            return ConditionOp(name, inputs, shape, dyadic(self.rng, self.steps, shape[0]))
        if kind == "add":
            other = draw(st.sampled_from([op for op in self.ops if op.shape == shape]))
            return AddOp(name, (source.name, other.name), shape)
        other = draw(st.sampled_from([op for op in self.ops if op.shape[1:] == shape[1:]]))
        channels = shape[0] + other.shape[0]
        return ConcatOp(name, (source.name, other.name), (channels, *shape[1:])) if channels <= 6 else None


@st.composite
def graphs(draw: st.DrawFn) -> LayerGraph:
    """A layer graph of 3 to 12 operations that ends in a neuron, a convolution and a readout."""
    builder = _Builder(draw)
    for index in range(draw(st.integers(3, 10))):
        kind = draw(st.sampled_from(KINDS))
        op = builder.operation(kind, f"{kind}{index}", builder.source())
        if op is not None:
            builder.ops.append(op)
    last = builder.ops[-1]
    fire = NeuronOp("last", (last.name,), last.shape, 1.0, 4095, 0)
    weight = dyadic(builder.rng, 2, last.shape[0], 1, 1)
    tail = ConvOp("tail", ("last",), (2, *last.shape[1:]), weight, dyadic(builder.rng, 2))
    readout = ReadoutOp("readout", ("tail",), tail.shape, 0.5 ** np.arange(builder.timesteps)[::-1])
    return LayerGraph(builder.timesteps, builder.steps, (*builder.ops, fire, tail, readout))
