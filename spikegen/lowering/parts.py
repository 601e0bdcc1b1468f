"""The networks of a checkpoint, one Program each, and real data to run them on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from spikegen.errors import ConfigError
from spikegen.lowering.calibrate import Calibration, noised
from spikegen.lowering.graph import Shape
from spikegen.lowering.input_format import InputFormat
from spikegen.models import Checkpoint, ImageDenoiser, SpikingDiffusion
from spikegen.models.sdid import denoiser_input
from spikegen.models.vqsvae import PIXEL_SCALE
from spikegen.training.datasets import ImageSet, load_fitting, split

INPUT_BITS = 7
NOISY_RANGE = 4.0  # standard deviations of the noise


@dataclass(frozen=True, eq=False)
class Part:
    """One network of a checkpoint.

    Attributes:
        model: the float network.
        shape: (C, H, W) of its input.
        steps: conditioning steps.
        input_format: how its input is quantised.
        data: real inputs and the conditioning step of each.
    """

    model: nn.Module
    shape: Shape
    steps: int
    input_format: InputFormat
    data: Calibration


def held_out(checkpoint: Checkpoint) -> int:
    """How many images training held out; 0 if the checkpoint says nothing sensible about it."""
    recorded = checkpoint.training.get("held_out", 0)
    return recorded if isinstance(recorded, int) and recorded > 0 else 0


def on_dataset(checkpoint: Checkpoint, dataset: str | None) -> Checkpoint:
    """``checkpoint`` with the inputs of its networks made from another data set, of which training held nothing out."""
    if dataset is None or dataset == checkpoint.dataset:
        return checkpoint
    return replace(checkpoint, dataset=dataset, training={**checkpoint.training, "held_out": 0})


def diffusion_steps(checkpoint: Checkpoint, shares: Sequence[float]) -> list[int]:
    """Diffusion steps at these shares (0 .. 1) of the diffusion, as the denoiser counts them.

    Images are denoised at 0 .. K - 1, tokens at 1 .. T_d.
    """
    model = checkpoint.model
    last = model.config.diffusion_steps - 1
    first = 0 if isinstance(model, ImageDenoiser) else 1
    return [first + int(share * last) for share in shares]


def network_parts(
    checkpoint: Checkpoint,
    at: Sequence[int],
    count: int,
    seed: int,
    input_bits: int = INPUT_BITS,
    noisy_range: float = NOISY_RANGE,
) -> dict[str, Part]:
    """Role -> network, in the order of the roles.

    The inputs are made from images that the model was trained on, so that what it held out stays unseen.

    Args:
        checkpoint: a trained model.
        at: diffusion steps of the denoiser's inputs.
        count: inputs at each of these steps; as many in all for each of the other networks.
        seed: choice of images, noise and masks.
        input_bits: magnitude bits of real-valued inputs.
        noisy_range: largest magnitude of a noised image; what is larger is clipped.

    Raises:
        ConfigError: a diffusion step that the model does not have.
    """
    model = checkpoint.model
    first, last = diffusion_steps(checkpoint, (0.0, 1.0))
    outside = [step for step in at if not first <= step <= last]
    if outside:
        raise ConfigError(f"diffusion step {outside[0]}: the denoiser has steps {first}..{last}")
    config = model.config
    shape = (config.channels, config.image_size, config.image_size)
    images = load_fitting(checkpoint.dataset, shape)
    if held_out(checkpoint):
        images, _ = split(images, held_out(checkpoint))
    if isinstance(model, SpikingDiffusion):
        return _token_parts(model, images, at, count, seed, input_bits)
    data = noised(images, checkpoint.beta_schedule, config.diffusion_steps, list(at), count, seed)
    return {"denoiser": Part(model, shape, config.diffusion_steps, InputFormat(input_bits, noisy_range), data)}


def _token_parts(
    model: SpikingDiffusion, images: ImageSet, at: Sequence[int], count: int, seed: int, input_bits: int
) -> dict[str, Part]:
    """Encoder, denoiser and decoder on images that the encoder turns into tokens."""
    config, autoencoder = model.config, model.autoencoder
    rng = np.random.default_rng(seed)
    steps = torch.from_numpy(np.repeat(np.array(at, dtype=np.int64), count))
    pixels = torch.from_numpy(images[rng.integers(len(images), size=len(steps))] * np.float32(PIXEL_SCALE))
    with torch.no_grad():
        tokens = autoencoder.tokens(autoencoder.encoder(pixels))
        codes = autoencoder.code_vectors(tokens)
        masked = torch.from_numpy(rng.random(tuple(tokens.shape))) < (steps / config.diffusion_steps)[:, None, None]
        partly_masked = denoiser_input(torch.where(masked, config.codes, tokens), steps)
        widest = float(autoencoder.codebook.abs().max())
    return {
        "encoder": _unconditioned(autoencoder.encoder, pixels, InputFormat(input_bits, PIXEL_SCALE)),
        "denoiser": _unconditioned(
            model.denoiser, partly_masked, InputFormat.integers((0, 1), (config.codes, config.diffusion_steps))
        ),
        "decoder": _unconditioned(autoencoder.decoder, codes, InputFormat(input_bits, widest)),
    }


def _unconditioned(model: nn.Module, inputs: torch.Tensor, input_format: InputFormat) -> Part:
    _, channels, height, width = inputs.shape
    data = Calibration(inputs.double().numpy(), np.zeros(len(inputs), dtype=np.int64))
    return Part(model, (channels, height, width), 1, input_format, data)
