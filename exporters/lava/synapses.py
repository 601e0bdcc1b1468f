"""Projections as the weights of Lava's synapse processes. Needs scipy, not Lava.

Every population of the unrolled network has Lava's shape (W, H, C); ``flat`` below means that order, row major.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from spikegen.program import Conv, Dense, Node
from spikegen.program.counting import conv_taps
from spikegen.program.ir import Shape

IntArray = npt.NDArray[np.int64]


def flat_order(shape: Shape) -> IntArray:
    """For each flat position of Lava's (W, H, C) layout, the index in (C, H, W) order: int64 [n]."""
    return np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape).transpose(2, 1, 0).ravel()


def conv_weight(projection: Conv) -> npt.NDArray[np.int32]:
    """Weights of Lava's ``Conv``: int32 [out, W, H, in / groups].

    ``lava/proc/conv/utils.py`` ``conv_scipy`` is a true convolution in (W, H) order, the IR a correlation in (H, W)
    order: both kernel axes are flipped and exchanged. ``PyConvModelFixed`` ignores ``weight_exp``, so the exponent is
    applied here.
    """
    kernel = projection.weight[:, :, ::-1, ::-1].astype(np.int32) << projection.exponent
    return np.ascontiguousarray(kernel.transpose(0, 3, 2, 1))


def conv_mantissa(projection: Conv) -> npt.NDArray[np.int32]:
    """The same without the exponent, and the mantissas doubled: weights of 8 bits for ``weight_exp = exponent - 1``.

    What the chip stores, see :func:`dense_weight`.
    """
    return (conv_weight(projection) >> projection.exponent) << 1


def dense_weight(projection: Dense, source: Shape, target: Shape) -> npt.NDArray[np.int32]:
    """Weights of Lava's ``Dense`` on flat ports: the mantissas doubled, int32 [neurons of target, neurons of source].

    Loihi's mixed-sign 8-bit weights are the even integers, and ``PyDenseModelBitAcc`` drops the lowest bit. The doubled
    mantissa with ``weight_exp = exponent - 1`` is exact for every exponent: for 0 the sum of even products is halved by
    a right shift.
    """
    doubled = projection.weight.astype(np.int32) << 1
    return np.ascontiguousarray(doubled[np.ix_(flat_order(target), flat_order(source))])


def sparse_weight(projection: Conv | Dense, source: Node, target: Node) -> Any:
    """Weights of Lava's ``Sparse`` on flat ports: a ``scipy.sparse.csr_matrix`` int32 of doubled mantissas.

    Borders, groups, dilation, stride and the sub-pixel shuffle are part of the matrix; zero weights are not stored.
    See :func:`dense_weight` for the doubling.
    """
    from scipy.sparse import coo_matrix, csr_matrix

    if isinstance(projection, Dense):
        return csr_matrix(dense_weight(projection, source.shape, target.shape))
    rows, columns, values = _conv_entries(projection, source, target)
    place_of = [np.argsort(flat_order(node.shape)) for node in (target, source)]
    entries = (values << 1, (place_of[0][rows], place_of[1][columns]))
    return coo_matrix(entries, shape=(len(place_of[0]), len(place_of[1])), dtype=np.int32).tocsr()


def _conv_entries(projection: Conv, source: Node, target: Node) -> tuple[IntArray, IntArray, npt.NDArray[np.int32]]:
    """Nonzero entries of a convolution as a matrix: target index, source index (both (C, H, W) order), mantissa."""
    out, inputs, *_ = projection.weight.shape
    r = projection.shuffle
    vertical, horizontal = conv_taps(projection, source)
    height, width = target.shape[1:]
    parts = []
    for i, j in np.ndindex(len(vertical), len(horizontal)):
        mantissas = projection.weight[:, :, i, j]
        channel, group_input = np.nonzero(mantissas)
        source_channel = channel // (out // projection.groups) * inputs + group_input
        y, x = (np.flatnonzero(taps >= 0) for taps in (vertical[i], horizontal[j]))
        # torch.pixel_shuffle: channel c r^2 + a r + b at (y, x) is channel c at (r y + a, r x + b).
        block, within = channel // (r * r), channel % (r * r)
        target_y = y[None, :] * r + (within // r)[:, None]
        target_x = x[None, :] * r + (within % r)[:, None]
        to = (block[:, None, None] * height + target_y[:, :, None]) * width + target_x[:, None, :]
        pixel = vertical[i][y][:, None] * source.shape[2] + horizontal[j][x][None, :]
        come = source_channel[:, None, None] * (source.shape[1] * source.shape[2]) + pixel[None]
        value = np.broadcast_to(mantissas[channel, group_input].astype(np.int32)[:, None, None], come.shape)
        parts.append((to.ravel(), come.ravel(), value.ravel()))
    rows, columns, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    return rows, columns, values
