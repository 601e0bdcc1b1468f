"""Named training recipes: everything that decides a training run."""

from __future__ import annotations

from dataclasses import dataclass, field

from spikegen.errors import ConfigError
from spikegen.models import UNetConfig


@dataclass(frozen=True)
class Recipe:
    """A training run, reproducible from its fields.

    Attributes:
        model: sizes of the network.
        dataset: name in :data:`spikegen.training.datasets.DATASETS`.
        beta_schedule: noise schedule (:mod:`spikegen.diffusion.schedule`).
        iterations: optimiser steps.
        batch_size: images per step.
        learning_rate: peak of AdamW's learning rate; linear warm-up, then cosine decay to 0.
        warmup: optimiser steps of the warm-up.
        weight_decay: AdamW's.
        gradient_clip: largest norm of the gradient.
        ema_decay: decay of the exponential moving average of the weights, per step.
        seed: seed of initialisation, data order, diffusion steps and noise.
    """

    model: UNetConfig = field(default_factory=UNetConfig)
    dataset: str = "digits"
    beta_schedule: str = "squaredcos_cap_v2"
    iterations: int = 4500
    batch_size: int = 128
    learning_rate: float = 5e-3
    warmup: int = 100
    weight_decay: float = 1e-4
    gradient_clip: float = 1.0
    ema_decay: float = 0.998
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("iterations", 1), ("batch_size", 2), ("warmup", 0), ("seed", 0)):
            if getattr(self, name) < low:
                raise ConfigError(f"Recipe.{name} is {getattr(self, name)}; it must be at least {low}")
        for name in ("learning_rate", "gradient_clip"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"Recipe.{name} is {getattr(self, name)}; it must be positive")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"Recipe.ema_decay is {self.ema_decay}; it must be in [0, 1)")


RECIPES: dict[str, Recipe] = {"digits-unet": Recipe()}
