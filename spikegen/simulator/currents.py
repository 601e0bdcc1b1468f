"""Integer currents of one projection for a batch of messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from spikegen.errors import BackendError
from spikegen.program.ir import Conv, Projection
from spikegen.simulator.engine import IntArray

FloatArray = npt.NDArray[Any]  # float32 or float64, holding integers

# A sum of products is exact in floating point while every partial sum is an integer within the mantissa.
_EXACT_FLOAT32 = 1 << 24
_EXACT_FLOAT64 = 1 << 53
# Far above what any population takes (2^23), and 2^11 projections of this size still add up within int64.
_LARGEST = 1 << 52


def projection_currents(projection: Projection, messages: npt.NDArray[np.int32]) -> IntArray:
    """Currents of ``projection`` for ``messages`` int32 [B, C, H, W]: int64 [B, C', H', W'] (flat [B, n] for Dense).

    The products are summed by a matrix product in floating point whose width is chosen so that the result is exact.
    The gains are not applied, see :func:`with_gains`.

    Raises:
        BackendError: a current, times the largest gain, is beyond what integers hold exactly.
    """
    largest = max(1, -int(messages.min(initial=0)), int(messages.max(initial=0)))
    bound = largest * projection.weight[0].size * 128
    if bound >= _EXACT_FLOAT64:
        raise BackendError(f"{projection.name}: sums of up to {bound} are not exact in float64; use smaller messages")
    dtype: Any = np.float32 if bound < _EXACT_FLOAT32 else np.float64
    sent: FloatArray = messages.astype(dtype)
    weight: FloatArray = projection.weight.astype(dtype)
    summed = _conv(projection, sent, weight) if isinstance(projection, Conv) else sent.reshape(len(sent), -1) @ weight.T
    gain = int(np.abs(projection.gains.astype(np.int64)).max(initial=1)) << projection.exponent
    if bound * gain >= _LARGEST:  # possible; now what there truly is
        reached = int(np.abs(summed).max()) * gain
        if reached >= _LARGEST:
            raise BackendError(f"{projection.name}: its currents reach {reached}, limit is {_LARGEST - 1}")
    return summed.astype(np.int64) << projection.exponent


def with_gains(projection: Projection, currents: IntArray) -> IntArray:
    """``currents`` int64 [N, T, ...] times the gain of each timestep; [N, 1, ...] stands for the same at every one.

    A gain is the same for all messages of a timestep, so it may as well scale their sum.
    """
    if not projection.gains.size:
        return currents
    return currents * projection.gains.astype(np.int64).reshape(-1, *(1,) * (currents.ndim - 2))


def _conv(projection: Conv, messages: FloatArray, weight: FloatArray) -> FloatArray:
    """Grouped correlation by im2col and one matrix product per group, then the sub-pixel shuffle."""
    (sy, sx), (py, px), (dy, dx) = projection.stride, projection.padding, projection.dilation
    out, inputs, kh, kw = weight.shape
    padded = np.pad(messages, ((0, 0), (0, 0), (py, py), (px, px)))
    window = ((kh - 1) * dy + 1, (kw - 1) * dx + 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, window, axis=(2, 3))  # type: ignore[call-overload]
    windows = windows[:, :, ::sy, ::sx, ::dy, ::dx]  # [B, C, H', W', kh, kw]
    batch, _, height, width = windows.shape[:4]
    groups = []
    for group in range(projection.groups):
        columns = windows[:, group * inputs : (group + 1) * inputs].transpose(0, 2, 3, 1, 4, 5)
        kernel = weight[group * out // projection.groups : (group + 1) * out // projection.groups]
        groups.append(columns.reshape(batch * height * width, -1) @ kernel.reshape(len(kernel), -1).T)
    result: FloatArray = np.concatenate(groups, axis=1).reshape(batch, height, width, out)
    r = projection.shuffle
    result = result.reshape(batch, height, width, out // (r * r), r, r).transpose(0, 3, 1, 4, 2, 5)
    return result.reshape(batch, out // (r * r), height * r, width * r)
