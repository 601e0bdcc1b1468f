"""The table of solvers, and how to get one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spikegen.diffusion.absorbing import Absorbing
from spikegen.diffusion.analytic import Analytic
from spikegen.diffusion.ddim import DDIM
from spikegen.diffusion.ddpm import DDPM
from spikegen.diffusion.dpm_solver import DPM_SOLVER, DPMSolver
from spikegen.diffusion.epsilon import EpsilonSolver, GaussianSolver
from spikegen.diffusion.external import ExternalSolver
from spikegen.diffusion.solver import Solver
from spikegen.errors import ConfigError
from spikegen.program import ImageDiffusion, Pipeline, TokenDiffusion

# ours for images; beside them are dpm-solver++, which needs diffusers, and absorbing, which is for tokens
SOLVERS: dict[str, type[EpsilonSolver]] = {
    "ddim": DDIM,
    "ddpm": DDPM,
    "analytic": Analytic,
}
ABSORBING = "absorbing"
# the options of every solver
OPTIONS: dict[str, tuple[str, ...]] = {
    "ddim": ("eta", "spacing"),
    "ddpm": ("variance", "spacing"),
    "analytic": ("spacing",),
    DPM_SOLVER: ("spacing",),
    ABSORBING: ("temperature",),
}


def make_solver(
    name: str, schedule: str = "linear", train_steps: int = 1000, *, clip_sample: bool = True, **options: Any
) -> EpsilonSolver:
    """The solver ``name`` of images for a noise schedule.

    Args:
        name: key of :data:`SOLVERS`.
        schedule: see :class:`~spikegen.diffusion.epsilon.EpsilonSolver`, like the next two.
        train_steps: K.
        clip_sample: clamp the predicted image.
        options: those of :data:`OPTIONS`, None for the default; for "analytic" also ``noise_power``, which it needs.

    Raises:
        ConfigError: unknown name, a value out of range, or an option that this solver does not have.
    """
    if name not in SOLVERS:
        raise ConfigError(f"solver {name!r} is unknown; known are {', '.join(sorted(SOLVERS))}")
    given = {key: value for key, value in options.items() if value is not None}
    statistics = {"noise_power": given.pop("noise_power")} if name == "analytic" and "noise_power" in given else {}
    _check_options(name, given)
    if name == "analytic" and not statistics:
        raise ConfigError("solver analytic needs noise_power, the measured power of the predicted noise")
    return SOLVERS[name](schedule, train_steps, clip_sample=clip_sample, **given, **statistics)


def default_solver(
    pipeline: Pipeline, name: str | None = None, **options: Any
) -> EpsilonSolver | DPMSolver | Absorbing:
    """A solver that fits ``pipeline``: its noise schedule, statistics or tokens are the pipeline's.

    Args:
        pipeline: what will be sampled.
        name: images: key of :data:`SOLVERS` or "dpm-solver++", default "ddim"; tokens: "absorbing", which is the
            default.
        options: those of the solver in :data:`OPTIONS`; None is the default of an option.

    Raises:
        ConfigError: the pipeline is not sampled, a name, an option or a value is not one of its solver, or something
            that the solver needs is missing: statistics (analytic), diffusers (dpm-solver++).
    """
    host = pipeline.host
    given = {key: value for key, value in options.items() if value is not None}
    if isinstance(host, TokenDiffusion):
        name = _check_name(name or ABSORBING, (ABSORBING,))
        _check_options(name, given)
        return Absorbing(len(host.codebook), host.steps, **given)
    if not isinstance(host, ImageDiffusion):
        raise ConfigError(f"{pipeline.name} is a {type(host).__name__}: there is no loop around it to solve")
    name = _check_name(name or "ddim", (*SOLVERS, DPM_SOLVER))
    _check_options(name, given)
    steps = pipeline.network("denoiser").conditioning.steps
    if name == DPM_SOLVER:
        return DPMSolver(host.beta_schedule, steps, clip_sample=host.clip_sample, **given)
    if name == "analytic":
        if not len(host.noise_power):
            raise ConfigError(
                f"solver analytic needs the power of the noise that the network predicts, and {pipeline.name} does not "
                "hold it: `spikegen statistics PIPELINE -o OUT` measures it and writes a pipeline that does"
            )
        given["noise_power"] = host.noise_power
    return make_solver(name, host.beta_schedule, steps, clip_sample=host.clip_sample, **given)


def _check_name(name: str, known: tuple[str, ...]) -> str:
    if name not in known:
        raise ConfigError(f"solver {name!r} does not fit this pipeline; its solvers are {', '.join(sorted(known))}")
    return name


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    for key in options:
        if key not in OPTIONS[name]:
            raise ConfigError(f"solver {name} has no option {key}; it has {', '.join(OPTIONS[name])}")


def as_solver(candidate: Any) -> Solver:
    """``candidate`` itself if it is one of ours, else the scheduler wrapped as a solver.

    Raises:
        ConfigError: it is neither a solver nor follows the contract of diffusers' schedulers.
    """
    if isinstance(candidate, GaussianSolver | Absorbing):
        return candidate
    return ExternalSolver(candidate)
