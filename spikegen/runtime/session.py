"""The denoising loop: the host's side of sampling, on any target and with any solver."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikegen.diffusion import Solver, alphas_cumprod, as_solver
from spikegen.errors import ConfigError, RecordError
from spikegen.program import Program, Readout, Target
from spikegen.program.numerics import quantize_input
from spikegen.program.storage import digest
from spikegen.runtime.counts import StepCounts
from spikegen.runtime.files import check_output
from spikegen.runtime.noise import ImageNoise, check_seed
from spikegen.runtime.readout import host_readout
from spikegen.runtime.state import SessionState, load_state, save_state

FloatArray = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]  # network evaluations completed, and in all

# diffusers computes alpha_bar as a float32 product of up to 1000 factors, each rounded to 2^-24
_SCHEDULE_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class SampleResult:
    """What a finished session made.

    Attributes:
        images: float64 [N, C, H, W] in [-1, 1].
        counts: (diffusion step, counts over the N images) in the order of the steps.
    """

    images: FloatArray
    counts: tuple[StepCounts, ...]


class Session:
    """One sampling run of ``images`` images.

    The same Program, solver, seed and image number give the same image bit for bit, whatever the target, the batch
    size, the number of images, and whether the run was interrupted.

    Args:
        program: a Program with one readout, the predicted noise, of the shape of its input.
        target: where ``program`` runs; the session does not close it.
        solver: a solver of :mod:`spikegen.diffusion` or a scheduler of diffusers; a copy of it is used.
        steps: solver steps, 1 .. K.
        seed: 0 .. 2^64 - 1.
        images: number of images N, at least 1.
        batch: images per call of the target, default all; never changes a result.
        state_file: where to save the state after every step; if the file exists, the run goes on from it.

    Raises:
        ConfigError: a value is out of range, or Program and solver do not fit each other.
        RecordError: the state file is damaged or belongs to another run.
        OutputError: the state file cannot be written.
    """

    def __init__(
        self,
        program: Program,
        target: Target,
        solver: Any,
        *,
        steps: int,
        seed: int = 0,
        images: int = 1,
        batch: int | None = None,
        state_file: str | os.PathLike[str] | None = None,
    ) -> None:
        if images < 1 or (batch is not None and batch < 1):
            raise ConfigError(f"images is {images} and batch {batch}, both must be at least 1")
        self.program, self.target = program, target
        self.seed, self.images, self.batch = check_seed(seed), images, batch or images
        self._readout = _single_readout(program)
        self._solver: Solver = copy.deepcopy(as_solver(solver))
        _check_schedule(program, self._solver)
        self._solver.set_timesteps(steps)
        self._completed = 0
        self._sample = ImageNoise(seed, 0).normal((images, *program.input.shape)) * self._solver.init_noise_sigma
        self._counts: list[StepCounts] = []
        self._outputs: list[FloatArray] = []
        self._identity = {
            "program": digest(program),
            "solver": dict(self._solver.identity()),
            "seed": self.seed,
            "images": self.images,
        }
        self._state_file = None if state_file is None else check_output(Path(state_file))
        if self._state_file is not None and self._state_file.exists():
            self.resume(load_state(self._state_file, self._identity, program, self._solver.remembers))

    @property
    def timesteps(self) -> npt.NDArray[np.int64]:
        """The diffusion steps that the session visits, in order."""
        return self._solver.timesteps

    @property
    def completed(self) -> int:
        """Steps completed, including those before a resumption."""
        return self._completed

    @property
    def done(self) -> bool:
        """Whether all steps are completed."""
        return self._completed == len(self.timesteps)

    def step(self, progress: Progress | None = None) -> None:
        """One step for all images, then save the state; if it fails, the session stays at its last completed step.

        Args:
            progress: called after every batch.

        Raises:
            ConfigError: the session is done.
            BackendError: the target failed.
        """
        if self.done:
            raise ConfigError("the session is done: it has no further step")
        t = int(self.timesteps[self._completed])
        seen = self._solver.scale_model_input(self._sample, t)
        frames = quantize_input(seen, self.program.input.scale, self.program.input.bits)
        predictions, counts = [], None
        for start in range(0, self.images, self.batch):
            evaluation = self.target.evaluate(frames[start : start + self.batch], step=t)
            predictions.append(host_readout(self._readout, evaluation.readouts[self._readout.name]))
            counts = evaluation.counts if counts is None else counts + evaluation.counts
            if progress is not None:
                finished = self._completed * self.images + min(start + self.batch, self.images)
                progress(finished, len(self.timesteps) * self.images)
        noise = np.concatenate(predictions)
        self._advance(noise, t)
        if counts is not None:
            self._counts.append((t, counts))
        if self._state_file is not None:
            save_state(self._state_file, self.state())

    def _advance(self, noise: FloatArray, t: int) -> None:
        self._sample = self._solver.advance(noise, t, self._sample, ImageNoise(self.seed, 1 + self._completed))
        self._completed += 1
        if self._solver.remembers:
            self._outputs.append(noise)

    def run(self, progress: Progress | None = None) -> SampleResult:
        """All steps that are left.

        Args:
            progress: called with (network evaluations completed, in all) after every batch.

        Raises:
            BackendError: the target failed.
        """
        while not self.done:
            self.step(progress)
        return self.result()

    def result(self) -> SampleResult:
        """The images, clamped to [-1, 1], and the counts of every step.

        Raises:
            ConfigError: the session is not done.
        """
        if not self.done:
            raise ConfigError(f"{self._completed} of {len(self.timesteps)} steps are completed: run the session first")
        return SampleResult(np.clip(self._sample, -1.0, 1.0), tuple(self._counts))

    def state(self) -> SessionState:
        """The session after its last completed step."""
        shape = self._sample.shape
        outputs = np.stack(self._outputs) if self._outputs else np.empty((0, *shape))
        return SessionState(self._identity, self._completed, self._sample, tuple(self._counts), outputs)

    def resume(self, state: SessionState) -> None:
        """Go on from ``state``, which must be one of this very run. Call it before the first step.

        Raises:
            RecordError: it is the state of another run, or does not lead where it says.
            ConfigError: the session has already begun.
        """
        if self._completed:
            raise ConfigError("the session has already begun: resume a new one")
        if state.identity != self._identity or not 1 <= state.completed <= len(self.timesteps):
            raise RecordError("the state is of another run, or of more steps than this one has")
        if [step for step, _ in state.counts] != self.timesteps[: state.completed].tolist():
            raise RecordError("the state counts other diffusion steps than this run visits")
        if self._solver.remembers:  # its memory is rebuilt by repeating the steps with the predictions they had
            for t, noise in zip(self.timesteps, state.outputs, strict=False):
                self._solver.scale_model_input(self._sample, int(t))
                self._advance(noise, int(t))
            if not np.array_equal(self._sample, state.sample):
                raise RecordError("the recorded predictions do not lead to the recorded sample: the state is damaged")
        self._sample, self._completed, self._counts = state.sample, state.completed, list(state.counts)


def _single_readout(program: Program) -> Readout:
    readouts = list(program.readouts())
    if len(readouts) != 1:
        raise ConfigError(f"{program.name} has {len(readouts)} readouts; sampling needs one, the predicted noise")
    if readouts[0].shape != program.input.shape:
        raise ConfigError(
            f"{program.name}: readout {readouts[0].name} has shape {readouts[0].shape}, "
            f"the predicted noise must have that of the input, {program.input.shape}"
        )
    return readouts[0]


def _check_schedule(program: Program, solver: Solver) -> None:
    """The solver must walk the schedule that the network was trained with."""
    steps, schedule = program.conditioning.steps, program.host.beta_schedule
    if solver.train_steps != steps:
        raise ConfigError(f"the solver has {solver.train_steps} diffusion steps, {program.name} was made for {steps}")
    if not np.allclose(solver.alphas_cumprod, alphas_cumprod(schedule, steps), rtol=_SCHEDULE_TOLERANCE, atol=0.0):
        raise ConfigError(f"the solver has another noise schedule than {schedule!r}, which {program.name} was made for")
