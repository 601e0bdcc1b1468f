"""The table of solvers, and how to get one."""

from __future__ import annotations

from typing import Any

from spikegen.diffusion.absorbing import Absorbing
from spikegen.diffusion.ddim import DDIM
from spikegen.diffusion.ddpm import DDPM
from spikegen.diffusion.epsilon import GaussianSolver
from spikegen.diffusion.external import ExternalSolver
from spikegen.diffusion.solver import Solver
from spikegen.errors import ConfigError
from spikegen.program import ImageDiffusion, Pipeline, TokenDiffusion

SOLVERS: dict[str, type[DDIM] | type[DDPM]] = {
    "ddim": DDIM,
    "ddpm": DDPM,
}
# options that only some solvers have
OPTIONS: dict[str, tuple[str, ...]] = {
    "ddim": ("eta",),
    "ddpm": ("variance",),
}


ABSORBING = "absorbing"
ABSORBING_OPTIONS = ("temperature",)


def make_solver(
    name: str,
    schedule: str = "linear",
    train_steps: int = 1000,
    *,
    clip_sample: bool = True,
    spacing: str = "leading",
    eta: float | None = None,
    variance: str | None = None,
) -> DDIM | DDPM:
    """The solver ``name`` of images for a noise schedule.

    Args:
        name: key of :data:`SOLVERS`.
        schedule: see :class:`~spikegen.diffusion.epsilon.EpsilonSolver`, like the next three.
        train_steps: K.
        clip_sample: clamp the predicted image.
        spacing: of the timesteps.
        eta: of :class:`~spikegen.diffusion.ddim.DDIM`; None is its default.
        variance: of :class:`~spikegen.diffusion.ddpm.DDPM`; None is its default.

    Raises:
        ConfigError: unknown name, a value out of range, or an option that this solver does not have.
    """
    if name not in SOLVERS:
        raise ConfigError(f"solver {name!r} is unknown; known are {', '.join(sorted(SOLVERS))}")
    options: dict[str, Any] = {key: value for key, value in (("eta", eta), ("variance", variance)) if value is not None}
    _check_options(name, options, OPTIONS)
    return SOLVERS[name](schedule, train_steps, clip_sample=clip_sample, spacing=spacing, **options)


def default_solver(pipeline: Pipeline, name: str | None = None, **options: Any) -> DDIM | DDPM | Absorbing:
    """A solver that fits ``pipeline``: its noise schedule or its tokens are the pipeline's.

    Args:
        pipeline: what will be sampled.
        name: images: key of :data:`SOLVERS`, default "ddim"; tokens: "absorbing", which is the default.
        options: images: ``spacing`` and what :func:`make_solver` takes for that solver; tokens: ``temperature``. None
            is the default of an option.

    Raises:
        ConfigError: the pipeline is not sampled, or a name, an option or a value is not one of its solver.
    """
    host = pipeline.host
    given = {key: value for key, value in options.items() if value is not None}
    if isinstance(host, TokenDiffusion):
        _check_options(name or ABSORBING, given, {ABSORBING: ABSORBING_OPTIONS})
        return Absorbing(len(host.codebook), host.steps, **given)
    if not isinstance(host, ImageDiffusion):
        raise ConfigError(f"{pipeline.name} is a {type(host).__name__}: there is no loop around it to solve")
    name = name or "ddim"
    _check_options(name, given, {key: (*known, "spacing") for key, known in OPTIONS.items()})
    steps = pipeline.network("denoiser").conditioning.steps
    return make_solver(name, host.beta_schedule, steps, clip_sample=host.clip_sample, **given)


def _check_options(name: str, options: dict[str, Any], known: dict[str, tuple[str, ...]]) -> None:
    if name not in known:
        raise ConfigError(f"solver {name!r} does not fit this pipeline; its solvers are {', '.join(sorted(known))}")
    for key in options:
        if key not in known[name]:
            raise ConfigError(f"solver {name} has no option {key}; it has {', '.join(known[name])}")


def as_solver(candidate: Any) -> Solver:
    """``candidate`` itself if it is one of ours, else the scheduler wrapped as a solver.

    Raises:
        ConfigError: it is neither a solver nor follows the contract of diffusers' schedulers.
    """
    if isinstance(candidate, GaussianSolver | Absorbing):
        return candidate
    return ExternalSolver(candidate)
