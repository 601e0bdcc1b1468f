"""A run that takes less than a second; also the program of the process that a test kills."""

from __future__ import annotations

import sys
from pathlib import Path

from spikegen.models import UNetConfig
from spikegen.training import Progress, Recipe, Trainer, trainer

TINY = Recipe(
    model=UNetConfig(image_size=8, width=2, multipliers=(1,), timesteps=2, diffusion_steps=10),
    iterations=6,
    batch_size=4,
    warmup=2,
)


def _wait(_: Progress) -> None:
    input()


if __name__ == "__main__":  # trains for ever, saying after each state that it was saved
    trainer.RECALIBRATION_BATCHES = 1
    run = Trainer(TINY, Path(sys.argv[1]))
    print(f"iteration {run.iteration}", flush=True)  # noqa: T201 - the test reads it
    run.run(save_every=1, on_progress=_wait)
