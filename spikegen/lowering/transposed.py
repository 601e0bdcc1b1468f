"""A transposed convolution as an ordinary one on the small grid, followed by a sub-pixel shuffle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikegen.errors import LoweringError
from spikegen.lowering.graph import ConvOp, FloatArray, Op

Pair = tuple[int, int]


@dataclass(frozen=True)
class _Axis:
    """One axis: sizes, and ``taps`` (phase, tap, tap on the small grid)."""

    outputs: int
    kernel: int
    padding: int
    taps: tuple[tuple[int, int, int], ...]


def transposed_conv(
    name: str,
    source: Op,
    weight: FloatArray,
    bias: FloatArray,
    stride: Pair,
    padding: Pair,
    output_padding: Pair,
    dilation: Pair,
    groups: int,
) -> ConvOp:
    """The :class:`ConvOp` that equals :func:`torch.nn.functional.conv_transpose2d`, borders included.

    Input pixel i reaches output ``y = i * stride - padding + tap * dilation``. With ``y = stride * q + phase``, pixel q
    of the small grid reads, in each phase, the inputs ``i = q + (phase + padding - tap * dilation) / stride`` of the
    taps for which that is a whole number; a pixel outside of the source is 0 on both sides.

    Args:
        name: of the operation.
        source: what it reads, (C, H, W).
        weight: float64 [in, out / groups, kh, kw], as torch keeps it.
        bias: float64 [out].
        stride: rows, columns; they must be equal.
        padding: rows and columns cut from each border of the output.
        output_padding: rows and columns added at its far border.
        dilation: of the taps.
        groups: as in torch.

    Raises:
        LoweringError: the strides differ, or the output is no whole number of blocks of stride x stride pixels.
    """
    if stride[0] != stride[1]:
        raise LoweringError(
            f"{name}: its strides {stride} differ; a sub-pixel shuffle has one factor, use equal strides"
        )
    r = stride[0]
    outputs = tuple(
        (size - 1) * r - 2 * p + d * (k - 1) + extra + 1
        for size, k, p, extra, d in zip(
            source.shape[1:], weight.shape[2:], padding, output_padding, dilation, strict=True
        )
    )
    if min(outputs) < 1:
        raise LoweringError(f"{name}: its output would have {outputs[0]} x {outputs[1]} pixels; use less padding")
    if any(size % r for size in outputs):
        wanted = tuple((extra - size) % r for extra, size in zip(output_padding, outputs, strict=True))
        raise LoweringError(
            f"{name}: its output has {outputs[0]} x {outputs[1]} pixels, which is no multiple of its stride {r}; "
            f"use output_padding={wanted}"
        )
    rows, columns = (
        _axis(size, big, k, r, p, d)
        for size, big, k, p, d in zip(source.shape[1:], outputs, weight.shape[2:], padding, dilation, strict=True)
    )
    inputs, per_group = weight.shape[0] // groups, weight.shape[1]
    out = per_group * groups
    forward = weight.reshape(groups, inputs, per_group, *weight.shape[2:]).swapaxes(1, 2)
    forward = forward.reshape(out, inputs, *weight.shape[2:])
    small = np.zeros((out, r, r, inputs, rows.kernel, columns.kernel))
    taps = np.zeros((r, r, rows.kernel, columns.kernel), dtype=bool)
    for i, a, y in rows.taps:
        for j, b, x in columns.taps:
            small[:, i, j, :, y, x] = forward[:, :, a, b]
            taps[i, j, y, x] = True
    return ConvOp(
        name,
        (source.name,),
        (out, outputs[0], outputs[1]),
        small.reshape(out * r * r, inputs, rows.kernel, columns.kernel),
        bias,
        (1, 1),
        (rows.padding, columns.padding),
        (1, 1),
        groups,
        r,
        taps.reshape(r * r, rows.kernel, columns.kernel),
    )


def _axis(size: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int) -> _Axis:
    """One axis with the smallest symmetric padding that holds every tap that meets the source anywhere."""
    blocks = outputs // stride
    offsets = [
        (phase, tap, (phase + padding - tap * dilation) // stride)
        for phase in range(stride)
        for tap in range(kernel)
        if (phase + padding - tap * dilation) % stride == 0
    ]
    offsets = [found for found in offsets if -blocks < found[2] < size]
    # The small kernel has size + 2 * grow + 1 - blocks taps, the first of them at offset -grow.
    grow = max(0, (blocks - size + 1) // 2, *(max(-o, o - size + blocks) for _, _, o in offsets))
    return _Axis(outputs, size + 2 * grow + 1 - blocks, grow, tuple((i, a, o + grow) for i, a, o in offsets))
