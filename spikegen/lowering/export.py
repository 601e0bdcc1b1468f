"""A checkpoint becomes a pipeline."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable

import numpy as np
import torch

from spikegen import __version__
from spikegen.lowering.lower import lower
from spikegen.lowering.parts import INPUT_BITS, NOISY_RANGE, diffusion_steps, held_out, network_parts, on_dataset
from spikegen.lowering.payloads import PAYLOAD_BITS
from spikegen.models import Checkpoint, ImageDenoiser, load_checkpoint
from spikegen.models.vqsvae import PIXEL_SCALE
from spikegen.program import ImageDiffusion, Pipeline, TokenDiffusion
from spikegen.program.pipeline import HostPart

CALIBRATION_IMAGES = 8  # per diffusion step
CALIBRATION_STEPS = 8  # spread evenly over the diffusion


def export_checkpoint(
    source: str | os.PathLike[str],
    seed: int = 0,
    on_stage: Callable[[str], None] | None = None,
    *,
    input_bits: int = INPUT_BITS,
    noisy_range: float = NOISY_RANGE,
    payload_bits: int = PAYLOAD_BITS,
    streams: str = "cheapest",
    dataset: str | None = None,
) -> Pipeline:
    """The pipeline of a checkpoint (a shipped name or a folder), calibrated on real images.

    Args:
        source: shipped name or folder.
        seed: choice of calibration data.
        on_stage: called with the name of each step as it starts.
        input_bits: magnitude bits of real-valued inputs (images, code vectors).
        noisy_range: largest magnitude of a noised image; what is larger is clipped.
        payload_bits: the most bits of the gain of a timestep (TSM).
        streams: policy for real-valued streams, one of :data:`~spikegen.lowering.compose_linear.STREAMS`.
        dataset: name of the data set to calibrate on (:func:`spikegen.training.load_images`); None: the one that the
            checkpoint was trained on. The provenance names it as ``dataset``, which tuning and statistics go on with,
            and the other as ``trained_on``.

    Raises:
        CheckpointError, LoweringError: what is wrong with the checkpoint, or cannot be lowered.
        ConfigError: the data set is unknown, not there, or of images of another shape.
    """
    checkpoint = load_checkpoint(source)
    name = os.path.basename(os.path.normpath(str(source)))
    return export_model(
        checkpoint,
        name,
        seed,
        on_stage,
        input_bits=input_bits,
        noisy_range=noisy_range,
        payload_bits=payload_bits,
        streams=streams,
        dataset=dataset,
    )


def export_model(
    checkpoint: Checkpoint,
    name: str,
    seed: int = 0,
    on_stage: Callable[[str], None] | None = None,
    *,
    input_bits: int = INPUT_BITS,
    noisy_range: float = NOISY_RANGE,
    payload_bits: int = PAYLOAD_BITS,
    streams: str = "cheapest",
    dataset: str | None = None,
) -> Pipeline:
    """The same for a checkpoint in memory."""
    stage = on_stage or (lambda _: None)
    shares = np.linspace(0.0, 1.0, CALIBRATION_STEPS + 1)[:-1].tolist()
    at = diffusion_steps(checkpoint, shares)
    calibrated = on_dataset(checkpoint, dataset)
    parts = network_parts(calibrated, at, CALIBRATION_IMAGES, seed, input_bits, noisy_range)
    networks = {
        role: lower(
            part.model,
            part.shape,
            checkpoint.model.config.timesteps,
            part.steps,
            part.data,
            role,
            part.input_format,
            lambda found, role=role: stage(f"{role}: {found}"),  # type: ignore[misc]
            payload_bits,
            streams,
        )
        for role, part in parts.items()
    }
    provenance = {
        "checkpoint": checkpoint.source,
        "checkpoint_digest": checkpoint.digest,
        "dataset": calibrated.dataset,
        "held_out": str(held_out(calibrated)),
        "calibration_seed": str(seed),
        "spikegen": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if calibrated.dataset != checkpoint.dataset:
        provenance["trained_on"] = checkpoint.dataset
    return Pipeline(name, _host(checkpoint), networks, provenance)


def _host(checkpoint: Checkpoint) -> HostPart:
    model = checkpoint.model
    if isinstance(model, ImageDenoiser):
        return ImageDiffusion(checkpoint.beta_schedule)
    codebook = model.autoencoder.codebook.detach().double().numpy()
    return TokenDiffusion(codebook, model.config.diffusion_steps, PIXEL_SCALE)
