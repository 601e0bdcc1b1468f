"""The table of solvers, and how to get one."""

from __future__ import annotations

from typing import Any

from spikegen.diffusion.ddim import DDIM
from spikegen.diffusion.ddpm import DDPM
from spikegen.diffusion.external import ExternalSolver
from spikegen.diffusion.solver import EpsilonSolver, Solver
from spikegen.errors import ConfigError

SOLVERS: dict[str, type[DDIM] | type[DDPM]] = {
    "ddim": DDIM,
    "ddpm": DDPM,
}
# options that only some solvers have
OPTIONS: dict[str, tuple[str, ...]] = {
    "ddim": ("eta",),
    "ddpm": ("variance",),
}


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
    """The solver ``name`` for a noise schedule.

    Args:
        name: key of :data:`SOLVERS`.
        schedule: see :class:`~spikegen.diffusion.solver.EpsilonSolver`, like the next three.
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
    foreign = [key for key in options if key not in OPTIONS[name]]
    if foreign:
        raise ConfigError(f"solver {name} has no option {foreign[0]}; it has {', '.join(OPTIONS[name])}")
    return SOLVERS[name](schedule, train_steps, clip_sample=clip_sample, spacing=spacing, **options)


def as_solver(candidate: Any) -> Solver:
    """``candidate`` itself if it is one of ours, else the scheduler wrapped as a solver.

    Raises:
        ConfigError: it is neither a solver nor follows the contract of diffusers' schedulers.
    """
    if isinstance(candidate, EpsilonSolver | ExternalSolver):
        return candidate
    return ExternalSolver(candidate)
