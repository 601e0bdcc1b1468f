"""What a solver is: the host's side of generation between two evaluations of the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from spikegen.diffusion.schedule import FloatArray
from spikegen.program import Pipeline
from spikegen.program.ir import Shape

Sample: TypeAlias = npt.NDArray[Any]  # float64 [N, C, H, W] images, or int64 [N, h, w] tokens


class NoiseSource(Protocol):
    """The randomness of one step of one run: one independent stream per image."""

    def normal(self, shape: tuple[int, ...]) -> FloatArray:
        """Standard normal noise, float64 ``shape`` = [N, ...]; image n depends on its own stream only."""

    def uniform(self, shape: tuple[int, ...]) -> FloatArray:
        """Uniform noise in [0, 1), float64 ``shape`` = [N, ...]; image n depends on its own stream only."""

    def seeds(self, images: int) -> list[int]:
        """One seed per image, 0 .. 2^63 - 1, for solvers that draw their noise themselves."""


class Solver(Protocol):
    """What :class:`spikegen.runtime.Session` needs of a solver.

    A *sample* is the state of the run: float64 [N, C, H, W] for images, int64 [N, h, w] for tokens. Image n of a result
    depends on image n of the arguments only.

    Attributes:
        timesteps: int64, descending diffusion steps to visit; what :meth:`set_timesteps` chose.
        remembers: the result of a step depends on the steps before it (a multi-step method).
        records_samples: the session keeps the sample after every step.
    """

    timesteps: npt.NDArray[np.int64]
    remembers: bool
    records_samples: bool

    def set_timesteps(self, steps: int) -> None:
        """Choose the timesteps and forget earlier steps."""

    def check(self, pipeline: Pipeline) -> None:
        """ConfigError unless the solver, with its timesteps chosen, fits ``pipeline``."""

    def initial_sample(self, images: int, shape: Shape, source: NoiseSource) -> Sample:
        """The sample before the first step, for a network whose input is ``shape`` = (C, H, W)."""

    def check_sample(self, sample: Sample) -> None:
        """ConfigError unless ``sample`` can be the state of a run."""

    def model_input(self, sample: Sample, t: int) -> FloatArray:
        """What the network gets to see of ``sample`` at timestep ``t``, float64 [N, C, H, W]; once for each step."""

    def condition(self, t: int) -> int:
        """The row of the network's conditioning tables at timestep ``t``."""

    def advance(self, output: FloatArray, t: int, sample: Sample, source: NoiseSource) -> Sample:
        """One step: the sample at the timestep that follows ``t``.

        Args:
            output: float64 [N, C, H, W], the network's answer to :meth:`model_input`.
            t: the timestep.
            sample: the sample at ``t``.
            source: where noise, if any, is drawn from.
        """

    def finish(self, sample: Sample) -> Sample:
        """The result, from the sample after the last step: float64 images in [-1, 1], or int64 tokens."""

    def identity(self) -> Mapping[str, Any]:
        """Everything that decides the result, as JSON-able values: two equal identities make equal images."""
