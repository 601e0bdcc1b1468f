"""Quantisation-aware fine-tuning: a pipeline of images goes on learning as the integers it is."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from spikegen.errors import CheckpointError, ConfigError, SpikegenError
from spikegen.models import Checkpoint, ImageDenoiser
from spikegen.program import ImageDiffusion, Pipeline, digest, overflow_risks
from spikegen.training.datasets import load_fitting, split
from spikegen.training.program_network import ProgramNetwork
from spikegen.training.run_folder import DAMAGE, STATE_FILE, make_folder, save_state
from spikegen.training.tasks import NoisePrediction
from spikegen.training.trainer import Progress
from spikegen.training.tuned_bounds import hold_bounds

EVALUATION_BATCHES = 4
GROUPS = 4
HOST_FACTOR = 10.0  # the real numbers of the host take larger steps than integers, which would be lost by rounding


@dataclasses.dataclass(frozen=True)
class Tuning:
    """Everything that decides a tuning run.

    Attributes:
        iterations: optimiser steps, at least 1.
        batch_size: images per step, at least 2.
        learning_rate: peak of AdamW's learning rate, relative to the size of each tensor: to the root mean square of
            the weights of a projection, and to the threshold for biases. Linear warm-up, then cosine decay to 0.
        warmup: optimiser steps of the warm-up.
        gradient_clip: largest norm of the gradient with respect to those relative values.
        ema_decay: decay of the exponential moving average of the shadow weights, per step, in [0, 1).
        teacher_weight: weight of the distance to the float model's prediction, if there is a teacher.
        bias_weight: weight of the systematic part of that distance (:func:`systematic_error`) beside its mean square.
        seed: of images, diffusion steps and noise.
    """

    iterations: int = 150
    batch_size: int = 128
    learning_rate: float = 5e-4
    warmup: int = 20
    gradient_clip: float = 1.0
    ema_decay: float = 0.95
    teacher_weight: float = 10.0
    bias_weight: float = 100.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("iterations", 1), ("batch_size", 2), ("warmup", 0), ("seed", 0)):
            if getattr(self, name) < low:
                raise ConfigError(f"Tuning.{name} is {getattr(self, name)}; it must be at least {low}")
        for name in ("learning_rate", "gradient_clip"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ConfigError(f"Tuning.{name} is {getattr(self, name)}; it must be positive and finite")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"Tuning.ema_decay is {self.ema_decay}; it must be in [0, 1)")
        for name in ("teacher_weight", "bias_weight"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ConfigError(f"Tuning.{name} is {getattr(self, name)}; it must be finite and at least 0")


@dataclasses.dataclass(frozen=True)
class Tuned:
    """The outcome of a run.

    Attributes:
        pipeline: with the tuned Program; its report and provenance say how it was made.
        loss_before, loss_after: mean squared error of the predicted noise of the integer networks, on the same batches.
    """

    pipeline: Pipeline
    loss_before: float
    loss_after: float


class Tuner:
    """Tunes the denoiser of a pipeline.

    The loss is the mean squared error of the predicted noise (DDPM, arXiv 2006.11239, Eq. 14); with a teacher, plus
    ``teacher_weight`` times the mean squared distance to the teacher's prediction on the same noisy images, whose
    systematic part (:func:`systematic_error`) counts ``bias_weight`` times more.

    Args:
        pipeline: a valid pipeline of images that names the data set it was trained on.
        folder: of the resumable state; a ``state.pt`` of the same run in it is continued.
        tuning: settings.
        teacher: the float model, or None.

    Raises:
        ConfigError: a pipeline of another kind, without its data set, or a teacher of another shape.
        CheckpointError: the folder holds the state of another run, or a damaged one.
        OutputError: the folder cannot be written.
    """

    def __init__(
        self, pipeline: Pipeline, folder: Path, tuning: Tuning | None = None, teacher: Checkpoint | None = None
    ) -> None:
        self.tuning = tuning or Tuning()
        self.pipeline, self.folder = pipeline, folder
        self.task = _task(pipeline, self.tuning.batch_size)
        self.teacher = None if teacher is None else _teacher(pipeline, teacher)
        self.run_id = {
            "pipeline": digest(pipeline),
            "teacher": "" if teacher is None else teacher.digest,
            "tuning": dataclasses.asdict(self.tuning),
        }
        self.network = ProgramNetwork(pipeline.network("denoiser"))
        self.average = copy.deepcopy(self.network).eval()
        host = list(self.network.host.parameters())
        chip = [*self.network.weights.parameters(), *self.network.biases.parameters()]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [values for values in chip if values.requires_grad], "factor": 1.0},
                {"params": host, "factor": HOST_FACTOR},
            ],
            weight_decay=0.0,  # the weights were chosen for their scale; nothing should pull them to 0
        )
        self.generator = torch.Generator().manual_seed(self.tuning.seed)
        self.iteration, self.loss = 0, math.nan
        make_folder(folder)
        if (folder / STATE_FILE).exists():
            self._resume(folder / STATE_FILE)

    def run(
        self,
        until: int | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        save_every: int = 50,
    ) -> Tuned:
        """Tune up to iteration ``until`` (default: all), then average, hold the bounds and measure.

        Args:
            until: stop after this many iterations in total.
            on_progress: called after every iteration.
            save_every: iterations between resumable states.

        Raises:
            SpikegenError: the loss is not finite.
        """
        last = self.tuning.iterations if until is None else min(until, self.tuning.iterations)
        while self.iteration < last:
            loss = self._iterate()
            self.loss = loss if math.isnan(self.loss) else 0.95 * self.loss + 0.05 * loss
            if on_progress is not None:
                on_progress(Progress(self.iteration, self.tuning.iterations, self.loss))
            if self.iteration % save_every == 0 or self.iteration == last:
                self._save()
        averaged = copy.deepcopy(self.average)
        hold_bounds(averaged)  # a mean of networks within the bounds is within them but for its rounding
        before = noise_loss(ProgramNetwork(self.pipeline.network("denoiser")), self.task, self.tuning.seed)
        after = noise_loss(averaged, self.task, self.tuning.seed)
        return Tuned(self._tuned(averaged, before, after), before, after)

    def _iterate(self) -> float:
        tuning = self.tuning
        warm = min(1.0, (self.iteration + 1) / max(1, tuning.warmup))
        cosine = 0.5 * (1 + math.cos(math.pi * self.iteration / tuning.iterations))
        for group in self.optimizer.param_groups:
            group["lr"] = group["factor"] * tuning.learning_rate * warm * cosine
        noisy, t, noise = self.task.batch(self.generator)
        predicted = self.network(noisy, t).float()
        loss = functional.mse_loss(predicted, noise)
        if self.teacher is not None:
            with torch.no_grad():
                taught = self.teacher(noisy, t)
            systematic = systematic_error(predicted, taught, noisy, self.task.alphas_cumprod[t])
            distance = functional.mse_loss(predicted, taught) + tuning.bias_weight * systematic
            loss = loss + tuning.teacher_weight * distance
        found = float(loss.detach())
        if not math.isfinite(found):
            raise SpikegenError(f"iteration {self.iteration + 1}: the loss is {found}; lower the learning rate")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), tuning.gradient_clip)
        self.optimizer.step()
        self.network.clamp_()
        hold_bounds(self.network)
        self.iteration += 1
        # A young average must forget its start faster than an old one.
        decay = min(tuning.ema_decay, self.iteration / (self.iteration + 10))
        with torch.no_grad():
            for average, values in zip(self.average.parameters(), self.network.parameters(), strict=True):
                average.lerp_(values, 1 - decay)
        return found

    def _tuned(self, network: ProgramNetwork, before: float, after: float) -> Pipeline:
        program = network.to_program()
        notes = {**self.run_id, "iterations": self.iteration, "loss_before": before, "loss_after": after}
        report = {**program.report, "overflow_risks": overflow_risks(program), "tuning": notes}
        host = dataclasses.replace(
            cast(ImageDiffusion, self.pipeline.host), noise_power=np.empty(0)
        )  # it was that of the old weights
        return dataclasses.replace(
            self.pipeline,
            host=host,
            networks={**self.pipeline.networks, "denoiser": dataclasses.replace(program, report=report)},
            provenance={**self.pipeline.provenance, "tuned_from": digest(self.pipeline), "tuning": json.dumps(notes)},
        )

    def _save(self) -> None:
        state = {
            "run": json.dumps(self.run_id),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "iteration": self.iteration,
            "loss": self.loss,
        }
        save_state(self.folder, state, self.iteration, self.loss)

    def _resume(self, path: Path) -> None:
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True)
            if state["run"] != json.dumps(self.run_id):
                raise CheckpointError(
                    f"{path}: the state of another run (pipeline, teacher or settings); delete it to begin again"
                )
            iteration = int(state["iteration"])
            if not 1 <= iteration <= self.tuning.iterations:
                raise ValueError(f"{iteration} iterations")
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.generator.set_state(state["generator"])
            self.iteration, self.loss = iteration, float(state["loss"])
        except DAMAGE as error:
            raise CheckpointError(f"{path}: not a readable tuning state (truncated or damaged): {error}") from error


def systematic_error(predicted: Tensor, taught: Tensor, noisy: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """What of the distance between two predictions does not average out over the steps of a solver.

    That is the part of ``predicted - taught`` in the span of a constant (an offset), of ``taught`` (too little or too
    much noise) and of the image that goes with it, ``x_0 sqrt(alphas_cumprod) = noisy - taught
    sqrt(1 - alphas_cumprod)`` (DDPM, arXiv 2006.11239, Eq. 4; here relative to the noise), which is too little or too
    much image: the mean over groups of neighbouring noise levels of its mean square. A network that is noisy, as
    quantisation makes it, has its least mean squared error where it predicts too little of both (attenuation: less
    slope is less noise). A solver averages the noise over its steps, but it adds up what is missing.

    Args:
        predicted: prediction (N, C, H, W).
        taught: what it should be, the same shape; no gradient is taken.
        noisy: the input of both, the same shape.
        alphas_cumprod: (N,), in (0, 1), of the diffusion steps; :data:`GROUPS` groups of neighbouring ones are looked
            at for themselves.
    """
    order = alphas_cumprod.argsort(stable=True)
    alphas = alphas_cumprod.view(-1, *(1,) * (noisy.ndim - 1))
    image = ((noisy - (1 - alphas).sqrt() * taught) / (1 - alphas).sqrt()).to(predicted)
    errors = []
    for group in order.chunk(GROUPS):
        distance = (predicted - taught)[group].flatten()
        directions = [torch.ones_like(distance), taught[group].flatten().to(distance), image[group].flatten()]
        basis, _ = torch.linalg.qr(torch.stack(directions, 1).detach())
        errors.append((basis.T @ distance).square().sum() / len(distance))
    return torch.stack(errors).mean()


def noise_loss(network: nn.Module, task: NoisePrediction, seed: int) -> float:
    """Mean squared error of the predicted noise on :data:`EVALUATION_BATCHES` batches, the same for every network."""
    generator = torch.Generator().manual_seed(seed + 1)
    losses = []
    with torch.no_grad():
        for _ in range(EVALUATION_BATCHES):
            noisy, t, noise = task.batch(generator)
            losses.append(float(functional.mse_loss(network(noisy, t).float(), noise)))
    return sum(losses) / len(losses)


def _task(pipeline: Pipeline, batch_size: int) -> NoisePrediction:
    host = pipeline.host
    if not isinstance(host, ImageDiffusion):
        raise ConfigError(
            f"{pipeline.name} is a {type(host).__name__} pipeline; only the denoiser of an ImageDiffusion can be tuned"
        )
    dataset, held_out = pipeline.provenance.get("dataset", ""), pipeline.provenance.get("held_out", "0")
    if not dataset:
        raise ConfigError(
            f"{pipeline.name}: its provenance names no data set to tune on; export it with `spikegen export`"
        )
    if not (held_out.isascii() and held_out.isdigit()):
        raise ConfigError(f"{pipeline.name}: its provenance says that {held_out!r} images were held out")
    denoiser = pipeline.network("denoiser")
    images, _ = split(load_fitting(dataset, denoiser.input.shape), int(held_out))
    return NoisePrediction(images, host.beta_schedule, denoiser.conditioning.steps, batch_size)


def _teacher(pipeline: Pipeline, checkpoint: Checkpoint) -> Callable[[Tensor, Tensor], Tensor]:
    model, denoiser = checkpoint.model, pipeline.network("denoiser")
    if not isinstance(model, ImageDenoiser):
        raise ConfigError(f"{checkpoint.source}: the teacher must predict the noise of images, as the pipeline does")
    config = model.config
    found = (config.channels, config.image_size, config.image_size, config.diffusion_steps)
    wanted = (*denoiser.input.shape, denoiser.conditioning.steps)
    if found != wanted:
        raise ConfigError(
            f"{checkpoint.source}: the teacher takes images (channels, height, width) and diffusion steps {found}, "
            f"{pipeline.name} takes {wanted}"
        )
    teacher: Callable[[Tensor, Tensor], Tensor] = model.eval()
    return teacher
