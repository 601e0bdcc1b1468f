"""A checkpoint becomes a Program."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Callable

import numpy as np
import torch

from spikegen import __version__
from spikegen.lowering.calibrate import noised
from spikegen.lowering.lower import lower
from spikegen.lowering.quantize import InputFormat
from spikegen.models import load_checkpoint
from spikegen.program import Program
from spikegen.training.datasets import load_images

CALIBRATION_IMAGES = 8  # per diffusion step
CALIBRATION_STEPS = 8  # spread evenly over the diffusion


def export_checkpoint(
    source: str | os.PathLike[str],
    input_format: InputFormat | None = None,
    seed: int = 0,
    on_stage: Callable[[str], None] | None = None,
) -> Program:
    """The Program of a checkpoint (a shipped name or a folder), calibrated on the data set it was trained on.

    Raises:
        CheckpointError, LoweringError: what is wrong with the checkpoint, or cannot be lowered.
    """
    checkpoint = load_checkpoint(source)
    config = checkpoint.model.config
    steps = [int(t) for t in np.linspace(0, config.diffusion_steps - 1, CALIBRATION_STEPS + 1)[:-1]]
    images = load_images(checkpoint.dataset)
    data = noised(images, checkpoint.beta_schedule, config.diffusion_steps, steps, CALIBRATION_IMAGES, seed)
    program = lower(
        checkpoint.model,
        (config.channels, config.image_size, config.image_size),
        config.timesteps,
        config.diffusion_steps,
        data,
        os.path.basename(os.path.normpath(str(source))),
        input_format,
        on_stage,
    )
    provenance = {
        "checkpoint": checkpoint.source,
        "checkpoint_digest": checkpoint.digest,
        "dataset": checkpoint.dataset,
        "calibration_seed": str(seed),
        "spikegen": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    return dataclasses.replace(program, provenance=provenance)
