"""The solver of a run, with its steps chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import rich_click as click

if TYPE_CHECKING:
    from spikegen.diffusion import Solver
    from spikegen.program import Pipeline


def choose_solver(
    pipeline: Pipeline,
    name: str | None,
    steps: int | None,
    default: int | None,
    options: Mapping[str, Any],
) -> Solver:
    """A solver of the pipeline with its steps chosen; what it refuses is an error of the command line.

    Args:
        pipeline: what will be sampled.
        name: of the solver, None for the default of the pipeline.
        steps: solver steps, None for the default.
        default: that default, if the pipeline has as many; None for all it has.
        options: of the solver, None where not chosen.
    """
    from spikegen.diffusion import default_solver
    from spikegen.errors import ConfigError
    from spikegen.program import TokenDiffusion

    try:
        solver = default_solver(pipeline, name, **options)
        if steps is None:
            most = len(solver.timesteps)
            if isinstance(pipeline.host, TokenDiffusion):  # a step reveals at least one site
                _, height, width = pipeline.network("denoiser").input.shape
                most = min(most, height * width)
            steps = most if default is None else min(default, most)
        solver.set_timesteps(steps)
        solver.check(pipeline)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    return solver
