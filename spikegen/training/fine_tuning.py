"""Fine-tuning: training goes on from a checkpoint, with SDM's gains added if they are wanted."""

from __future__ import annotations

import dataclasses

from torch import nn

from spikegen.errors import ConfigError
from spikegen.models import Checkpoint, FSDDIMConfig, ImageDenoiser, UNetConfig
from spikegen.training.recipes import Recipe, Stage

# SDM trains its gains, with all weights, for less than a tenth of the iterations of the network without them.
STAGE = Stage(iterations=450, learning_rate=1e-3, warmup=50, mixed_precision=True)


def fine_tuning(checkpoint: Checkpoint, *, tsm: bool = False) -> Recipe:
    """The recipe that goes on training the network of ``checkpoint``, on its data and noise schedule.

    Args:
        checkpoint: a loaded checkpoint of a network that predicts the noise of images.
        tsm: add a gain per SNN step behind every convolution (TSM, SDM, arXiv 2408.16467), 1 at first.

    Raises:
        ConfigError: it is a checkpoint of another kind, or its network cannot have gains.
    """
    config = checkpoint.model.config
    name = checkpoint.source
    if not isinstance(config, UNetConfig | FSDDIMConfig):
        raise ConfigError(f"{name}: only networks that predict the noise of images can be fine-tuned")
    if tsm:
        if not isinstance(config, UNetConfig):
            raise ConfigError(f"{name}: its {type(config).__name__} has no gains; TSM is a variant of UNetConfig")
        if config.tsm:
            raise ConfigError(f"{name}: the network has TSM's gains already; fine-tune it without --tsm")
        config = dataclasses.replace(config, tsm=True)
    held_out = checkpoint.training.get("held_out", 0)
    return Recipe(
        model=config,
        stages=(STAGE,),
        dataset=checkpoint.dataset,
        held_out=held_out if isinstance(held_out, int) else 0,
        beta_schedule=checkpoint.beta_schedule,
        start=checkpoint.digest,
    )


def start_from(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Give ``model`` the weights of ``checkpoint``; gains that only ``model`` has stay 1.

    Raises:
        ConfigError: the checkpoint is of another network.
    """
    if not isinstance(model, ImageDenoiser):
        raise ConfigError(f"{checkpoint.source}: only networks that predict the noise of images can be fine-tuned")
    own, given = model.state_dict(), checkpoint.model.state_dict()
    missing = [key for key in own.keys() - given.keys() if not key.endswith("gains")]
    foreign = [key for key in given if key not in own or own[key].shape != given[key].shape]
    if missing or foreign:
        raise ConfigError(
            f"{checkpoint.source}: not a checkpoint of this network: {', '.join(sorted({*missing, *foreign})[:5])}"
        )
    model.load_state_dict({**own, **given})
