"""Convolution kernels of the torch engine: each of them returns exact integers in float32.

A kernel is made for one projection and a factor, a power of two with a sign, and computes ``factor * sum(w * m)``. It
may be used where ``sum(|w| * |m|)`` is below 2^24 for every output: whatever the order of summation, every partial sum
is then an integer that float32 holds, and the factor changes exponents only.

All of them take messages (n, C, H, W) that lie in memory as (n, H, W, C), and return currents in the same form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from spikegen.errors import BackendError

_ONEDNN: Any = torch.ops.onednn  # type: ignore[attr-defined]

EXACT_FLOAT32 = 1 << 24  # every integer up to it is a float32


@dataclass(frozen=True, eq=False)
class Convolution:
    """What a kernel computes.

    Attributes:
        name: of the projection.
        weight: int8 (O, I / groups, kh, kw).
        size: (C, H, W) of the messages.
        stride, padding, dilation, groups: as in torch.
    """

    name: str
    weight: Tensor
    size: tuple[int, int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def key(self) -> tuple[Any, ...]:
        """Everything that decides how fast a kernel is; the weights do not."""
        return (tuple(self.weight.shape), self.size, self.stride, self.padding, self.dilation, self.groups)

    @property
    def outputs(self) -> tuple[int, int, int]:
        """Shape of the currents: (O, H', W')."""
        geometry = zip(self.size[1:], self.weight.shape[2:], self.stride, self.padding, self.dilation, strict=True)
        height, width = ((s + 2 * pad - d * (k - 1) - 1) // stride + 1 for s, k, stride, pad, d in geometry)
        return len(self.weight), height, width

    @property
    def macs(self) -> int:
        """Products of one frame, those with padding and zeros too."""
        _, height, width = self.outputs
        return int(self.weight.numel() * height * width)

    @property
    def ordinary(self) -> bool:
        """Whether every window reaches into the messages and some tap meets one.

        Others have outputs of nothing but padding. Some of them end the process in torch 2.3 (oneDNN).
        """
        axes = list(zip(self.size[1:], self.weight.shape[2:], self.stride, self.padding, self.dilation, strict=True))
        return all(
            pad <= d * (k - 1) and any(0 <= i * stride + tap * d - pad < s for i in range(count) for tap in range(k))
            for count, (s, k, stride, pad, d) in zip(self.outputs[1:], axes, strict=True)
        )


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

    Raises:
        BackendError: a geometry that is not :attr:`Convolution.ordinary`.
    """

    def __init__(self, conv: Convolution, factor: float) -> None:
        _check_ordinary(conv, "int8")
        self._geometry = (list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups)
        count = len(conv.weight)
        self._scale, self._zero = torch.full((count,), factor), torch.zeros(count, dtype=torch.int32)
        stride, padding, dilation, groups = self._geometry
        self._weight = _ONEDNN.qconv_prepack(
            conv.weight, self._scale, 1.0, 0, stride, padding, dilation, groups, [1, *conv.size]
        )
        self._conv = _ONEDNN.qconv2d_pointwise.default
        self._add = _ONEDNN.qconv2d_pointwise.binary
        arguments = [argument.name for argument in self._add._schema.arguments]  # noqa: SLF001
        self._sum_first = arguments.index("qaccum") < arguments.index("qw")  # torch 2.3; 2.13 has it behind the weights

    def __call__(self, messages: Tensor, into: Tensor | None = None) -> Tensor:
        """See :class:`Kernel`."""
        weights = (self._weight, self._scale, self._zero)
        rest = (None, *self._geometry, 1.0, 0, torch.float32)
        result: Tensor
        if into is None:
            result = self._conv(messages, 1.0, 0, *weights, *rest, "none", [], "")
        elif self._sum_first:
            result = self._add(messages, 1.0, 0, into, 1.0, 0, *weights, *rest, "sum", 1.0, None, [], None)
        else:
            result = self._add(messages, 1.0, 0, *weights, into, *rest, 1.0, 0, "sum", 1.0, None, [], None)
        return result


class FloatKernel:
    """torch's convolution in float32.

    Raises:
        BackendError: a geometry that is not :attr:`Convolution.ordinary`.
    """

    def __init__(self, conv: Convolution, factor: float) -> None:
        _check_ordinary(conv, "float32")
        self._weight = (conv.weight.float() * factor).contiguous(memory_format=torch.channels_last)
        self._geometry = (None, conv.stride, conv.padding, conv.dilation, conv.groups)

    def __call__(self, messages: Tensor, into: Tensor | None = None) -> Tensor:
        """See :class:`Kernel`."""
        found = functional.conv2d(messages.float(), self._weight, *self._geometry)
        return found.contiguous(memory_format=torch.channels_last) if into is None else into.add_(found)


class MatmulKernel:
    """Columns and a matrix product in float32: for devices whose convolutions may use transforms that round."""

    def __init__(self, conv: Convolution, factor: float) -> None:
        self._groups, self._outputs = conv.groups, conv.outputs
        self._weight = (conv.weight.float() * factor).view(conv.groups, len(conv.weight) // conv.groups, -1)
        self._kernel = tuple(conv.weight.shape[2:])
        self._geometry = (conv.dilation, conv.padding, conv.stride)

    def __call__(self, messages: Tensor, into: Tensor | None = None) -> Tensor:
        """See :class:`Kernel`."""
        self._weight = self._weight.to(messages.device)
        columns = functional.unfold(messages.float(), self._kernel, *self._geometry)
        columns = columns.unflatten(1, (self._groups, -1))  # (n, groups, I kh kw / groups, pixels)
        found = (self._weight @ columns).view(len(messages), *self._outputs)
        return found.contiguous(memory_format=torch.channels_last) if into is None else into.add_(found)


class CopyKernel:
    """Every channel to the same channel with the same weight: a product per message."""

    def __init__(self, conv: Convolution, factor: float) -> None:
        self._factor = float(conv.weight.flatten()[0]) * factor

    def __call__(self, messages: Tensor, into: Tensor | None = None) -> Tensor:
        """See :class:`Kernel`."""
        return messages * self._factor if into is None else into.add_(messages, alpha=self._factor)


KERNELS: dict[str, Callable[[Convolution, float], Kernel]] = {
    "int8": Int8Kernel,
    "float32": FloatKernel,
    "matmul": MatmulKernel,
    "copy": CopyKernel,
}


def _check_ordinary(conv: Convolution, kernel: str) -> None:
    if not conv.ordinary:
        raise BackendError(
            f"{conv.name}: some windows meet nothing but padding, which the kernel {kernel} does not compute"
        )
