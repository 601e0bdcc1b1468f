"""Exact algebra of linear kernels: what a path from one population to another is worth as one convolution.

A kernel maps the messages of a source (C_in, H, W) to currents. It is the identity (optionally followed by a pending
nearest upsampling), or a convolution with an optional sub-pixel shuffle. Every function here is exact, borders
included, or says that it does not apply by returning None.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from spikegen.errors import LoweringError
from spikegen.lowering.graph import ConvOp, FloatArray, Shape


@dataclass(frozen=True, eq=False)
class Kernel:
    """A linear map between (C, H, W) tensors.

    Attributes:
        weight: float64 [out * shuffle^2, in / groups, kh, kw]; None for the identity.
        stride, padding, dilation, groups, shuffle: as in :class:`spikegen.program.Conv`.
        upsample: nearest upsampling that follows an identity (1: none).
        gains: float64 [T], what the messages of each timestep count; None: 1.
    """

    weight: FloatArray | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    shuffle: int = 1
    upsample: int = 1
    gains: FloatArray | None = None

    @property
    def geometry(self) -> tuple[object, ...]:
        """What two kernels must share to be added tap by tap."""
        size = None if self.weight is None else self.weight.shape
        gains = None if self.gains is None else tuple(self.gains)
        return (size, self.stride, self.padding, self.dilation, self.groups, self.shuffle, self.upsample, gains)


def after_identity(kernel: Kernel, conv: ConvOp, weight: FloatArray, groups: int) -> Kernel | None:
    """``conv`` (with ``weight`` for this source) applied to an identity kernel."""
    gains = _product(kernel.gains, conv.gains)
    plain = Kernel(weight, conv.stride, conv.padding, conv.dilation, groups, conv.shuffle, gains=gains)
    if kernel.upsample == 1:
        return plain
    return _upsample_then_conv(kernel.upsample, plain)


def after_conv(kernel: Kernel, conv: ConvOp, weight: FloatArray, groups: int) -> Kernel | None:
    """A 1x1 ``conv`` applied to a convolution: the channels are mixed, the spatial taps stay.

    Exact because a 1x1 convolution without padding reads each pixel alone; anything larger would read pixels across the
    border, where the first convolution would have computed values that zero padding does not have.
    """
    if kernel.weight is None or not _is_pointwise(conv):
        return None
    mix = dense_weight(weight, groups)[:, :, 0, 0]
    first = dense_weight(kernel.weight, kernel.groups)
    pixels = kernel.shuffle**2
    mixed = mix @ first.reshape(first.shape[0] // pixels, -1)  # [out, pixels * in * kh * kw]
    gains = _product(kernel.gains, conv.gains)
    return dataclasses.replace(kernel, weight=mixed.reshape(-1, *first.shape[1:]), groups=1, gains=gains)


def then_upsample(kernel: Kernel, factor: int) -> Kernel | None:
    """Nearest upsampling of a kernel's result: every output repeated in a sub-pixel block."""
    if kernel.weight is None:
        return dataclasses.replace(kernel, upsample=kernel.upsample * factor)
    if kernel.shuffle != 1:
        return None
    return dataclasses.replace(kernel, weight=np.repeat(kernel.weight, factor**2, axis=0), shuffle=factor)


def add_kernels(a: Kernel, b: Kernel) -> Kernel | None:
    """The sum of two kernels from one source as one kernel, or None if their geometry differs.

    Odd kernels of one stride that are centred alike are brought to one size first.
    """
    if a.geometry != b.geometry:
        size = max((k.weight.shape[2] for k in (a, b) if k.weight is not None), default=1)
        a, b = _centred(a, size), _centred(b, size)
    if a.geometry != b.geometry or a.weight is None or b.weight is None:
        return None
    return dataclasses.replace(a, weight=a.weight + b.weight)


def identity_weight(channels: int) -> FloatArray:
    """Weight of the identity as a 1x1 convolution with one channel per group."""
    return np.ones((channels, 1, 1, 1))


def dense_weight(weight: FloatArray | None, groups: int) -> FloatArray:
    """A grouped weight written out with its zeros: [out, in, kh, kw]."""
    if weight is None:
        raise LoweringError("an identity kernel has no weight")
    if groups == 1:
        return weight
    out, inputs, kh, kw = weight.shape
    dense = np.zeros((out, inputs * groups, kh, kw))
    for group in range(groups):
        rows = slice(group * out // groups, (group + 1) * out // groups)
        dense[rows, group * inputs : (group + 1) * inputs] = weight[rows]
    return dense


def mean_fan_out(kernel: Kernel, target: Shape, source: Shape) -> float:
    """Mean number of stored synapses per neuron of the source (borders neglected); used to compare alternatives."""
    if kernel.weight is None:
        return float(kernel.upsample**2)
    return kernel.weight.size * math.prod(target[1:]) / kernel.shuffle**2 / math.prod(source)


def _product(first: FloatArray | None, second: FloatArray | None) -> FloatArray | None:
    """Gains of a path through both."""
    if first is None or second is None:
        return second if first is None else first
    return first * second


def _is_pointwise(conv: ConvOp) -> bool:
    return conv.weight.shape[2:] == (1, 1) and conv.stride == (1, 1) and conv.padding == (0, 0) and conv.shuffle == 1


def _centred(kernel: Kernel, size: int) -> Kernel:
    """``kernel`` with zero taps around it so that it is ``size`` x ``size``, where that changes nothing."""
    if kernel.weight is None or kernel.dilation != (1, 1) or kernel.weight.shape[2] != kernel.weight.shape[3]:
        return kernel
    grow, odd = divmod(size - kernel.weight.shape[2], 2)
    if odd or grow < 0:
        return kernel
    weight = np.pad(kernel.weight, ((0, 0), (0, 0), (grow, grow), (grow, grow)))
    return dataclasses.replace(kernel, weight=weight, padding=(kernel.padding[0] + grow, kernel.padding[1] + grow))


def _upsample_then_conv(factor: int, conv: Kernel) -> Kernel | None:
    """Nearest upsampling by ``factor`` and a convolution of stride 1 that keeps the size, on the small grid.

    Output phase i of the block reads, through tap a, the small pixel at offset floor((i + a - padding) / factor); taps
    with one offset add up. A tap leaves the small grid exactly where it leaves the large one, so borders are exact.
    """
    weight = conv.weight
    if weight is None or conv.stride != (1, 1) or conv.dilation != (1, 1) or conv.shuffle != 1:
        return None
    out, inputs, *kernel = weight.shape
    if any(2 * p != k - 1 for p, k in zip(conv.padding, kernel, strict=True)):
        return None
    reach = [
        max((p + factor - 1) // factor, (factor - 1 + k - 1 - p) // factor)
        for p, k in zip(conv.padding, kernel, strict=True)
    ]
    small = np.zeros((out, factor, factor, inputs, 2 * reach[0] + 1, 2 * reach[1] + 1))
    for i in range(factor):
        for j in range(factor):
            for a in range(kernel[0]):
                for b in range(kernel[1]):
                    y = (i + a - conv.padding[0]) // factor + reach[0]
                    x = (j + b - conv.padding[1]) // factor + reach[1]
                    small[:, i, j, :, y, x] += weight[:, :, a, b]
    merged = small.reshape(out * factor**2, inputs, *small.shape[4:])
    return Kernel(merged, (1, 1), (reach[0], reach[1]), (1, 1), conv.groups, factor, gains=conv.gains)
