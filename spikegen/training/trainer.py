"""The training loop: resumable, seeded, with an average of the weights (EMA)."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spikegen.errors import CheckpointError, ConfigError, SpikegenError
from spikegen.models import Checkpoint, Model, build_model, save_checkpoint
from spikegen.training.fine_tuning import start_from
from spikegen.training.recipes import Recipe
from spikegen.training.run_folder import DAMAGE, STATE_FILE, make_folder, save_state, write_file
from spikegen.training.tasks import Task, make_task

RECALIBRATION_BATCHES = 64


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a progress callback receives after every iteration: iterations done, of how many, and the smoothed loss."""

    iteration: int
    iterations: int
    loss: float


class Trainer:
    """Trains a model stage by stage.

    Args:
        recipe: what to train.
        folder: output folder; a ``state.pt`` of the same recipe in it is continued.
        start: the checkpoint that ``recipe.start`` names, if it names one.

    Raises:
        SpikegenError: the folder cannot be written, holds the state of another recipe, or ``start`` is not what the
            recipe starts from.
    """

    def __init__(self, recipe: Recipe, folder: Path, start: Checkpoint | None = None) -> None:
        if recipe.start != ("" if start is None else start.digest):
            raise ConfigError(f"the recipe starts from the weights {recipe.start or 'of no checkpoint'}; give it those")
        self.recipe = recipe
        self.folder = folder
        make_folder(folder)
        torch.manual_seed(recipe.seed)
        self.model = build_model(recipe.model)
        if start is not None:
            start_from(self.model, start)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.loss = math.nan
        self._enter(0)
        if (folder / STATE_FILE).exists():
            self._resume(folder / STATE_FILE)
        # only now: the folder may belong to another recipe
        write_file(folder / "recipe.json", (json.dumps(dataclasses.asdict(recipe), indent=2) + "\n").encode())

    def _enter(self, index: int) -> None:
        """Begin stage ``index``."""
        self.index, self.stage, self.done = index, self.recipe.stages[index], 0
        self.task = make_task(self.recipe, self.stage, self.model)
        network = self._network(self.model)
        self.ema = copy.deepcopy(network).eval()
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=self.stage.learning_rate, weight_decay=self.stage.weight_decay
        )

    def _network(self, model: nn.Module) -> nn.Module:
        """The part of ``model`` that this stage trains."""
        return model.get_submodule(self.stage.network)

    @property
    def iteration(self) -> int:
        """Optimiser steps done, over all stages."""
        return sum(stage.iterations for stage in self.recipe.stages[: self.index]) + self.done

    def run(
        self,
        until: int | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_sample: Callable[[int, str, Model], None] | None = None,
        sample_every: int = 500,
        save_every: int = 100,
    ) -> Checkpoint:
        """Train up to iteration ``until`` (default: all), then write the checkpoint of the averaged model.

        Args:
            until: stop after this many iterations in total.
            on_progress: called after every iteration.
            on_sample: called with the iteration, the network in training and the averaged model every ``sample_every``
                iterations and at the end.
            sample_every: iterations between samples.
            save_every: iterations between resumable states.
        """
        last = self.recipe.iterations if until is None else min(until, self.recipe.iterations)
        while self.iteration < last:
            if self.done == self.stage.iterations:
                self._finish_stage()
            loss = self._iterate()
            self.loss = loss if math.isnan(self.loss) else 0.99 * self.loss + 0.01 * loss
            if not math.isfinite(loss):
                raise SpikegenError(f"iteration {self.iteration}: the loss is {loss}; lower the learning rate")
            ends = self.iteration == last or self.done == self.stage.iterations
            if on_progress is not None:
                on_progress(Progress(self.iteration, self.recipe.iterations, self.loss))
            if self.iteration % save_every == 0 or ends:
                self._save()
            if on_sample is not None and (self.iteration % sample_every == 0 or ends):
                on_sample(self.iteration, self.stage.network, self.averaged())
        checkpoint = Checkpoint(
            self.averaged(),
            self.recipe.beta_schedule,
            self.recipe.dataset,
            {**dataclasses.asdict(self.recipe), "model": None, "iteration": self.iteration, "loss": self.loss},
            str(self.folder),
        )
        save_checkpoint(self.folder, checkpoint)
        return checkpoint

    def averaged(self) -> Model:
        """A copy of the model with averaged weights, whose BatchNorm statistics were measured with these weights."""
        model = copy.deepcopy(self.model)
        network = self._network(model)
        network.load_state_dict(self.ema.state_dict())
        measure_norms(network, self.task, RECALIBRATION_BATCHES, torch.Generator().manual_seed(self.recipe.seed + 1))
        self.task.finish(network)
        return model.eval()

    def _finish_stage(self) -> None:
        """Keep the averaged network and begin the next stage."""
        self.model = self.averaged()
        self.loss = math.nan
        self._enter(self.index + 1)

    def _iterate(self) -> float:
        stage, network = self.stage, self._network(self.model)
        if self.done == 0:
            self.task.prepare(network, self.generator)
            self.ema.load_state_dict(network.state_dict())
        network.train()
        warm = min(1.0, (self.done + 1) / max(1, stage.warmup))
        cosine = 0.5 * (1 + math.cos(math.pi * self.done / stage.iterations))
        for group in self.optimizer.param_groups:
            group["lr"] = stage.learning_rate * warm * cosine
        with torch.autocast("cpu", torch.bfloat16, enabled=stage.mixed_precision):
            loss = self.task.loss(network, self.task.batch(self.generator))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), stage.gradient_clip)
        self.optimizer.step()
        self.done += 1
        # A young average must forget its random start faster than an old one.
        decay = min(stage.ema_decay, self.done / (self.done + 10))
        with torch.no_grad():
            for average, parameter in zip(self.ema.parameters(), network.parameters(), strict=True):
                average.lerp_(parameter, 1 - decay)
        return float(loss.detach())

    def _save(self) -> None:
        state = {
            "recipe": json.dumps(dataclasses.asdict(self.recipe)),
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "stage": self.index,
            "done": self.done,
            "loss": self.loss,
        }
        save_state(self.folder, state, self.iteration, self.loss)

    def _resume(self, path: Path) -> None:
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True)
            if state["recipe"] != json.dumps(dataclasses.asdict(self.recipe)):
                raise CheckpointError(
                    f"{path}: the state of another recipe; choose another output folder, or delete it"
                )
            index, done = int(state["stage"]), int(state["done"])
            if index < 0 or not 1 <= done <= self.recipe.stages[index].iterations:
                raise ValueError(f"{done} iterations of stage {index}")
            self.model.load_state_dict(state["model"])
            self._enter(index)
            self.ema.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.generator.set_state(state["generator"])
            self.done, self.loss = done, float(state["loss"])
        except DAMAGE as error:
            raise CheckpointError(f"{path}: not a readable training state (truncated or damaged): {error}") from error


def untrained(recipe: Recipe, batches: int = 4) -> Checkpoint:
    """The model of ``recipe`` with random weights, ready to export: its cost is known before it is trained.

    Every network starts as in training, and its BatchNorm statistics are measured on ``batches`` batches, without which
    the populations behind random weights would stay silent.
    """
    torch.manual_seed(recipe.seed)
    model = build_model(recipe.model)
    generator = torch.Generator().manual_seed(recipe.seed)
    for stage in recipe.stages:
        task, network = make_task(recipe, stage, model), model.get_submodule(stage.network)
        task.prepare(network, generator)
        measure_norms(network, task, batches, generator)
        task.finish(network)
    return Checkpoint(model.eval(), recipe.beta_schedule, recipe.dataset, {"held_out": recipe.held_out, "iteration": 0})


def measure_norms(network: nn.Module, task: Task, batches: int, generator: torch.Generator) -> None:
    """Replace the statistics of every BatchNorm of ``network`` by their plain mean over ``batches`` of ``task``."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # type: ignore[assignment]  # a plain mean over the batches
    network.train()
    with torch.no_grad():
        for _ in range(batches):
            task.loss(network, task.batch(generator))
    for norm in norms:
        norm.momentum = 0.1
