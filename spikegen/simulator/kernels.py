"""Convolution kernels of the torch engine: each of them returns exact integers in float32.

A kernel is made for one projection and a factor, a power of two with a sign, and computes ``factor * sum(w * m)``. It
may be used where ``sum(|w| * |m|)`` is below 2^24 for every output: whatever the order of summation, every partial sum
is then an integer that float32 holds, and the factor changes exponents only.

All of them take messages (n, C, H, W) that lie in memory as (n, H, W, C), and return currents in the same form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from spikegen.program.ir import Conv, Dense, Projection

_ONEDNN: Any = torch.ops.onednn  # type: ignore[attr-defined]

EXACT_FLOAT32 = 1 << 24  # every integer up to it is a float32


class Shape2d:
    """A projection as a convolution on memory of the form (n, H, W, C).

    A :class:`~spikegen.program.Dense` is one of 1x1 on one pixel that has all neurons of its source as channels. The
    output channels of a sub-pixel shuffle are put in the order (vertical, horizontal, channel), so that shuffling moves
    whole rows of channels.

    Attributes:
        weight: int8 (O, I / groups, kh, kw).
        size: (C, H, W) of the messages.
        shuffle: r.
    """

    def __init__(self, projection: Projection, source: tuple[int, int, int], target: tuple[int, int, int]) -> None:
        weight = torch.from_numpy(projection.weight.copy())
        self.name = projection.name
        if isinstance(projection, Conv):
            r = self.shuffle = projection.shuffle
            self.weight = weight.unflatten(0, (-1, r, r)).permute(1, 2, 0, 3, 4, 5).flatten(0, 2).contiguous()
            self.stride, self.padding, self.dilation = projection.stride, projection.padding, projection.dilation
            self.groups, self.size, self.target = projection.groups, source, target
            return
        self.shuffle, self.groups = 1, 1
        self.stride, self.padding, self.dilation = (1, 1), (0, 0), (1, 1)
        rows, columns = (
            torch.arange(weight.shape[i]).view(s).permute(1, 2, 0).flatten() for i, s in ((0, target), (1, source))
        )
        self.weight = weight[rows][:, columns][:, :, None, None].contiguous()
        self.size, self.target = (weight.shape[1], 1, 1), target

    @property
    def key(self) -> tuple[Any, ...]:
        """Everything that decides how fast a kernel is; a sub-pixel shuffle and the weights do not."""
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        return (tuple(self.weight.shape), self.size, *geometry)

    @property
    def outputs(self) -> tuple[int, int, int]:
        """Shape of the currents before the shuffle: (O, H', W')."""
        r = self.shuffle
        if self.size[1:] == (1, 1) and self.target[1:] != (1, 1) and r == 1:  # Dense
            return (len(self.weight), 1, 1)
        return (len(self.weight), self.target[1] // r, self.target[2] // r)

    @property
    def macs(self) -> int:
        """Products of one frame, those with padding and zeros too."""
        _, height, width = self.outputs
        return int(self.weight.numel() * height * width)


class Kernel(Protocol):
    """Computes the currents of one projection."""

    def __call__(self, messages: Tensor, into: Tensor | None = None) -> Tensor:
        """Currents float32 (n, O, H', W').

        Args:
            messages: (n, C, H, W), uint8 where they are spikes, else float32.
            into: currents of the same form, to which these are added in place.
        """


class Int8Kernel:
    """oneDNN's convolution of unsigned by signed bytes, summed in int32 (``onednn::qconv2d_pointwise`` of torch).

    Spikes are 0 or 1, so that even where oneDNN adds pairs of products in 16 bits (no VNNI) nothing saturates.
    """

    def __init__(self, shape: Shape2d, factor: float) -> None:
        self._geometry = (list(shape.stride), list(shape.padding), list(shape.dilation), shape.groups)
        count = len(shape.weight)
        self._scale, self._zero = torch.full((count,), factor), torch.zeros(count, dtype=torch.int32)
        stride, padding, dilation, groups = self._geometry
        self._weight = _ONEDNN.qconv_prepack(
            shape.weight, self._scale, 1.0, 0, stride, padding, dilation, groups, [1, *shape.size]
        )
        self._conv = _ONEDNN.qconv2d_pointwise.default
        self._add = _ONEDNN.qconv2d_pointwise.binary

    def __call__(self, messages: Tensor, into: Tensor | None = None) -> Tensor:
        """See :class:`Kernel`."""
        weights = (self._weight, self._scale, self._zero, None, *self._geometry, 1.0, 0, torch.float32)
        result: Tensor
        if into is None:
            result = self._conv(messages, 1.0, 0, *weights, "none", [], "")
        else:
            result = self._add(messages, 1.0, 0, into, 1.0, 0, *weights, "sum", 1.0, None, [], None)
        return result


class FloatKernel:
    """torch's convolution in float32."""

    def __init__(self, shape: Shape2d, factor: float) -> None:
        self._weight = (shape.weight.float() * factor).contiguous(memory_format=torch.channels_last)
        self._geometry = (None, shape.stride, shape.padding, shape.dilation, shape.groups)

    def __call__(self, messages: Tensor, into: Tensor | None = None) -> Tensor:
        """See :class:`Kernel`."""
        found = functional.conv2d(messages.float(), self._weight, *self._geometry)
        return found.contiguous(memory_format=torch.channels_last) if into is None else into.add_(found)


class MatmulKernel:
    """Columns and a matrix product in float32: for devices whose convolutions may use transforms that round."""

    def __init__(self, shape: Shape2d, factor: float) -> None:
        self._groups, self._outputs = shape.groups, shape.outputs
        self._weight = (shape.weight.float() * factor).view(shape.groups, len(shape.weight) // shape.groups, -1)
        self._kernel = tuple(shape.weight.shape[2:])
        self._geometry = (shape.dilation, shape.padding, shape.stride)

    def __call__(self, messages: Tensor, into: Tensor | None = None) -> Tensor:
        """See :class:`Kernel`."""
        self._weight = self._weight.to(messages.device)
        columns = functional.unfold(messages.float(), self._kernel, *self._geometry)
        columns = columns.unflatten(1, (self._groups, -1))  # (n, groups, I kh kw / groups, pixels)
        found = (self._weight @ columns).view(len(messages), *self._outputs)
        return found.contiguous(memory_format=torch.channels_last) if into is None else into.add_(found)


class CopyKernel:
    """Every channel to the same channel with the same weight: a product per message."""

    def __init__(self, shape: Shape2d, factor: float) -> None:
        self._factor = float(shape.weight.flatten()[0]) * factor

    def __call__(self, messages: Tensor, into: Tensor | None = None) -> Tensor:
        """See :class:`Kernel`."""
        return messages * self._factor if into is None else into.add_(messages, alpha=self._factor)


KERNELS: dict[str, Callable[[Shape2d, float], Kernel]] = {
    "int8": Int8Kernel,
    "float32": FloatKernel,
    "matmul": MatmulKernel,
    "copy": CopyKernel,
}


def is_copy(projection: Projection) -> bool:
    """Whether every channel goes to the same channel with the same weight: a relayed stream."""
    if isinstance(projection, Dense):
        return False
    plain = (projection.stride, projection.padding, projection.shuffle) == ((1, 1), (0, 0), 1)
    depthwise = projection.weight.shape == (projection.groups, 1, 1, 1)
    return plain and depthwise and bool((projection.weight == projection.weight.flat[0]).all())
