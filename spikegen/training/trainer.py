"""The training loop of a noise-predicting network: resumable, seeded, with an average of the weights (EMA)."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spikegen.atomic import write_atomically
from spikegen.diffusion.schedule import alphas_cumprod
from spikegen.errors import CheckpointError, OutputError, SpikegenError
from spikegen.models import Checkpoint, SpikingUNet, save_checkpoint
from spikegen.training.datasets import load_images
from spikegen.training.recipes import Recipe

STATE_FILE, LOG_FILE = "state.pt", "log.jsonl"
RECALIBRATION_BATCHES = 64
# What torch.load and load_state_dict raise on bytes that are no such state.
_DAMAGE = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    EOFError,
    pickle.UnpicklingError,
)


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a progress callback receives after every iteration: iterations done, of how many, and the smoothed loss."""

    iteration: int
    iterations: int
    loss: float


class Trainer:
    """Trains a :class:`SpikingUNet` to predict noise (DDPM, arXiv 2006.11239, Eq. 14: plain mean squared error).

    Args:
        recipe: what to train.
        folder: output folder; a ``state.pt`` of the same recipe in it is continued.

    Raises:
        SpikegenError: the folder cannot be written, or holds the state of another recipe.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe = recipe
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_write(folder, error) from error
        self.images = torch.from_numpy(load_images(recipe.dataset))
        betas = alphas_cumprod(recipe.beta_schedule, recipe.model.diffusion_steps)
        self.alphas_cumprod = torch.from_numpy(betas).float()
        torch.manual_seed(recipe.seed)
        self.model = SpikingUNet(recipe.model)
        self.ema = copy.deepcopy(self.model).eval()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.iteration = 0
        self.loss = math.nan
        if (folder / STATE_FILE).exists():
            self._resume(folder / STATE_FILE)
        try:  # only now: the folder may belong to another recipe
            write_atomically(folder / "recipe.json", (json.dumps(dataclasses.asdict(recipe), indent=2) + "\n").encode())
        except OSError as error:
            raise _cannot_write(folder, error) from error

    def run(
        self,
        until: int | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_sample: Callable[[int, SpikingUNet], None] | None = None,
        sample_every: int = 500,
        save_every: int = 100,
    ) -> Checkpoint:
        """Train up to iteration ``until`` (default: all), then write the checkpoint of the averaged model.

        Args:
            until: stop after this many iterations in total.
            on_progress: called after every iteration.
            on_sample: called with the iteration and the averaged model every ``sample_every`` iterations and at the
                end.
            sample_every: iterations between samples.
            save_every: iterations between resumable states.
        """
        last = self.recipe.iterations if until is None else min(until, self.recipe.iterations)
        while self.iteration < last:
            loss = self._iterate()
            self.loss = loss if math.isnan(self.loss) else 0.99 * self.loss + 0.01 * loss
            if not math.isfinite(loss):
                raise SpikegenError(f"iteration {self.iteration}: the loss is {loss}; lower the learning rate")
            if on_progress is not None:
                on_progress(Progress(self.iteration, self.recipe.iterations, self.loss))
            if self.iteration % save_every == 0 or self.iteration == last:
                self._save()
            if on_sample is not None and (self.iteration % sample_every == 0 or self.iteration == last):
                on_sample(self.iteration, self.averaged())
        checkpoint = Checkpoint(
            self.averaged(),
            "unet",
            self.recipe.beta_schedule,
            self.recipe.dataset,
            {**dataclasses.asdict(self.recipe), "model": None, "iteration": self.iteration, "loss": self.loss},
            str(self.folder),
        )
        save_checkpoint(self.folder, checkpoint)
        return checkpoint

    def averaged(self) -> SpikingUNet:
        """A copy of the averaged model whose BatchNorm statistics were measured with the averaged weights."""
        model = copy.deepcopy(self.ema)
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # type: ignore[assignment]  # a plain mean over the batches
        model.train()
        generator = torch.Generator().manual_seed(self.recipe.seed + 1)
        with torch.no_grad():
            for _ in range(RECALIBRATION_BATCHES):
                noisy, t, _ = self._batch(generator)
                model(noisy, t)
        for norm in norms:
            norm.momentum = 0.1
        return model.eval()

    def _batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy images, their diffusion steps and the noise (DDPM Eq. 4), drawn with ``generator``."""
        size = self.recipe.batch_size
        clean = self.images[torch.randint(len(self.images), (size,), generator=generator)]
        t = torch.randint(self.recipe.model.diffusion_steps, (size,), generator=generator)
        noise = torch.randn(clean.shape, generator=generator)
        alpha = self.alphas_cumprod[t][:, None, None, None]
        return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, t, noise

    def _iterate(self) -> float:
        recipe = self.recipe
        noisy, t, noise = self._batch(self.generator)
        warm = min(1.0, (self.iteration + 1) / max(1, recipe.warmup))
        cosine = 0.5 * (1 + math.cos(math.pi * self.iteration / recipe.iterations))
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * warm * cosine
        loss = nn.functional.mse_loss(self.model(noisy, t), noise)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), recipe.gradient_clip)
        self.optimizer.step()
        self.iteration += 1
        # A young average must forget its random start faster than an old one.
        decay = min(recipe.ema_decay, self.iteration / (self.iteration + 10))
        with torch.no_grad():
            for average, parameter in zip(self.ema.parameters(), self.model.parameters(), strict=True):
                average.lerp_(parameter, 1 - decay)
        return float(loss)

    def _save(self) -> None:
        state = {
            "recipe": json.dumps(dataclasses.asdict(self.recipe)),
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "iteration": self.iteration,
            "loss": self.loss,
        }
        path = self.folder / STATE_FILE
        buffer = io.BytesIO()
        torch.save(state, buffer)
        try:
            write_atomically(path, buffer.getvalue())
            with (self.folder / LOG_FILE).open("a") as log:
                log.write(json.dumps({"iteration": self.iteration, "loss": self.loss}) + "\n")
        except OSError as error:
            raise _cannot_write(self.folder, error) from error

    def _resume(self, path: Path) -> None:
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True)
            if state["recipe"] != json.dumps(dataclasses.asdict(self.recipe)):
                raise CheckpointError(
                    f"{path}: the state of another recipe; choose another output folder, or delete it"
                )
            self.model.load_state_dict(state["model"])
            self.ema.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.generator.set_state(state["generator"])
            self.iteration, self.loss = int(state["iteration"]), float(state["loss"])
        except _DAMAGE as error:
            raise CheckpointError(f"{path}: not a readable training state (truncated or damaged): {error}") from error


def _cannot_write(folder: Path, error: OSError) -> OutputError:
    return OutputError(f"{folder}: the output folder cannot be written: {error.strerror or error}")
