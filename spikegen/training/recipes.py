"""Named training recipes: everything that decides a training run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from spikegen.errors import ConfigError
from spikegen.models import FSDDIMConfig, SpikingDiffusionConfig, UNetConfig
from spikegen.training.datasets import load_images

FSDDIM_WIDTH = 36


@dataclass(frozen=True)
class Stage:
    """The training of one network of a model.

    Attributes:
        network: attribute of the model that is trained, "" for the model itself.
        iterations: optimiser steps.
        batch_size: examples per step.
        learning_rate: peak of AdamW's learning rate; linear warm-up, then cosine decay to 0.
        warmup: optimiser steps of the warm-up.
        weight_decay: AdamW's.
        gradient_clip: largest norm of the gradient.
        ema_decay: decay of the exponential moving average of the weights, per step.
        mixed_precision: convolutions in bfloat16 (torch.autocast); the weights stay float32.
    """

    network: str = ""
    iterations: int = 4500
    batch_size: int = 128
    learning_rate: float = 5e-3
    warmup: int = 100
    weight_decay: float = 1e-4
    gradient_clip: float = 1.0
    ema_decay: float = 0.998
    mixed_precision: bool = False

    def __post_init__(self) -> None:
        for name, low in (("iterations", 1), ("batch_size", 2), ("warmup", 0)):
            if getattr(self, name) < low:
                raise ConfigError(f"Stage.{name} is {getattr(self, name)}; it must be at least {low}")
        for name in ("learning_rate", "gradient_clip"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"Stage.{name} is {getattr(self, name)}; it must be positive")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"Stage.ema_decay is {self.ema_decay}; it must be in [0, 1)")


@dataclass(frozen=True)
class Recipe:
    """A training run, reproducible from its fields.

    Attributes:
        model: sizes of the model.
        stages: trained one after the other.
        dataset: name of the data set, see :func:`spikegen.training.load_images`.
        held_out: images that are not trained on, see :func:`spikegen.training.datasets.split`.
        beta_schedule: noise schedule (:mod:`spikegen.diffusion.schedule`), "absorbing" for tokens.
        seed: seed of initialisation, data order, diffusion steps and noise.
        start: SHA-256 of the weights that training starts from, "" for random ones.
    """

    model: UNetConfig | FSDDIMConfig | SpikingDiffusionConfig = field(default_factory=UNetConfig)
    stages: tuple[Stage, ...] = (Stage(),)
    dataset: str = "digits"
    held_out: int = 0
    beta_schedule: str = "squaredcos_cap_v2"
    seed: int = 0
    start: str = ""

    def __post_init__(self) -> None:
        for name in ("held_out", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"Recipe.{name} is {getattr(self, name)}; it must be at least 0")
        if not self.stages:
            raise ConfigError("Recipe.stages is empty; a run needs at least one stage")

    @property
    def iterations(self) -> int:
        """Optimiser steps of all stages."""
        return sum(stage.iterations for stage in self.stages)


def on_dataset(recipe: Recipe, dataset: str) -> Recipe:
    """``recipe`` for another data set: the same architecture for images of that size and number of channels.

    Args:
        recipe: of any model.
        dataset: name of the data set, see :func:`spikegen.training.load_images`.

    Raises:
        ConfigError: the data set is unknown or not there, or the model cannot take images of that size.
    """
    channels, height, width = load_images(dataset).image_shape
    hint = "@SIZE behind the name of a data set resizes its images"
    if height != width:
        raise ConfigError(f"the images of {dataset} are {height} x {width} pixels, a model takes squares; {hint}")
    try:
        model = replace(recipe.model, channels=channels, image_size=height)
    except ConfigError as error:
        raise ConfigError(f"no model of this recipe for the images of {dataset}: {error}; {hint}") from error
    return replace(recipe, model=model, dataset=dataset)


RECIPES: dict[str, Recipe] = {
    "digits-unet": Recipe(model=FSDDIMConfig(width=FSDDIM_WIDTH), stages=(Stage(mixed_precision=True),)),
    "digits-sddpm": Recipe(model=UNetConfig(neuron="hard-reset", tail="swish"), stages=(Stage(mixed_precision=True),)),
    "digits-slayer": Recipe(),
    "digits-ann": Recipe(
        model=UNetConfig(neuron="swish", tail="swish", timesteps=1), stages=(Stage(mixed_precision=True),)
    ),
    "digits-vq": Recipe(
        model=SpikingDiffusionConfig(),
        stages=(
            Stage("autoencoder", iterations=3000, learning_rate=2e-3, weight_decay=1e-3),
            Stage(
                "denoiser", iterations=7000, batch_size=64, learning_rate=4e-3, weight_decay=1e-3, mixed_precision=True
            ),
        ),
        held_out=297,
        beta_schedule="absorbing",
    ),
}
