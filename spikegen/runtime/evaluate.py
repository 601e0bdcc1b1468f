"""Any number of images through a network in batches, read out."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce

import numpy as np
import numpy.typing as npt

from spikegen.errors import ConfigError
from spikegen.program import Counts, Program, Target
from spikegen.runtime.readout import host_readout


def evaluate_frames(
    program: Program,
    target: Target,
    frames: npt.NDArray[np.int32],
    step: int,
    batch: int,
    finished: Callable[[int], None] = lambda _: None,
) -> tuple[npt.NDArray[np.float64], Counts]:
    """The readout of ``program`` for each image, and the counts over all of them.

    Args:
        program: a Program with one readout.
        target: where it runs.
        frames: int32 [N, C, H, W], or [N, T, C, H, W] for a streamed input; N at least 1.
        step: row of the conditioning tables.
        batch: images per call of the target, at least 1; never changes a result.
        finished: called after every batch with the number of images that are through.

    Returns:
        float64 [N, O, H, W], (O, H, W) being ``readout.output_shape``, and the counts.

    Raises:
        ConfigError: ``batch`` is below 1, or what the target says of ``frames`` and ``step``.
        BackendError: the target failed.
    """
    if batch < 1:
        raise ConfigError(f"batch is {batch}, it must be at least 1")
    readout = next(program.readouts())
    outputs, counts = [], []
    for start in range(0, len(frames), batch):
        evaluation = target.evaluate(frames[start : start + batch], step=step)
        outputs.append(host_readout(readout, evaluation.readouts[readout.name]))
        counts.append(evaluation.counts)
        finished(min(start + batch, len(frames)))
    return np.concatenate(outputs), reduce(operator.add, counts)
