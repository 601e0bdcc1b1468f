"""The passes in order: a model or checkpoint becomes a Program."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from spikegen import __version__
from spikegen.errors import LoweringError
from spikegen.lowering.calibrate import Calibration, noised, record_spikes
from spikegen.lowering.compose_linear import compose_linear
from spikegen.lowering.fold_batchnorm import fold_batchnorm
from spikegen.lowering.graph import LayerGraph, Shape
from spikegen.lowering.quantize import InputFormat, quantize
from spikegen.lowering.retime import retime
from spikegen.lowering.trace import trace
from spikegen.models import load_checkpoint
from spikegen.program import Host, Program, validate
from spikegen.training.datasets import load_images

CALIBRATION_IMAGES = 8  # per diffusion step
CALIBRATION_STEPS = 8  # spread evenly over the diffusion


def lower(
    model: nn.Module,
    shape: Shape,
    timesteps: int,
    steps: int,
    data: Calibration,
    name: str = "network",
    beta_schedule: str = "linear",
    input_format: InputFormat | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> Program:
    """Lower ``model(x, t)`` to a valid Program.

    Args:
        model: a network of the layers in :data:`~spikegen.lowering.layers.LAYERS`.
        shape: (C, H, W) of its input image.
        timesteps: T.
        steps: K, diffusion steps.
        data: calibration images and their diffusion steps.
        name: name of the Program.
        beta_schedule: noise schedule that the host uses.
        input_format: quantisation of the image.
        on_stage: called with the name of each pass as it starts.

    Raises:
        LoweringError: what cannot be lowered, by name.
    """
    stage = on_stage or (lambda _: None)
    if data.images.shape[1:] != shape:
        raise LoweringError(f"{name}: calibration images have shape {data.images.shape[1:]}, the model takes {shape}")
    stage("trace")
    traced = trace(model, shape, timesteps, steps)
    stage("fold BatchNorm")
    folded: LayerGraph = fold_batchnorm(traced)
    stage("calibrate")
    spikes, _ = record_spikes(model, data)
    rates = {layer: float(sent.mean()) for layer, sent in spikes.items()}
    stage("compose linear paths")
    network, streams = compose_linear(folded, rates)
    stage("quantise")
    host = Host(beta_schedule, folded.macs())
    program = quantize(network, data, input_format or InputFormat(), name, host)
    stage("retime")
    program = retime(program)
    report = {**program.report, "streams": [dataclasses.asdict(stream) for stream in streams]}
    program = dataclasses.replace(program, report=_finite(report))
    validate(program)
    return program


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
        checkpoint.beta_schedule,
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


def _finite(value: Any) -> Any:
    """``value`` with NaN replaced by None: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
