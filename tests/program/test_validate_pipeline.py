"""Every rule of a pipeline, with the text of its message."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from spikegen.errors import ProgramError
from spikegen.program import (
    Conditioning,
    ImageDiffusion,
    Input,
    Pipeline,
    Program,
    Standalone,
    SwishTail,
    TokenDiffusion,
    validate_pipeline,
)
from tests.program.examples import alone, changed, every_primitive, image_diffusion, pointwise, token_diffusion


def problems(pipeline: Pipeline) -> list[str]:
    """What ``validate_pipeline`` reports."""
    try:
        validate_pipeline(pipeline)
    except ProgramError as error:
        return error.problems
    return []


def with_network(pipeline: Pipeline, role: str, change: Callable[[Program], Program]) -> Pipeline:
    return dataclasses.replace(pipeline, networks={**pipeline.networks, role: change(pipeline.networks[role])})


def with_host(pipeline: Pipeline, **changes: Any) -> Pipeline:
    return dataclasses.replace(pipeline, host=dataclasses.replace(pipeline.host, **changes))


def unmeasured() -> Pipeline:
    """The example of images without the power of its noise."""
    return with_host(image_diffusion(), noise_power=[])


@pytest.mark.parametrize("pipeline", [alone(every_primitive()), image_diffusion(), token_diffusion()])
def test_the_examples_are_valid(pipeline: Pipeline) -> None:
    assert problems(pipeline) == []


@pytest.mark.parametrize("name", ["", "a b", "a/b", "n" * 121, "\x1b[2J"])
def test_names(name: str) -> None:
    message = f"pipeline: {name!r}: a name has 1 to 120 of the characters A-Z a-z 0-9 _ . : > [ ] -"
    assert problems(dataclasses.replace(image_diffusion(), name=name)) == [message]


@pytest.mark.parametrize(
    ("host", "roles"),
    [
        (Standalone(), ("network",)),
        (ImageDiffusion(), ("denoiser",)),
        (TokenDiffusion(np.eye(3), 4), ("encoder", "denoiser", "decoder")),
    ],
)
def test_every_role_is_played_and_no_other(host: Any, roles: tuple[str, ...]) -> None:
    rule = f"a {type(host).__name__} pipeline has {', '.join(roles)}"
    assert problems(Pipeline("p", host, {})) == [f"the pipeline has no {role}; {rule}" for role in roles]
    found = problems(Pipeline("p", host, {"actor": every_primitive()}))
    assert found[-1] == f"the pipeline has an unknown role 'actor'; {rule}"
    assert len(found) == len(roles) + 1


def test_a_missing_decoder() -> None:
    pipeline = token_diffusion()
    networks = {role: program for role, program in pipeline.networks.items() if role != "decoder"}
    message = "the pipeline has no decoder; a TokenDiffusion pipeline has encoder, denoiser, decoder"
    assert problems(dataclasses.replace(pipeline, networks=networks)) == [message]


@pytest.mark.parametrize("role", ["encoder", "denoiser", "decoder"])
def test_rules_of_the_networks_name_the_role(role: str) -> None:
    pipeline = with_network(token_diffusion(), role, lambda program: dataclasses.replace(program, timesteps=0))
    assert problems(pipeline) == [f"{role}: program: timesteps is 0, allowed 1..1024"]


# --- diffusion of images


@pytest.mark.parametrize("schedule", ["", "a schedule", "x" * 121])
def test_names_of_schedules(schedule: str) -> None:
    (message,) = problems(with_host(image_diffusion(), beta_schedule=schedule))
    assert (
        message == f"host: beta_schedule: {schedule!r}: a name has 1 to 120 of the characters A-Z a-z 0-9 _ . : > [ ] -"
    )


def test_the_noise_has_the_shape_of_the_image() -> None:
    other = pointwise("unet", Input("image", (1, 4, 6), 8, 1 / 64), 2)
    pipeline = dataclasses.replace(image_diffusion(), networks={"denoiser": other})
    assert problems(pipeline) == ["denoiser: out is (2, 4, 6), it must be (1, 4, 6) as its input"]
    pipeline = dataclasses.replace(unmeasured(), networks={"denoiser": every_primitive()})
    assert problems(pipeline) == ["denoiser: it has 2 readouts, it must have one"]


def test_the_noise_is_the_output_of_the_tail() -> None:
    """A readout of 2 channels whose tail makes the one of the image."""
    denoiser = pointwise("unet", Input("image", (1, 4, 6), 8, 1 / 64), 2)
    ones = np.ones((1, 2, 1, 1))
    layers = SwishTail(np.ones(2), np.zeros(2), ones, np.zeros(1), np.ones(2), np.ones((1, 1, 1, 1)), np.zeros(1))
    pipeline = dataclasses.replace(image_diffusion(), networks={"denoiser": changed(denoiser, "out", tail=layers)})
    assert problems(pipeline) == []
    layers = dataclasses.replace(
        layers, weight=np.ones((2, 2, 1, 1)), bias=np.zeros(2), mix_weight=np.ones((2, 2, 1, 1)), mix_bias=np.zeros(2)
    )
    pipeline = dataclasses.replace(image_diffusion(), networks={"denoiser": changed(denoiser, "out", tail=layers)})
    assert problems(pipeline) == ["denoiser: out is (2, 4, 6), it must be (1, 4, 6) as its input"]


@pytest.mark.parametrize(
    ("power", "message"),
    [
        ([], None),
        ([0.0, 0.5, 1e300], None),
        ([1.0], "host: noise_power has shape (1,), it must be (3,) as the denoiser has 3 conditioning steps, or empty"),
        (
            [[1.0, 1.0, 1.0]],
            "host: noise_power has shape (1, 3), it must be (3,) as the denoiser has 3 conditioning steps, or empty",
        ),
        ([1.0, -1e-9, 1.0], "host: noise_power must be finite numbers, none of them negative"),
        ([1.0, math.nan, 1.0], "host: noise_power must be finite numbers, none of them negative"),
        ([1.0, math.inf, 1.0], "host: noise_power must be finite numbers, none of them negative"),
    ],
)
def test_powers_of_the_noise(power: Any, message: str | None) -> None:
    pipeline = with_network(unmeasured(), "denoiser", lambda p: dataclasses.replace(p, conditioning=Conditioning(3)))
    assert problems(with_host(pipeline, noise_power=power)) == ([] if message is None else [message])


# --- diffusion of tokens: codebook (5, 3), T_d 7, grid (2, 3), images (1, 4, 6)


@pytest.mark.parametrize(
    "codebook", [np.zeros(5), np.zeros((1, 3)), np.zeros((4097, 3)), np.zeros((5, 0)), np.zeros((2, 4097))]
)
def test_shapes_of_codebooks(codebook: Any) -> None:
    shape = codebook.shape
    assert problems(with_host(token_diffusion(), codebook=codebook)) == [
        f"host: the codebook has shape {shape}, it must be (K, D) with K in 2..4096 and D in 1..4096"
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_codebooks_are_finite(value: float) -> None:
    codebook = np.zeros((5, 3))
    codebook[2, 1] = value
    assert problems(with_host(token_diffusion(), codebook=codebook)) == [
        "host: the codebook holds numbers that are not finite"
    ]


@pytest.mark.parametrize("steps", [0, -1, 65537])
def test_diffusion_steps(steps: int) -> None:
    assert problems(with_host(token_diffusion(), steps=1)) == []
    assert problems(with_host(token_diffusion(), steps=steps))[0] == f"host: steps is {steps}, allowed 1..65536"


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_pixel_scales(scale: float) -> None:
    message = f"host: pixel_scale is {scale}, it must be positive and finite"
    assert problems(with_host(token_diffusion(), pixel_scale=scale)) == [message]


RULES: list[tuple[str, Callable[[Program], Program], str]] = [
    (
        "encoder",
        lambda p: pointwise("encoder", p.input, 4, patch=2),
        "encoder: out is (4, 2, 3), it must be (3, 2, 3) as the codebook and the grid of sites",
    ),
    (
        "encoder",
        lambda p: dataclasses.replace(
            p,
            populations=(*p.populations, dataclasses.replace(next(p.readouts()), name="more")),
            projections=(*p.projections, dataclasses.replace(p.projections[0], name="v", target="more")),
        ),
        "encoder: it has 2 readouts, it must have one",
    ),
    (
        "encoder",
        lambda p: changed(p, "image", streamed=True),
        "encoder: image is streamed, the host has one frame for all timesteps",
    ),
    (
        "denoiser",
        lambda p: changed(p, "tokens", streamed=True),
        "denoiser: tokens is streamed, the host has one frame for all timesteps",
    ),
    (
        "decoder",
        lambda p: changed(p, "codes", streamed=True),
        "decoder: codes is streamed, the host has one frame for all timesteps",
    ),
    (
        "denoiser",
        lambda p: pointwise("denoiser", p.input, 6),
        "denoiser: out is (6, 2, 3), it must be (5, 2, 3) as the codebook and the grid of sites",
    ),
    (
        "denoiser",
        lambda _: pointwise("denoiser", Input("tokens", (1, 2, 3), 3, 1.0), 5),
        "denoiser: tokens is (1, 2, 3), it must be (2, h, w): tokens and diffusion step",
    ),
    (
        "denoiser",
        lambda p: changed(p, "tokens", scale=0.5),
        "denoiser: scale of tokens is 0.5, it must be 1: its messages are indices",
    ),
    (
        "denoiser",
        lambda p: changed(p, "tokens", high=[4, 7]),
        "denoiser: channel 0 of tokens holds 0..4, the tokens are 0..5",
    ),
    (
        "denoiser",
        lambda p: changed(p, "tokens", low=[1, 1]),
        "denoiser: channel 0 of tokens holds 1..5, the tokens are 0..5",
    ),
    (
        "denoiser",
        lambda p: changed(p, "tokens", high=[5, 6]),
        "denoiser: channel 1 of tokens holds 1..6, the diffusion steps are 1..7",
    ),
    (
        "denoiser",
        lambda p: changed(p, "tokens", low=[0, 2]),
        "denoiser: channel 1 of tokens holds 2..7, the diffusion steps are 1..7",
    ),
    (
        "denoiser",
        lambda p: dataclasses.replace(p, conditioning=Conditioning(7)),
        "denoiser: it has 7 conditioning steps, it must have 1: the diffusion step is part of its input",
    ),
    (
        "decoder",
        lambda _: pointwise("decoder", Input("codes", (4, 2, 3), 7, 1 / 32), 1, shuffle=2),
        "decoder: codes is (4, 2, 3), it must be (3, 2, 3) as the codebook and the grid of sites",
    ),
    (
        "decoder",
        lambda p: pointwise("decoder", p.input, 2, shuffle=2),
        "decoder: out is (2, 4, 6), it must be (1, 4, 6) as the encoder's input",
    ),
]


@pytest.mark.parametrize(("role", "change", "message"), RULES)
def test_what_the_tokens_want_of_their_networks(role: str, change: Callable[[Program], Program], message: str) -> None:
    assert problems(with_network(token_diffusion(), role, change)) == [message]


def test_wider_ranges_than_the_tokens_are_welcome() -> None:
    assert (
        problems(with_network(token_diffusion(), "denoiser", lambda p: changed(p, "tokens", low=[-7, 0], high=[7, 7])))
        == []
    )


def test_another_grid_of_sites() -> None:
    """The denoiser's input says which one is right."""
    tokens = Input("tokens", (2, 3, 2), 3, 1.0, np.array([0, 1]), np.array([5, 7]))
    pipeline = with_network(token_diffusion(), "denoiser", lambda _: pointwise("denoiser", tokens, 5))
    assert problems(pipeline) == [
        "encoder: out is (3, 2, 3), it must be (3, 3, 2) as the codebook and the grid of sites",
        "decoder: codes is (3, 2, 3), it must be (3, 3, 2) as the codebook and the grid of sites",
    ]


def test_all_violations_are_reported_at_once() -> None:
    pipeline = with_network(token_diffusion(), "encoder", lambda p: changed(p, "image", scale=0.0))
    pipeline = with_network(pipeline, "denoiser", lambda p: changed(p, "tokens", scale=2.0, high=[4, 6]))
    networks = {role: program for role, program in pipeline.networks.items() if role != "decoder"}
    pipeline = dataclasses.replace(with_host(pipeline, pixel_scale=0.0), name="a b", networks=networks)
    assert problems(pipeline) == [
        "pipeline: 'a b': a name has 1 to 120 of the characters A-Z a-z 0-9 _ . : > [ ] -",
        "the pipeline has no decoder; a TokenDiffusion pipeline has encoder, denoiser, decoder",
        "encoder: image: scale is 0.0, it must be positive and finite",
        "host: pixel_scale is 0.0, it must be positive and finite",
        "denoiser: scale of tokens is 2.0, it must be 1: its messages are indices",
        "denoiser: channel 0 of tokens holds 0..4, the tokens are 0..5",
        "denoiser: channel 1 of tokens holds 1..6, the diffusion steps are 1..7",
    ]
