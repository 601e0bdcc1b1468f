"""Currents of kernels on calibration data, and the sample on which the candidates of a search are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from spikegen.errors import LoweringError
from spikegen.lowering.graph import FloatArray
from spikegen.lowering.kernels import Kernel
from spikegen.lowering.network import FloatPopulation, FloatProjection

IntArray = npt.NDArray[np.int64]
EXACT_FLOAT32 = 1 << 24  # integers and their sums below this are exact in float32, which is several times as fast
SAMPLE_MACS = 1 << 28  # multiply-accumulates to compare one candidate
_CHANNELS_MIN, _FRAMES_MIN = 16, 4


@dataclass(frozen=True, eq=False)
class Sample:
    """Output channels and frames (image and timestep) of one population.

    Attributes:
        channels: int64 [S], sorted.
        frames: int64 [F], indices into the folded axis N * T.
    """

    channels: IntArray
    frames: IntArray


def sample(population: FloatPopulation, incoming: Sequence[FloatProjection], frames: int, reach: FloatArray) -> Sample:
    """All of them where that costs at most :data:`SAMPLE_MACS`, else evenly spread channels and frames.

    Args:
        population: whose currents.
        incoming: the projections into it.
        frames: N * T.
        reach: float64 [C], how far the current of each channel can get; the widest channel is always in the sample.
    """
    channels, height, width = population.shape
    macs = sum(weight_of(p.kernel).size // p.kernel.shuffle**2 for p in incoming) * height * width
    share = min(1.0, SAMPLE_MACS / max(1, macs * frames))
    if share == 1.0:
        return Sample(np.arange(channels), np.arange(frames))
    some = min(channels, max(_CHANNELS_MIN, math.ceil(channels * math.sqrt(share))))
    few = min(frames, max(_FRAMES_MIN, math.floor(frames * share * channels / some)))
    index = np.arange(few)
    return Sample(
        np.unique([*np.arange(some) * channels // some, int(reach.argmax())]),
        (index * frames // few + index) % frames,  # not the same timestep of every image
    )


def rows_of(kernel: Kernel, channels: IntArray) -> IntArray:
    """The rows of a kernel's weight that make these output channels."""
    pixels = kernel.shuffle**2
    return (channels[:, None] * pixels + np.arange(pixels)).ravel()


def weight_of(kernel: Kernel) -> FloatArray:
    """The weight of a kernel that has one."""
    if kernel.weight is None:
        raise LoweringError("a projection has no weight")
    return kernel.weight


def is_uniform(projection: FloatProjection) -> bool:
    """All nonzero weights are equal at every timestep: the identity, possibly upsampled."""
    weight = weight_of(projection.kernel)
    if projection.kernel.gains is not None:
        return False
    for part in (weight[:1], weight):  # most kernels are refused after a look at one row
        nonzero = part[part != 0]
        if (nonzero != nonzero[:1]).any():
            return False
    return bool(nonzero.size)


def folded(messages: npt.NDArray[np.int32]) -> torch.Tensor:
    """Messages [N * T, C, H, W] in float32 where that is exact, else in float64."""
    exact = max(-int(messages.min()), int(messages.max())) < EXACT_FLOAT32
    return torch.from_numpy(messages.reshape(-1, *messages.shape[2:]).astype(np.float32 if exact else np.float64))


def currents(kernel: Kernel, weight: npt.NDArray[Any], messages: torch.Tensor) -> torch.Tensor:
    """``kernel`` with ``weight`` on messages [B, C, H, W], in their floating type."""
    dtype = np.float32 if messages.dtype == torch.float32 else np.float64
    summed = functional.conv2d(
        messages,
        torch.from_numpy(weight.astype(dtype)),
        None,
        kernel.stride,
        kernel.padding,
        kernel.dilation,
        kernel.groups,
    )
    return summed if kernel.shuffle == 1 else functional.pixel_shuffle(summed, kernel.shuffle)


def with_gains(summed: torch.Tensor, gains: npt.NDArray[Any] | None, frames: IntArray) -> torch.Tensor:
    """``summed`` [F, C, H, W] times the gain of each frame's timestep, in place; None or empty: as they are."""
    if gains is not None and gains.size:
        summed.mul_(torch.from_numpy(gains[frames % len(gains)].astype(np.float64)).to(summed)[:, None, None, None])
    return summed
