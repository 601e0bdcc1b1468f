"""Diffusion with Gaussian noise, for networks that predict the noise: diffusers' contract in numpy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spikegen.diffusion.schedule import FloatArray, alphas_cumprod
from spikegen.diffusion.solver import NoiseSource
from spikegen.errors import ConfigError
from spikegen.program import ImageDiffusion, Pipeline
from spikegen.program.ir import Shape

# diffusers computes alpha_bar as a float32 product of up to 1000 factors, each rounded to 2^-24
_SCHEDULE_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class SolverStep:
    """Result of one solver step.

    Attributes:
        prev_sample: float64 [N, C, H, W], the sample at the next (less noisy) timestep.
        pred_original_sample: float64 [N, C, H, W], the image that the step expects at the end.
    """

    prev_sample: FloatArray
    pred_original_sample: FloatArray


def leading(train_steps: int, steps: int) -> npt.NDArray[np.int64]:
    """``i * (K // n)``, descending to 0 ("leading" in Lin et al., arXiv 2305.08891, table 2)."""
    return np.asarray(np.arange(steps)[::-1] * (train_steps // steps), dtype=np.int64)


def trailing(train_steps: int, steps: int) -> npt.NDArray[np.int64]:
    """``round(K - i * K / n) - 1``, descending from K - 1 ("trailing" in Lin et al., arXiv 2305.08891, table 2)."""
    return np.asarray(np.rint(train_steps - np.arange(steps) * (train_steps / steps)) - 1, dtype=np.int64)


SPACINGS = {"leading": leading, "trailing": trailing}


class GaussianSolver(ABC):
    """What all solvers of Gaussian diffusion share, ours and diffusers': the sample is an image with noise.

    Attributes:
        train_steps: K, number of diffusion steps of the noise schedule.
        alphas_cumprod: float64 [K], the noise schedule.
        init_noise_sigma: standard deviation of the initial noise.
    """

    records_samples = False

    timesteps: npt.NDArray[np.int64]
    remembers: bool
    train_steps: int
    alphas_cumprod: FloatArray
    init_noise_sigma: float

    @abstractmethod
    def set_timesteps(self, steps: int) -> None:
        """Choose ``steps`` of the K diffusion steps and forget earlier steps."""

    @abstractmethod
    def advance(self, output: FloatArray, t: int, sample: FloatArray, source: NoiseSource) -> FloatArray:
        """One step with the predicted noise ``output``, float64 [N, C, H, W] like ``sample``."""

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """See :meth:`Solver.identity <spikegen.diffusion.solver.Solver.identity>`."""

    @abstractmethod
    def scale_model_input(self, sample: FloatArray, t: int) -> FloatArray:
        """What the network gets to see of ``sample`` at timestep ``t``, float64 [N, C, H, W]."""

    def check(self, pipeline: Pipeline) -> None:
        """See :meth:`Solver.check <spikegen.diffusion.solver.Solver.check>`: kind and noise schedule.

        Raises:
            ConfigError: another kind of pipeline, or another noise schedule.
        """
        host = pipeline.host
        if not isinstance(host, ImageDiffusion):
            raise ConfigError(
                f"{type(self).__name__} samples images of an ImageDiffusion; {pipeline.name} is {type(host).__name__}"
            )
        steps = pipeline.network("denoiser").conditioning.steps
        if self.train_steps != steps:
            raise ConfigError(
                f"the solver has {self.train_steps} diffusion steps, {pipeline.name} was made for {steps}"
            )
        expected = alphas_cumprod(host.beta_schedule, steps)
        if not np.allclose(self.alphas_cumprod, expected, rtol=_SCHEDULE_TOLERANCE, atol=0.0):
            raise ConfigError(
                f"the solver has another noise schedule than {host.beta_schedule!r}, which {pipeline.name} was made for"
            )

    def initial_sample(self, images: int, shape: Shape, source: NoiseSource) -> FloatArray:
        """Normal noise of standard deviation :attr:`init_noise_sigma`, float64 [N, C, H, W]."""
        return source.normal((images, *shape)) * self.init_noise_sigma

    def check_sample(self, sample: FloatArray) -> None:  # noqa: B027 (optional)
        """Any finite image is a state; what is not finite never gets here."""

    def model_input(self, sample: FloatArray, t: int) -> FloatArray:
        """:meth:`scale_model_input` under the name that solvers of every kind share."""
        return self.scale_model_input(sample, t)

    def condition(self, t: int) -> int:
        """The timestep itself: the denoiser's tables have a row for each diffusion step."""
        return t

    def finish(self, sample: FloatArray) -> FloatArray:
        """The images, clamped to [-1, 1]."""
        return np.clip(sample, -1.0, 1.0)


class EpsilonSolver(GaussianSolver):
    """Base of our solvers: schedule, timesteps, and the image predicted from the noise.

    Args:
        schedule: name of the noise schedule, see :data:`spikegen.diffusion.schedule.SCHEDULES`.
        train_steps: K, number of diffusion steps the network was trained with.
        clip_sample: clamp the predicted image to [-1, 1] at every step.
        spacing: key of :data:`SPACINGS`; "leading" is diffusers' default.

    Attributes:
        timesteps: int64, descending; all K steps until :meth:`set_timesteps` is called.
        init_noise_sigma: 1.0, standard deviation of the initial noise.

    Raises:
        ConfigError: unknown schedule or spacing, or K out of range.
    """

    remembers = False

    def __init__(
        self,
        schedule: str = "linear",
        train_steps: int = 1000,
        *,
        clip_sample: bool = True,
        spacing: str = "leading",
    ) -> None:
        if spacing not in SPACINGS:
            raise ConfigError(f"timestep spacing {spacing!r} is unknown; known are {', '.join(sorted(SPACINGS))}")
        self.schedule = schedule
        self.train_steps = train_steps
        self.clip_sample = clip_sample
        self.spacing = spacing
        self.alphas_cumprod = alphas_cumprod(schedule, train_steps)
        self.init_noise_sigma = 1.0
        self.timesteps = leading(train_steps, train_steps)

    def set_timesteps(self, steps: int) -> None:
        """Choose ``steps`` of the K diffusion steps.

        Raises:
            ConfigError: ``steps`` is not in 1 .. K.
        """
        if not 1 <= steps <= self.train_steps:
            raise ConfigError(f"number of solver steps is {steps}, the noise schedule allows 1..{self.train_steps}")
        self.timesteps = SPACINGS[self.spacing](self.train_steps, steps)

    def scale_model_input(self, sample: FloatArray, t: int) -> FloatArray:  # noqa: ARG002 (diffusers' contract)
        """The sample itself: these solvers do not scale the input of the network."""
        return sample

    def add_noise(self, original: FloatArray, noise: FloatArray, t: int | npt.NDArray[np.int64]) -> FloatArray:
        """Forward process: the sample at timestep ``t`` of the images ``original``.

        Args:
            original: float64 [N, C, H, W].
            noise: standard normal, same shape.
            t: one timestep, or int64 [N].
        """
        alpha_bar = self.alphas_cumprod[np.asarray(t)].reshape(-1, *(1,) * (original.ndim - 1))
        # DDPM (arXiv 2006.11239), equation 4: x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps
        return np.asarray(np.sqrt(alpha_bar) * original + np.sqrt(1.0 - alpha_bar) * noise)

    def identity(self) -> Mapping[str, Any]:
        """See :meth:`Solver.identity <spikegen.diffusion.solver.Solver.identity>`."""
        return {
            "solver": type(self).__name__,
            "schedule": self.schedule,
            "train_steps": self.train_steps,
            "clip_sample": self.clip_sample,
            "timesteps": self.timesteps.tolist(),
        }

    @abstractmethod
    def takes_noise(self, t: int) -> bool:
        """Whether the step at timestep ``t`` adds noise."""

    @abstractmethod
    def step(self, model_output: FloatArray, t: int, sample: FloatArray, noise: FloatArray | None = None) -> SolverStep:
        """From the sample at timestep ``t`` to the sample at the timestep that follows it.

        Args:
            model_output: float64 [N, C, H, W], the predicted noise.
            t: one of :attr:`timesteps`.
            sample: same shape, the sample at timestep ``t``.
            noise: same shape, standard normal; needed where :meth:`takes_noise` says so, ignored elsewhere.

        Raises:
            ConfigError: ``t`` is not one of the timesteps, or noise is needed and missing.
        """

    def advance(self, output: FloatArray, t: int, sample: FloatArray, source: NoiseSource) -> FloatArray:
        """See :meth:`Solver.advance <spikegen.diffusion.solver.Solver.advance>`."""
        noise = source.normal(sample.shape) if self.takes_noise(t) else None
        return self.step(output, t, sample, noise).prev_sample

    def _noise(self, t: int, noise: FloatArray | None) -> FloatArray:
        if noise is None:
            raise ConfigError(f"{type(self).__name__} needs noise at timestep {t}: pass step(..., noise=...)")
        return noise

    def _alpha_bars(self, t: int) -> tuple[float, float]:
        """``alpha_bar`` at timestep ``t`` and at the one that follows it (1 after the last: the clean image)."""
        places = np.flatnonzero(self.timesteps == t)
        if len(places) != 1:
            raise ConfigError(f"timestep {t} is not one of the {len(self.timesteps)} that set_timesteps chose")
        place = int(places[0])
        last = place == len(self.timesteps) - 1
        previous = 1.0 if last else float(self.alphas_cumprod[self.timesteps[place + 1]])
        return float(self.alphas_cumprod[t]), previous

    def _predict_original(self, model_output: FloatArray, alpha_bar: float, sample: FloatArray) -> FloatArray:
        # DDPM (arXiv 2006.11239), equation 15; DDIM (arXiv 2010.02502), equation 9:
        # x_0 = (x_t - sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_bar_t)
        original = (sample - np.sqrt(1.0 - alpha_bar) * model_output) / np.sqrt(alpha_bar)
        return np.asarray(np.clip(original, -1.0, 1.0) if self.clip_sample else original)
