"""The rules of a pipeline and of its networks. All violations are collected and reported at once."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from spikegen.errors import ProgramError
from spikegen.program.ir import Program
from spikegen.program.pipeline import HostPart, ImageDiffusion, Pipeline, Standalone, TokenDiffusion
from spikegen.program.validate import STEPS_MAX, check_name, validate

CODES_MAX = 4096  # K
CODE_SIZE_MAX = 4096  # D


def validate_pipeline(pipeline: Pipeline) -> None:
    """Raise :class:`~spikegen.errors.ProgramError` with every violation, or return."""
    problems = [f"pipeline: {line}" for line in check_name(pipeline.name)]
    problems += _check_roles(pipeline)
    valid: dict[str, Program] = {}
    for role, program in pipeline.networks.items():
        found = _problems_of(program)
        problems += [f"{role}: {line}" for line in found]
        if not found and role in pipeline.host.ROLES:
            valid[role] = program
    problems += _check_host(pipeline.host, valid)
    if problems:
        raise ProgramError(problems)


def _check_roles(pipeline: Pipeline) -> list[str]:
    kind, roles = type(pipeline.host).__name__, pipeline.host.ROLES
    rule = f"a {kind} pipeline has {', '.join(roles)}"
    problems = [f"the pipeline has no {role}; {rule}" for role in roles if role not in pipeline.networks]
    return problems + [
        f"the pipeline has an unknown role {role!r}; {rule}" for role in pipeline.networks if role not in roles
    ]


def _problems_of(program: Program) -> list[str]:
    try:
        validate(program)
    except ProgramError as error:
        return error.problems
    return []


def _check_host(host: HostPart, networks: Mapping[str, Program]) -> list[str]:
    """What ``host`` finds wrong with itself and with those ``networks`` that are valid by themselves."""
    if isinstance(host, Standalone):
        return []
    problems = _check_images(host, networks) if isinstance(host, ImageDiffusion) else _check_tokens(host, networks)
    for role, program in networks.items():
        if program.input.streamed:
            problems.append(f"{role}: {program.input.name} is streamed, the host has one frame for all timesteps")
    return problems


def _check_images(host: ImageDiffusion, networks: Mapping[str, Program]) -> list[str]:
    problems = [f"host: beta_schedule: {line}" for line in check_name(host.beta_schedule)]
    power = host.noise_power
    if not (np.isfinite(power) & (power >= 0)).all():
        problems.append("host: noise_power must be finite numbers, none of them negative")
    if "denoiser" in networks:
        denoiser = networks["denoiser"]
        steps = denoiser.conditioning.steps
        if power.shape not in ((0,), (steps,)):
            problems.append(
                f"host: noise_power has shape {power.shape}, it must be ({steps},) as the denoiser has {steps} "
                "conditioning steps, or empty"
            )
        problems += _check_readout(denoiser, "denoiser", denoiser.input.shape, "its input")
    return problems


def _check_tokens(host: TokenDiffusion, networks: Mapping[str, Program]) -> list[str]:
    problems = []
    if not 1 <= host.steps <= STEPS_MAX:
        problems.append(f"host: steps is {host.steps}, allowed 1..{STEPS_MAX}")
    if not (math.isfinite(host.pixel_scale) and host.pixel_scale > 0):
        problems.append(f"host: pixel_scale is {host.pixel_scale}, it must be positive and finite")
    if "encoder" in networks and "decoder" in networks:
        image = networks["encoder"].input.shape
        problems += _check_readout(networks["decoder"], "decoder", image, "the encoder's input")
    shape = host.codebook.shape
    if len(shape) != 2 or not 2 <= shape[0] <= CODES_MAX or not 1 <= shape[1] <= CODE_SIZE_MAX:
        allowed = f"(K, D) with K in 2..{CODES_MAX} and D in 1..{CODE_SIZE_MAX}"
        return [*problems, f"host: the codebook has shape {shape}, it must be {allowed}"]
    if not np.isfinite(host.codebook).all():
        problems.append("host: the codebook holds numbers that are not finite")
    if "denoiser" in networks:
        problems += _check_token_denoiser(host, networks["denoiser"])
    return problems + _check_grids(host, networks)


def _check_token_denoiser(host: TokenDiffusion, denoiser: Program) -> list[str]:
    port, codes = denoiser.input, len(host.codebook)
    problems = []
    if port.scale != 1.0:
        problems.append(f"denoiser: scale of {port.name} is {port.scale}, it must be 1: its messages are indices")
    if denoiser.conditioning.steps != 1:
        problems.append(
            f"denoiser: it has {denoiser.conditioning.steps} conditioning steps, it must have 1: the diffusion step is "
            "part of its input"
        )
    if port.shape[0] != 2:
        return [*problems, f"denoiser: {port.name} is {port.shape}, it must be (2, h, w): tokens and diffusion step"]
    wanted = (("tokens", 0, codes), ("diffusion steps", 1, host.steps))
    for channel, (what, low, high) in enumerate(wanted):
        if port.low[channel] > low or port.high[channel] < high:
            found = f"{port.low[channel]}..{port.high[channel]}"
            problems.append(f"denoiser: channel {channel} of {port.name} holds {found}, the {what} are {low}..{high}")
    return problems


def _check_grids(host: TokenDiffusion, networks: Mapping[str, Program]) -> list[str]:
    """The same grid of sites in all networks, with as many channels as the codebook wants."""
    if not networks:
        return []
    codes, size = host.codebook.shape
    like = "the codebook and the grid of sites"
    leading = next(role for role in ("denoiser", "decoder", "encoder") if role in networks)
    first = next(networks[leading].readouts()) if leading == "encoder" else networks[leading].input
    grid = first.shape[1:]
    problems = []
    for role, channels in (("encoder", size), ("denoiser", codes)):
        if role in networks:
            problems += _check_readout(networks[role], role, (channels, *grid), like)
    if "decoder" in networks and networks["decoder"].input.shape != (size, *grid):
        port = networks["decoder"].input
        problems.append(f"decoder: {port.name} is {port.shape}, it must be {(size, *grid)} as {like}")
    return problems


def _check_readout(program: Program, role: str, shape: tuple[int, ...], like: str) -> list[str]:
    readouts = list(program.readouts())
    if len(readouts) != 1:
        return [f"{role}: it has {len(readouts)} readouts, it must have one"]
    found = readouts[0]
    if found.output_shape == shape:
        return []
    return [f"{role}: {found.name} is {found.output_shape}, it must be {shape} as {like}"]
