"""Runs that take less than a second; also the program of the process that a test kills."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from spikegen.models import SpikingDiffusionConfig, UNetConfig
from spikegen.training import Progress, Recipe, Trainer, trainer
from spikegen.training.recipes import Stage

TINY = Recipe(
    model=UNetConfig(image_size=8, width=2, multipliers=(1,), timesteps=2, diffusion_steps=10),
    stages=(Stage(iterations=6, batch_size=4, warmup=2),),
)
TINY_TOKENS = Recipe(
    model=SpikingDiffusionConfig(
        image_size=8, widths=(3,), strides=(2,), latent=4, codes=6, denoiser_widths=(4, 3), timesteps=3
    ),
    stages=(
        Stage("autoencoder", iterations=3, batch_size=4, warmup=1),
        Stage("denoiser", iterations=4, batch_size=5, warmup=2),
    ),
    held_out=1790,
    beta_schedule="absorbing",
)


def with_stage(recipe: Recipe, **changes: Any) -> Recipe:
    """``recipe`` with its first stage changed."""
    first, *others = recipe.stages
    return dataclasses.replace(recipe, stages=(dataclasses.replace(first, **changes), *others))


def _wait(_: Progress) -> None:
    input()


if __name__ == "__main__":  # trains for ever, saying after each state that it was saved
    trainer.RECALIBRATION_BATCHES = 1
    run = Trainer(TINY, Path(sys.argv[1]))
    print(f"iteration {run.iteration}", flush=True)  # noqa: T201 - the test reads it
    run.run(save_every=1, on_progress=_wait)
