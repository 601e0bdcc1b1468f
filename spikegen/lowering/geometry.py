"""Convolutions, pools and changes of shape as operations, whichever library the layer is of."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from spikegen.lowering.calls import Call, refusal
from spikegen.lowering.graph import ConvOp, FloatArray, NeuronOp, Op, Shape
from spikegen.program.numerics import DECAY_MAX

Pair = tuple[int, int]
_RECTANGLES_MAX = 1 << 24  # weights of the kernel that spreads features
_ONE_SPIKE = 0.5  # a threshold between no spike and one


def conv(
    call: Call,
    source: Op,
    weight: FloatArray,
    bias: FloatArray,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> ConvOp:
    """The convolution of ``source`` with ``weight`` float64 [out, in / groups, kh, kw]."""
    if weight.shape[1] * groups != source.shape[0]:
        raise refusal(call, f"it reads {weight.shape[1] * groups} channels, {source.name} has {source.shape[0]}")
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(source.shape[1:], weight.shape[2:], stride, padding, dilation, strict=True)
    ]
    if min(size) < 1:
        raise refusal(call, f"its output would have {size[0]} x {size[1]} pixels; use more padding or a smaller kernel")
    shape = (len(weight), size[0], size[1])
    return ConvOp(call.name, (source.name,), shape, weight, bias, stride, padding, dilation, groups)


def linear(call: Call, source: Op, weight: FloatArray, bias: FloatArray) -> ConvOp:
    """``weight`` float64 [out, features] on the features of ``source``: a kernel as large as the source."""
    if not source.flat:
        raise refusal(call, f"it reads {source.shape}, not features; flatten them before it")
    if weight.shape[1] != math.prod(source.shape):
        raise refusal(call, f"it reads {weight.shape[1]} features, {source.name} has {math.prod(source.shape)}")
    kernel = weight.reshape(len(weight), *source.shape)
    return ConvOp(call.name, (source.name,), (len(weight), 1, 1), kernel, bias, flat=True)


def mean_pool(call: Call, source: Op, kernel: Pair, stride: Pair) -> ConvOp:
    """The mean of every window, without padding."""
    channels, height, width = source.shape
    size = ((height - kernel[0]) // stride[0] + 1, (width - kernel[1]) // stride[1] + 1)
    if min(size) < 1:
        raise refusal(call, f"its output would have {size[0]} x {size[1]} pixels; use a smaller kernel")
    weight = np.full((channels, 1, *kernel), 1.0 / math.prod(kernel))
    return ConvOp(call.name, (source.name,), (channels, *size), weight, np.zeros(channels), stride, groups=channels)


def any_spike(
    call: Call, source: Op, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> tuple[ConvOp, NeuronOp]:
    """The largest of every window of spikes: a neuron that fires where there is one.

    Its membrane is 0 after every timestep: the input is never negative, and what is above the threshold is reset.
    """
    channels = source.shape[0]
    ones, none = np.ones((channels, 1, *kernel)), np.zeros(channels)
    summed = conv(
        dataclasses.replace(call, name=f"{call.name}.sum"), source, ones, none, stride, padding, dilation, channels
    )
    return summed, spike_copy(call.name, summed)


def reshaped(call: Call, source: Op, shape: tuple[int, ...]) -> Op | tuple[Op, ...]:
    """The value of ``source`` as features, (F,), or as pixels, (C, H, W), in the same order."""
    if math.prod(shape) != math.prod(source.shape):
        raise refusal(call, f"{source.shape} has {math.prod(source.shape)} numbers, {shape} {math.prod(shape)}")
    if len(shape) == 1:
        return dataclasses.replace(source, flat=True)
    if len(shape) != 3:
        raise refusal(call, f"the shape {shape} is neither features nor (channels, height, width)")
    if shape == source.shape:
        return dataclasses.replace(source, flat=False)
    channels, height, width = shape
    if source.shape[1:] != (1, 1):
        raise refusal(
            call, f"{source.shape} to {shape}: pixels become other pixels by way of a Linear and a neuron only"
        )
    if source.spikes:
        moved = _squares(call, source, shape) if height == width else _rectangles(call, source, shape)
        return moved, spike_copy(call.name, moved)
    if height == width and isinstance(source, ConvOp) and source.shuffle == 1 and source.gains is None:
        bias = source.bias.reshape(channels, -1)
        if (bias == bias[:, :1]).all():
            return dataclasses.replace(
                source, name=call.name, shape=shape, bias=bias[:, 0], shuffle=height, flat=False, spikes=False, lag=0
            )
    raise refusal(call, "only spikes become pixels, and squares of a Linear without a bias; put a neuron before it")


def _squares(call: Call, features: Op, shape: Shape) -> ConvOp:
    """Features as squares of pixels: each channel of one pixel is moved by the sub-pixel shuffle."""
    count = features.shape[0]
    ones, none = np.ones((count, 1, 1, 1)), np.zeros(shape[0])
    return ConvOp(f"{call.name}.shuffle", (features.name,), shape, ones, none, groups=count, shuffle=shape[1])


def _rectangles(call: Call, features: Op, shape: Shape) -> ConvOp:
    """Features as any pixels: the one pixel meets every tap of a kernel as large as the pixels, turned around."""
    channels, height, width = shape
    pixels = height * width
    if channels * pixels**2 > _RECTANGLES_MAX:
        needed = f"{channels * pixels**2} weights to become {shape}, which is no square, limit is {_RECTANGLES_MAX}"
        raise refusal(call, f"its features take {needed}; use squares")
    taps = np.eye(pixels).reshape(height, width, pixels)[::-1, ::-1].transpose(2, 0, 1)  # [feature, row, column]
    weight = np.broadcast_to(taps, (channels, *taps.shape)).copy()
    none, padding = np.zeros(channels), (height - 1, width - 1)
    return ConvOp(f"{call.name}.spread", (features.name,), shape, weight, none, padding=padding, groups=channels)


def spike_copy(name: str, source: Op) -> NeuronOp:
    """A neuron that fires where ``source``, a sum of spikes, is not 0."""
    return NeuronOp(name, (source.name,), source.shape, _ONE_SPIKE, DECAY_MAX, 0)
