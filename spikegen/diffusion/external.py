"""Schedulers of diffusers as solvers. Recognised by their methods; torch is imported only when one is given."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from spikegen.diffusion.epsilon import GaussianSolver
from spikegen.diffusion.schedule import FloatArray
from spikegen.diffusion.solver import NoiseSource
from spikegen.errors import ConfigError

_METHODS = ("set_timesteps", "step", "scale_model_input")
_ATTRIBUTES = ("timesteps", "init_noise_sigma", "alphas_cumprod", "config")


def is_scheduler(candidate: Any) -> bool:
    """Whether ``candidate`` follows the contract of diffusers' schedulers."""
    return all(callable(getattr(candidate, name, None)) for name in _METHODS) and all(
        hasattr(candidate, name) for name in _ATTRIBUTES
    )


class ExternalSolver(GaussianSolver):
    """A scheduler of diffusers (or of its contract) as a :class:`~spikegen.diffusion.solver.Solver`.

    The scheduler is copied, computes in float32 as in diffusers' pipelines, and draws its noise from one
    ``torch.Generator`` per image, seeded for each step.

    Args:
        scheduler: the scheduler; ``config.prediction_type`` must be "epsilon".

    Raises:
        ConfigError: it does not follow the contract, or does not take predicted noise.
    """

    remembers = True  # diffusers' schedulers may keep earlier model outputs and a step counter

    def __init__(self, scheduler: Any) -> None:
        if not is_scheduler(scheduler):
            missing = [name for name in (*_METHODS, *_ATTRIBUTES) if not hasattr(scheduler, name)]
            raise ConfigError(f"{type(scheduler).__name__} is no solver: it lacks {', '.join(missing)}")
        self._scheduler = copy.deepcopy(scheduler)
        self._config = dict(scheduler.config)
        prediction = self._config.get("prediction_type", "epsilon")
        if prediction != "epsilon":
            raise ConfigError(
                f"{type(scheduler).__name__} has prediction_type {prediction!r}; "
                "a Program predicts the noise: use 'epsilon'"
            )
        self._takes_generator = "generator" in inspect.signature(scheduler.step).parameters
        self.alphas_cumprod = np.asarray(scheduler.alphas_cumprod, dtype=np.float64)
        self.train_steps = len(self.alphas_cumprod)
        self._read()

    def _read(self) -> None:
        """Timesteps and noise level, which set_timesteps decides."""
        self._labels = list(self._scheduler.timesteps)
        values = np.asarray(self._scheduler.timesteps, dtype=np.float64)
        self.timesteps = values.astype(np.int64)
        self._whole = bool((values == self.timesteps).all())
        self.init_noise_sigma = float(self._scheduler.init_noise_sigma)
        self._place = 0

    def set_timesteps(self, steps: int) -> None:
        """Choose the timesteps and forget earlier steps.

        Raises:
            ConfigError: ``steps`` is not in 1 .. K, or the timesteps are no whole numbers.
        """
        if not 1 <= steps <= self.train_steps:
            raise ConfigError(f"number of solver steps is {steps}, the noise schedule allows 1..{self.train_steps}")
        self._scheduler.set_timesteps(steps)
        self._read()
        if not self._whole:
            raise ConfigError(
                f"{type(self._scheduler).__name__} visits fractional timesteps, a Program has whole ones: "
                "build it with timestep_spacing='leading' or 'trailing'"
            )

    def scale_model_input(self, sample: FloatArray, t: int) -> FloatArray:
        """The scheduler's ``scale_model_input``, float64 [N, C, H, W]. To be called once, before the step at ``t``."""
        scaled = self._scheduler.scale_model_input(_tensor(sample), self._label(t))
        return np.asarray(scaled.numpy(), dtype=np.float64)

    def advance(self, output: FloatArray, t: int, sample: FloatArray, source: NoiseSource) -> FloatArray:
        """The scheduler's ``step(...).prev_sample``, float64 [N, C, H, W]; timesteps must be visited in order."""
        import torch

        options: dict[str, Any] = {}
        if self._takes_generator:
            options["generator"] = [torch.Generator().manual_seed(seed) for seed in source.seeds(len(sample))]
        with torch.no_grad():
            result = self._scheduler.step(_tensor(output), self._label(t), _tensor(sample), **options)
        self._place += 1
        return np.asarray(result.prev_sample.numpy(), dtype=np.float64)

    def identity(self) -> Mapping[str, Any]:
        """See :meth:`Solver.identity <spikegen.diffusion.solver.Solver.identity>`."""
        config = {key: value for key, value in self._config.items() if not key.startswith("_")}
        return {
            "solver": f"{type(self._scheduler).__module__}.{type(self._scheduler).__qualname__}",
            "config": json.dumps(config, sort_keys=True, default=repr),
            "timesteps": self.timesteps.tolist(),
        }

    def _label(self, t: int) -> Any:
        """The scheduler's own label (a 0-d tensor, perhaps of floats) of the timestep it is at."""
        if self._place >= len(self.timesteps) or int(self.timesteps[self._place]) != t:
            raise ConfigError(
                f"timestep {t} is out of order: an external scheduler visits its timesteps one after another"
            )
        return self._labels[self._place]


def _tensor(array: FloatArray) -> Any:
    import torch

    return torch.from_numpy(np.asarray(array, dtype=np.float32))
