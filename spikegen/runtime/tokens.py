"""Images to tokens and back, on any target: the host's part around the encoder and the decoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spikegen.errors import ConfigError
from spikegen.program import Counts, Pipeline, Target, TokenDiffusion
from spikegen.runtime.evaluate import evaluate_frames
from spikegen.runtime.lookup import Lookup

FloatArray = npt.NDArray[np.float64]
Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TokenResult:
    """What the encoder made of N images.

    Attributes:
        tokens: int64 [N, h, w], 0 .. K - 1.
        latents: float64 [N, D, h, w], the readout.
        counts: of the N evaluations.
    """

    tokens: Tokens
    latents: FloatArray
    counts: Counts


@dataclass(frozen=True, eq=False)
class DecodeResult:
    """What the decoder made of N grids of tokens.

    Attributes:
        images: float64 [N, C, H, W] in [-1, 1].
        counts: of the N evaluations.
    """

    images: FloatArray
    counts: Counts


def encode_images(pipeline: Pipeline, target: Target, images: FloatArray, batch: int | None = None) -> TokenResult:
    """The tokens of ``images``.

    Args:
        pipeline: a valid pipeline of tokens.
        target: where its encoder runs.
        images: float64 [N, C, H, W] in [-1, 1].
        batch: images per call of the target, default all; never changes a result.

    Raises:
        ConfigError: not a pipeline of tokens, images of another size or range, or ``batch`` below 1.
        BackendError: the target failed.
    """
    host, encoder = _tokens_host(pipeline), pipeline.network("encoder")
    images = np.asarray(images, dtype=np.float64)
    if images.shape[1:] != encoder.input.shape:
        raise ConfigError(f"images have shape {images.shape[1:]}, the encoder takes {encoder.input.shape}")
    if not len(images):
        raise ConfigError("there are no images to encode")
    if not (np.abs(images) <= 1.0).all():  # NaN is not within it
        raise ConfigError("images hold values outside -1..1")
    frames = encoder.input.quantize(host.pixel_scale * images)
    latents, counts = evaluate_frames(encoder, target, frames, 0, len(frames) if batch is None else batch)
    return TokenResult(nearest(host.codebook, latents), latents, counts)


def nearest(codebook: FloatArray, latents: FloatArray) -> Tokens:
    """Index of the code vector nearest to each latent vector (L2), the lowest of equally near ones.

    The squares of the D components are added one after another, elementwise: the result depends neither on how many
    images there are nor on a matrix product of the machine.

    Args:
        codebook: float64 [K, D].
        latents: float64 [N, D, h, w].

    Returns:
        int64 [N, h, w].
    """
    total = np.zeros((len(latents), len(codebook), *latents.shape[2:]))
    for d in range(codebook.shape[1]):
        difference = latents[:, d, None] - codebook[:, d, None, None]
        total += difference * difference
    return np.asarray(total.argmin(axis=1), dtype=np.int64)


def decode_tokens(
    pipeline: Pipeline, target: Target, tokens: Tokens, batch: int | None = None, lookup: Lookup | None = None
) -> DecodeResult:
    """The images of ``tokens``: ``clip(tanh(readout) / pixel_scale, -1, 1)``.

    Args:
        pipeline: a valid pipeline of tokens.
        target: where its decoder runs, or ``lookup.program``.
        tokens: int64 [N, h, w], 0 .. K - 1.
        batch: images per call of the target, default all; never changes a result.
        lookup: of this pipeline, if the target runs ``lookup.program``; the images are the same.

    Raises:
        ConfigError: not a pipeline of tokens, another grid, a token that is not in the codebook, or ``batch`` below 1.
        BackendError: the target failed.
    """
    host, decoder = _tokens_host(pipeline), pipeline.network("decoder")
    tokens = np.asarray(tokens)
    _check_tokens(tokens, decoder.input.shape[1:], len(host.codebook))
    if lookup is None:
        frames = decoder.input.quantize(host.codebook[tokens].transpose(0, 3, 1, 2))
    else:
        decoder, frames = lookup.program, lookup.frames(tokens)
    readout, counts = evaluate_frames(decoder, target, frames, 0, len(frames) if batch is None else batch)
    return DecodeResult(np.clip(np.tanh(readout) / host.pixel_scale, -1.0, 1.0), counts)


def _check_tokens(tokens: Tokens, grid: tuple[int, ...], codes: int) -> None:
    if tokens.shape[1:] != grid or not len(tokens) or tokens.dtype.kind not in "iu":
        size = ", ".join(map(str, grid))
        raise ConfigError(
            f"tokens are {tokens.dtype} {tokens.shape}, the decoder takes whole numbers (N, {size}), N >= 1"
        )
    outside = np.argwhere((tokens < 0) | (tokens >= codes))
    if len(outside):
        image, *site = outside[0].tolist()
        token = tokens[tuple(outside[0])]
        raise ConfigError(f"token {token} at image {image}, site {tuple(site)}: the codebook has 0..{codes - 1}")


def _tokens_host(pipeline: Pipeline) -> TokenDiffusion:
    if not isinstance(pipeline.host, TokenDiffusion):
        raise ConfigError(f"{pipeline.name} is {type(pipeline.host).__name__}: only a TokenDiffusion has tokens")
    return pipeline.host
