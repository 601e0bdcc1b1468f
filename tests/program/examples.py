"""Hand-made Programs that tests change in one place."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from spikegen.program import (
    Conditioning,
    Conv,
    Dense,
    ImageDiffusion,
    Input,
    Lif,
    Pipeline,
    Program,
    Readout,
    Relay,
    Standalone,
    SwishTail,
    TokenDiffusion,
)
from spikegen.program.ir import Shape


def every_primitive() -> Program:
    """Every primitive: in -> a -> r -> out, in -> r (delayed by one), a -> y."""
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> np.ndarray[Any, np.dtype[np.int8]]:
        return rng.integers(-128, 128, shape).astype(np.int8)

    return Program(
        name="example",
        timesteps=2,
        input=Input("in", (2, 3, 3), bits=4, scale=1 / 15),
        populations=(
            Lif("a", (2, 3, 3), 100, 4095, 0, np.array([-5, 7], dtype=np.int16), 2, 0.5, "layer", 1),
            Relay("r", (1, 3, 3), 23, 0.25),
            Readout("out", (1, 1, 1), np.array([0.8, 1.0]), np.array([0.5]), 0.125),
            Readout("y", (1, 6, 6), np.array([0.0, 1.0]), np.array([-0.5]), 2.0),
        ),
        projections=(
            Conv("in>a", "in", "a", weight(2, 1, 3, 3), 1, padding=(1, 1), groups=2),
            Conv("a>r", "a", "r", weight(1, 2, 2, 1), 2, padding=(1, 0), dilation=(2, 1)),
            Conv("in>r", "in", "r", weight(1, 2, 1, 1), 3, delay=1),
            Dense("r>out", "r", "out", weight(1, 9) // 16, 1),
            Conv("a>y", "a", "y", weight(4, 2, 1, 1), 1, shuffle=2),
        ),
        conditioning=Conditioning(3, {"a": np.array([[0, 1], [2, 3], [-4, -5]], dtype=np.int16)}),
        ann_macs=1234,
        report={
            "type": "Lif",
            "array": {"array": "000000"},
            "values": [1, 2.5, None, True, "text"],
            "nested": {"a": []},
        },
    )


def every_field() -> Program:
    """:func:`every_primitive` with what its nodes may have besides: gains, a tail, delays, a Lif that hears nothing."""
    program = every_primitive()
    for name, gains in (("in>a", [3, -2]), ("a>r", [0, 5]), ("r>out", [-1, 1])):
        program = changed(program, name, gains=gains)
    rng = np.random.default_rng(1)
    tail = SwishTail(
        norm_scale=rng.normal(size=1),
        norm_shift=rng.normal(size=1),
        weight=rng.normal(size=(3, 1, 3, 1)),
        bias=rng.normal(size=3),
        gains=np.array([0.5, 1.5]),
        mix_weight=rng.normal(size=(3, 3, 1, 3)),
        mix_bias=rng.normal(size=3),
    )
    program = changed(program, "y", tail=tail, bias=[[-0.5], [0.25]])
    clock = Lif("clock", (2, 3, 3), 150, 4095, 0, np.array([60, 90], dtype=np.int16), 7)
    program = changed(program, "a", delays=np.arange(18).reshape(2, 3, 3) % 3)
    beat = Conv("clock>r", "clock", "r", np.full((1, 2, 1, 1), 3, dtype=np.int8), 1, delay=1, gains=np.array([1, 2]))
    return dataclasses.replace(
        program, populations=(clock, *program.populations), projections=(*program.projections, beat)
    )


def alone(program: Program) -> Pipeline:
    """A pipeline of ``program`` alone."""
    return Pipeline("alone", Standalone(), {"network": program}, {"checkpoint": "abc", "type": "not a class"})


def pointwise(name: str, port: Input, channels: int, *, patch: int = 1, shuffle: int = 1) -> Program:
    """One projection from ``port`` to a readout of ``channels`` channels, ``patch`` pixels to one or one to many."""
    weight = np.ones((channels * shuffle**2, port.shape[0], patch, patch), dtype=np.int8)
    projection = Conv("w", port.name, "out", weight, 1, stride=(patch, patch), shuffle=shuffle)
    shape: Shape = projection.target_shape(port.shape)
    return Program(name, 2, port, (Readout("out", shape, np.ones(2), np.zeros(channels)),), (projection,))


def image_diffusion() -> Pipeline:
    """Diffusion of images of (1, 4, 6) pixels."""
    denoiser = pointwise("unet", Input("image", (1, 4, 6), 8, 1 / 64), 1)
    host = ImageDiffusion("cosine", clip_sample=False, noise_power=np.array([0.75]))
    return Pipeline("digits", host, {"denoiser": denoiser}, {"from": "abc"})


def token_diffusion() -> Pipeline:
    """Images of (1, 4, 6) pixels, a grid of (2, 3) sites, K = 5 codes of D = 3 numbers, T_d = 7 diffusion steps."""
    tokens = Input("tokens", (2, 2, 3), 3, 1.0, np.array([0, 1]), np.array([5, 7]))
    return Pipeline(
        "tokens",
        TokenDiffusion(np.arange(15).reshape(5, 3) / 8, 7, 0.25),
        {
            "encoder": pointwise("encoder", Input("image", (1, 4, 6), 7, 1 / 64), 3, patch=2),
            "denoiser": pointwise("denoiser", tokens, 5),
            "decoder": pointwise("decoder", Input("codes", (3, 2, 3), 7, 1 / 32), 1, shuffle=2),
        },
    )


def changed(program: Program, name: str, /, **changes: Any) -> Program:
    """``program`` with some fields of the node or projection ``name`` replaced."""
    return dataclasses.replace(
        program,
        input=_changed(program.input, name, changes),
        populations=tuple(_changed(p, name, changes) for p in program.populations),
        projections=tuple(_changed(p, name, changes) for p in program.projections),
    )


def _changed(node: Any, name: str, changes: dict[str, Any]) -> Any:
    return dataclasses.replace(node, **changes) if node.name == name else node
