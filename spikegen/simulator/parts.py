"""Projections as plain convolutions on memory of the form (n, H, W, C)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from spikegen.program.ir import Conv, Projection, Shape
from spikegen.simulator.kernels import Convolution


@dataclass(frozen=True, eq=False)
class Part:
    """One convolution of a projection, and where its outputs go.

    Attributes:
        convolution: what is computed.
        phase: (a, b): the output at (y, x) is the current at (r y + a, r x + b), r being the shuffle.
        corner: (y, x) of the first output that is one; those before it, and those beyond the target, are none.
    """

    convolution: Convolution
    phase: tuple[int, int]
    corner: tuple[int, int]


def parts(projection: Projection, source: Shape, target: Shape) -> tuple[Part, ...]:
    """The convolutions that together are ``projection``; none if its groups and its shuffle do not go together.

    A :class:`~spikegen.program.Dense` is one of 1x1 on one pixel that has all neurons of its source as channels. A
    convolution with a sub-pixel shuffle is one for each phase: where it stands for a transposed convolution or for an
    upsampling and a convolution, every phase has only a part of the kernel, the rest is zeros.
    """
    weight = torch.from_numpy(projection.weight.copy())
    if not isinstance(projection, Conv):
        rows, columns = (
            torch.arange(weight.shape[axis]).view(shape).permute(1, 2, 0).flatten()
            for axis, shape in ((0, target), (1, source))
        )
        weight = weight[rows][:, columns][:, :, None, None].contiguous()
        return (Part(Convolution(projection.name, weight, (weight.shape[1], 1, 1)), (0, 0), (0, 0)),)
    whole = Convolution(
        projection.name,
        weight,
        source,
        projection.stride,
        projection.padding,
        projection.dilation,
        projection.groups,
    )
    r = projection.shuffle
    if r == 1:
        return (Part(whole, (0, 0), (0, 0)),)
    if len(weight) // projection.groups % (r * r):
        return ()
    return tuple(
        _trimmed(replace(whole, weight=weight[a * r + b :: r * r]), (a, b)) for a in range(r) for b in range(r)
    )


def _trimmed(convolution: Convolution, phase: tuple[int, int]) -> Part:
    """Without the first and last rows and columns of the kernel that are zero in all channels."""
    weight, padding, corner = convolution.weight, list(convolution.padding), [0, 0]
    for axis in (0, 1):
        if convolution.stride[axis] > 1:
            continue  # the outputs would begin between two of the trimmed convolution
        used = weight.ne(0).transpose(0, 2 + axis).flatten(1).any(dim=1).nonzero().flatten().tolist()
        used = used or [weight.shape[2 + axis] // 2]  # one tap of zeros
        before, after = used[0], weight.shape[2 + axis] - 1 - used[-1]
        weight = weight.narrow(2 + axis, before, used[-1] - before + 1)
        # Padding that only those rows met goes, as much as both ends allow.
        gone = convolution.dilation[axis] * before, convolution.dilation[axis] * after
        padding[axis] = max(0, convolution.padding[axis] - min(gone))
        corner[axis] = gone[0] - convolution.padding[axis] + padding[axis]
    trimmed = replace(convolution, weight=weight.contiguous(), padding=(padding[0], padding[1]))
    return Part(trimmed, phase, (corner[0], corner[1]))
