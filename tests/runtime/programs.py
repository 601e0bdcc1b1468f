"""Tiny pipelines made by hand: one that predicts some noise of the shape of its input, one that makes tokens."""

import dataclasses
from typing import Any

import numpy as np

from spikegen.program import (
    Conditioning,
    Conv,
    ImageDiffusion,
    Input,
    Lif,
    Pipeline,
    Program,
    Readout,
    TokenDiffusion,
    validate_pipeline,
)

TIMESTEPS, STEPS = 4, 40
CODES, TOKEN_STEPS, GRID = 5, 6, (2, 3)


def tiny(channels: int = 1, size: int = 4, steps: int = STEPS, schedule: str = "linear") -> Pipeline:
    """Input -> Lif (conditioned on the diffusion step) -> readout, with random weights."""
    rng = np.random.default_rng(7)
    shape = (channels, size, size)
    hidden = 3
    table = rng.integers(-40, 40, (steps, hidden)).astype(np.int16)
    program = Program(
        "tiny",
        TIMESTEPS,
        Input("x", shape, 7, 4 / 127),
        (
            Lif("hidden", (hidden, size, size), 900, 4095, 0, rng.integers(-20, 20, hidden).astype(np.int16), 4),
            Readout("noise", shape, 0.8 ** np.arange(TIMESTEPS)[::-1], np.full(channels, 0.03), 1 / 1000),
        ),
        (
            _conv(rng, "x", "hidden", (hidden, channels, 3, 3), padding=(1, 1)),
            _conv(rng, "hidden", "noise", (channels, hidden, 3, 3), padding=(1, 1)),
        ),
        Conditioning(steps, {"hidden": table}),
    )
    pipeline = Pipeline("tiny", ImageDiffusion(schedule), {"denoiser": program})
    validate_pipeline(pipeline)
    return pipeline


def with_denoiser(pipeline: Pipeline, **changes: Any) -> Pipeline:
    """``pipeline`` with some fields of its denoiser replaced."""
    denoiser = dataclasses.replace(pipeline.network("denoiser"), **changes)
    return dataclasses.replace(pipeline, networks={**pipeline.networks, "denoiser": denoiser})


def small_readout() -> Pipeline:
    """A pipeline whose readout is smaller than its input: not valid."""
    pipeline = tiny()
    first, last = pipeline.network("denoiser").projections
    assert isinstance(last, Conv)
    hidden, readout = pipeline.network("denoiser").populations
    return with_denoiser(
        pipeline,
        populations=(hidden, dataclasses.replace(readout, shape=(1, 2, 2))),
        projections=(first, dataclasses.replace(last, padding=(0, 0))),
    )


def tiny_tokens(codes: int = CODES, steps: int = TOKEN_STEPS, grid: tuple[int, int] = GRID) -> Pipeline:
    """Encoder, denoiser and decoder with random weights: images of one channel, twice as high and wide as the grid."""
    rng = np.random.default_rng(11)
    size, (h, w) = 3, grid
    host = TokenDiffusion(rng.normal(size=(codes, size)), steps)
    leaky = 0.8 ** np.arange(TIMESTEPS)[::-1]
    encoder = Program(
        "encoder",
        TIMESTEPS,
        Input("pixels", (1, 2 * h, 2 * w), 7, 0.5 / 127),
        (
            _lif(rng, "features", (4, h, w), 2000),
            Readout("latent", (size, h, w), leaky, np.zeros(size), 1 / 300),
        ),
        (
            _conv(rng, "pixels", "features", (4, 1, 3, 3), stride=(2, 2), padding=(1, 1)),
            _conv(rng, "features", "latent", (size, 4, 1, 1)),
        ),
        ann_macs=1000,
    )
    denoiser = Program(
        "denoiser",
        TIMESTEPS,
        Input("state", (2, h, w), 8, 1.0, np.array([0, 0]), np.array([codes, steps])),
        (
            _lif(rng, "hidden", (6, h, w), 300),
            Readout("logits", (codes, h, w), np.full(TIMESTEPS, 1 / TIMESTEPS), rng.normal(size=codes), 1 / 300),
        ),
        (
            _conv(rng, "state", "hidden", (6, 2, 3, 3), padding=(1, 1)),
            _conv(rng, "hidden", "logits", (codes, 6, 3, 3), padding=(1, 1)),
        ),
        ann_macs=2000,
    )
    decoder = Program(
        "decoder",
        TIMESTEPS,
        Input("code", (size, h, w), 7, 3 / 127),
        (
            _lif(rng, "generator", (size, h, w), 2000),
            _lif(rng, "up", (4, 2 * h, 2 * w), 100),
            Readout("pixel", (1, 2 * h, 2 * w), leaky, np.array([0.1]), 1 / 400),
        ),
        (
            _conv(rng, "code", "generator", (size, size, 1, 1)),
            _conv(rng, "generator", "up", (16, size, 3, 3), padding=(1, 1), shuffle=2),
            _conv(rng, "up", "pixel", (1, 4, 3, 3), padding=(1, 1)),
        ),
        ann_macs=3000,
    )
    pipeline = Pipeline("tokens", host, {"encoder": encoder, "denoiser": denoiser, "decoder": decoder})
    validate_pipeline(pipeline)
    return pipeline


def _lif(rng: np.random.Generator, name: str, shape: tuple[int, int, int], vth: int) -> Lif:
    return Lif(name, shape, vth, 4095, 2047, rng.integers(-20, 20, shape[0]).astype(np.int16), 4)


def _conv(rng: np.random.Generator, source: str, target: str, shape: tuple[int, ...], **geometry: Any) -> Conv:
    return Conv(f"{source}>{target}", source, target, rng.integers(-60, 60, shape).astype(np.int8), 1, **geometry)
