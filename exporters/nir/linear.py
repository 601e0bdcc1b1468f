"""The linear NIR primitives as operations of the layer graph.

Sources: nir 1.0, ``nir/ir/conv.py``, ``linear.py``, ``pooling.py`` and ``flatten.py``.
"""

from __future__ import annotations

import math

import numpy as np

from spikegen.errors import ExchangeError
from spikegen.exporters.nir.builder import Builder, Wire, array, integers
from spikegen.exporters.nir.structure import NirNode
from spikegen.lowering.graph import ConvOp, FloatArray, NormOp


def conv2d(builder: Builder, node: NirNode, wire: Wire) -> Wire:
    """``Conv2d``: a correlation with a bias, as torch.nn.Conv2d."""
    return _conv(builder, node, wire, 2)


def conv1d(builder: Builder, node: NirNode, wire: Wire) -> Wire:
    """``Conv1d``: a value (C, L) is an image of one row."""
    return _conv(builder, node, wire, 1)


def _conv(builder: Builder, node: NirNode, wire: Wire, axes: int) -> Wire:
    weight, bias = array(node, "weight"), array(node, "bias")
    if weight.ndim != 2 + axes or not weight.size or bias.shape != weight.shape[:1]:
        raise ExchangeError(
            f"{node.name}: weight has shape {weight.shape} and bias {bias.shape}, expected {2 + axes} axes and one "
            "bias per output channel"
        )
    if len(wire.shape) != 1 + axes:
        raise ExchangeError(f"{node.name}: its input has shape {wire.shape}, a Conv{axes}d takes {1 + axes} axes")
    kernel = weight.shape[2:]
    stride, dilation = integers(node, "stride", axes), integers(node, "dilation", axes)
    (groups,) = integers(node, "groups", 1)
    padding = _padding(node, kernel, stride, dilation)
    if min(stride) < 1 or min(dilation) < 1 or min(padding) < 0 or groups < 1:
        raise ExchangeError(f"{node.name}: stride, dilation and groups must be at least 1, padding at least 0")
    if weight.shape[0] % groups or wire.shape[0] != weight.shape[1] * groups:
        raise ExchangeError(
            f"{node.name}: its input has {wire.shape[0]} channels, weight {weight.shape} with {groups} groups takes "
            f"{weight.shape[1] * groups}"
        )
    declared = integers(node, "input_shape", axes) if "input_shape" in node.fields else wire.shape[1:]
    if declared != wire.shape[1:]:
        raise ExchangeError(f"{node.name}: input_shape is {declared}, its input has shape {wire.shape}")
    size = _output_size(node, wire.shape[1:], kernel, stride, padding, dilation)
    if axes == 1:  # one row
        weight = weight[:, :, None]
        stride, padding, dilation = (1, *stride), (0, *padding), (1, *dilation)
    shape = (weight.shape[0], *size)
    return _wired(builder, node, wire, shape, weight, bias, stride, padding, dilation, groups)


def _padding(
    node: NirNode, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[int, ...]:
    """Zeros on each side; the texts are those of torch.nn.Conv2d."""
    padding = node.fields["padding"]
    if not isinstance(padding, str):
        return integers(node, "padding", len(kernel))
    if padding == "valid":
        return (0,) * len(kernel)
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if padding != "same" or any(r % 2 for r in reach) or any(s != 1 for s in stride):
        raise ExchangeError(
            f"{node.name}: padding is {padding!r}; whole numbers, 'valid', and 'same' for odd kernels with stride 1 "
            "are supported"
        )
    return tuple(r // 2 for r in reach)


def _output_size(
    node: NirNode,
    source: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[int, ...]:
    size = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(source, kernel, stride, padding, dilation, strict=True)
    )
    if min(size) < 1:
        raise ExchangeError(f"{node.name}: its output would have {' x '.join(map(str, size))} pixels")
    return size


def _wired(
    builder: Builder,
    node: NirNode,
    wire: Wire,
    shape: tuple[int, ...],
    weight: FloatArray,
    bias: FloatArray,
    stride: tuple[int, ...] = (1, 1),
    padding: tuple[int, ...] = (0, 0),
    dilation: tuple[int, ...] = (1, 1),
    groups: int = 1,
) -> Wire:
    """A convolution on ``wire`` whose output has the NIR shape ``shape``."""
    height, width = (1, 1) if len(shape) == 1 else (1, shape[1]) if len(shape) == 2 else shape[1:]
    conv = ConvOp(
        builder.name(node.name),
        (wire.op.name,),
        (shape[0], height, width),
        weight,
        bias,
        (stride[0], stride[1]),
        (padding[0], padding[1]),
        (dilation[0], dilation[1]),
        groups,
    )
    return Wire(builder.add(conv), shape)


def affine(builder: Builder, node: NirNode, wire: Wire) -> Wire:
    """``Affine`` ``W x + b`` and ``Linear`` ``W x`` on a flat value: a convolution as large as the image."""
    weight = array(node, "weight")
    bias = array(node, "bias") if node.type == "Affine" else np.zeros(weight.shape[:1])
    if weight.ndim != 2 or not weight.size or bias.shape != weight.shape[:1]:
        raise ExchangeError(
            f"{node.name}: weight has shape {weight.shape} and bias {bias.shape}, expected (out, in) and (out,)"
        )
    if wire.shape != weight.shape[1:]:
        hint = "; put a Flatten before it" if math.prod(wire.shape) == weight.shape[1] else ""
        raise ExchangeError(
            f"{node.name}: its input has shape {wire.shape}, weight {weight.shape} takes {weight.shape[1:]}{hint}"
        )
    kernel = weight.reshape(len(weight), *wire.op.shape)
    return _wired(builder, node, wire, (len(weight),), kernel, bias)


def scale(builder: Builder, node: NirNode, wire: Wire) -> Wire:
    """``Scale`` ``s * x``, one factor for every element."""
    return scaled(builder, node, wire, array(node, "scale"), builder.name(node.name))


def scaled(builder: Builder, node: NirNode, wire: Wire, factors: FloatArray, name: str) -> Wire:
    """``wire`` times ``factors`` (of its NIR shape, or one number), which a convolution holds one of per channel.

    Raises:
        ExchangeError: the factors have another shape, or differ between the pixels of a channel.
    """
    if factors.size != 1 and factors.shape != wire.shape:
        raise ExchangeError(f"{node.name}: its parameters have shape {factors.shape}, its input {wire.shape}")
    if factors.size == 1:
        factors = np.full(wire.shape, factors.reshape(-1)[0])
    if len(wire.shape) == 1 and not _uniform(factors.reshape(wire.op.shape)):
        wire = builder.column(wire, node.name)
    per_channel = factors.reshape(wire.op.shape)
    if not _uniform(per_channel):
        raise ExchangeError(
            f"{node.name}: its factors differ between the pixels of a channel; a convolution has one per channel"
        )
    channels = len(per_channel)
    norm = NormOp(name, (wire.op.name,), wire.op.shape, per_channel[:, 0, 0].copy(), np.zeros(channels))
    return Wire(builder.add(norm), wire.shape)


def _uniform(factors: FloatArray) -> bool:
    """Whether all pixels of a channel have one factor."""
    return bool((factors == factors[:, :1, :1]).all())


def average_pool(builder: Builder, node: NirNode, wire: Wire) -> Wire:
    """``AvgPool2d``: the mean of a window, padding counted as zeros (the default of torch.nn.AvgPool2d)."""
    return _pool(builder, node, wire, mean=True)


def sum_pool(builder: Builder, node: NirNode, wire: Wire) -> Wire:
    """``SumPool2d``: the sum of a window."""
    return _pool(builder, node, wire, mean=False)


def _pool(builder: Builder, node: NirNode, wire: Wire, *, mean: bool) -> Wire:
    if len(wire.shape) != 3:
        raise ExchangeError(f"{node.name}: its input has shape {wire.shape}, a pool takes (C, H, W)")
    kernel, stride, padding = (integers(node, key, 2) for key in ("kernel_size", "stride", "padding"))
    if min(kernel) < 1 or min(stride) < 1 or min(padding) < 0:
        raise ExchangeError(f"{node.name}: kernel_size and stride must be at least 1, padding at least 0")
    size = _output_size(node, wire.shape[1:], kernel, stride, padding, (1, 1))
    # the size of the window is checked with that of the image: at least one pixel lies in each window
    channels = wire.shape[0]
    if math.prod(kernel) * channels > 1 << 22:
        raise ExchangeError(
            f"{node.name}: its windows have {math.prod(kernel)} pixels, too many for {channels} channels"
        )
    weight = np.full((channels, 1, *kernel), 1.0 / math.prod(kernel) if mean else 1.0)
    return _wired(builder, node, wire, (channels, *size), weight, np.zeros(channels), stride, padding, groups=channels)


def flatten(_builder: Builder, node: NirNode, wire: Wire) -> Wire:
    """``Flatten``: axes ``start_dim`` .. ``end_dim`` become one; batch and time are no axes in NIR."""
    axes = len(wire.shape)
    start, end = (integers(node, key, 1)[0] for key in ("start_dim", "end_dim"))
    first, last = (dim + axes if dim < 0 else dim for dim in (start, end))
    if not 0 <= first <= last < axes:
        raise ExchangeError(f"{node.name}: start_dim {start} and end_dim {end} of an input of shape {wire.shape}")
    flat = (*wire.shape[:first], math.prod(wire.shape[first : last + 1]), *wire.shape[last + 1 :])
    if len(flat) not in {1, axes}:
        raise ExchangeError(f"{node.name}: from {wire.shape} to {flat}; only flattening all axes is supported")
    return Wire(wire.op, flat)
