"""What a target is: something that evaluates a Program exactly. The simulator and Lava are targets."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from types import TracebackType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from spikegen.errors import ConfigError
from spikegen.program.counting import Counts
from spikegen.program.ir import Program


@dataclass(frozen=True)
class Evaluation:
    """Result of one evaluation of N images.

    Attributes:
        readouts: readout -> int32 [N, T, C, H, W], its current at every timestep.
        counts: exact counts over the N images.
        messages: node -> int32 [N, T, C, H, W], the messages of every node that is not a readout (0 and 1 for a Lif);
            empty unless they were asked for.
    """

    readouts: Mapping[str, npt.NDArray[np.int32]]
    counts: Counts
    messages: Mapping[str, npt.NDArray[np.int32]]


def joined(parts: Sequence[Evaluation]) -> Evaluation:
    """Evaluations of one or more batches of images, at one diffusion step, as one."""
    first = parts[0]
    return Evaluation(
        {name: np.concatenate([part.readouts[name] for part in parts]) for name in first.readouts},
        reduce(operator.add, (part.counts for part in parts)),
        {name: np.concatenate([part.messages[name] for part in parts]) for name in first.messages},
    )


class Target(Protocol):
    """A Program built for one place where it can run. Use as a context manager, or call :meth:`close`."""

    def __enter__(self) -> Target: ...

    def __exit__(self, *exception: type[BaseException] | BaseException | TracebackType | None) -> None: ...

    def evaluate(self, frames: npt.NDArray[np.int32], step: int, record: bool = False) -> Evaluation:
        """Run the network once for every image.

        Args:
            frames: int32 [N, C, H, W], the messages of the input for each evaluation, within the range of each channel
                (``program.input.quantize`` makes them); [N, T, C, H, W] if the input is streamed.
            step: diffusion step, 0 .. K - 1 (row of the conditioning tables).
            record: also return the messages of every node.

        Raises:
            BackendError: the target failed; it must be closed.
        """

    def close(self) -> None:
        """Free everything the target holds. May be called twice."""


def check_frames(program: Program, frames: npt.NDArray[np.int32], step: int) -> None:
    """Raise ConfigError unless ``frames`` and ``step`` fit ``program``. Used by every target."""
    port = program.input
    shape = (program.timesteps, *port.shape) if port.streamed else port.shape
    if frames.ndim != 1 + len(shape) or frames.shape[1:] != shape or len(frames) < 1:
        size = ", ".join(map(str, shape))
        raise ConfigError(f"frames have shape {frames.shape}, {port.name} takes (N, {size}), N >= 1")
    if frames.dtype != np.int32:
        raise ConfigError(f"frames are {frames.dtype}, {port.name} takes int32")
    axes = tuple(axis for axis in range(frames.ndim) if axis != frames.ndim - 3)
    lowest, highest = frames.min(axis=axes), frames.max(axis=axes)
    outside = np.flatnonzero((lowest < port.low) | (highest > port.high))
    if outside.size:
        channel = outside[0]
        found = lowest[channel] if lowest[channel] < port.low[channel] else highest[channel]
        allowed = f"{port.low[channel]}..{port.high[channel]}"
        raise ConfigError(f"frames hold {found} in channel {channel} of {port.name}, which takes {allowed}")
    if not 0 <= step < program.conditioning.steps:
        raise ConfigError(f"diffusion step is {step}, the Program has 0..{program.conditioning.steps - 1}")


def streamed_frames(program: Program, frames: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The messages int32 [N, T, C, H, W] of the input at every timestep, for the ``frames`` that ``program`` takes."""
    return frames if program.input.streamed else np.repeat(frames[:, None], program.timesteps, axis=1)
