"""The loop: the host's side of sampling, on any target and with any solver."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikegen.diffusion import Sample, Solver, as_solver
from spikegen.errors import ConfigError, RecordError
from spikegen.program import Pipeline, Target, validate_pipeline
from spikegen.program.storage import digest
from spikegen.runtime.counts import StepCounts
from spikegen.runtime.evaluate import evaluate_frames
from spikegen.runtime.files import check_output
from spikegen.runtime.noise import ImageNoise, check_seed
from spikegen.runtime.state import SessionState, load_state, save_state

FloatArray = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]  # network evaluations completed, and in all


@dataclass(frozen=True, eq=False)
class SampleResult:
    """What a finished session made.

    Attributes:
        sample: float64 [N, C, H, W] images in [-1, 1], or int64 [N, h, w] tokens.
        counts: (diffusion step, counts over the N images) in the order of the steps.
        trajectory: int64 [steps, N, h, w], the tokens after every step (K: mask); None for images.
    """

    sample: Sample
    counts: tuple[StepCounts, ...]
    trajectory: npt.NDArray[np.int64] | None = None


class Session:
    """One sampling run of ``images`` images or grids of tokens with the network "denoiser" of a pipeline.

    The same pipeline, solver, seed and image number give the same sample bit for bit, whatever the target, the batch
    size, the number of images, and whether the run was interrupted.

    Args:
        pipeline: a valid pipeline with a denoiser.
        target: where the denoiser runs; the session does not close it.
        solver: a solver of :mod:`spikegen.diffusion` or a scheduler of diffusers; a copy of it is used.
        steps: solver steps, at least 1.
        seed: 0 .. 2^64 - 1.
        images: number of images N, at least 1.
        first: number of the first image, at least 0: the images ``first .. first + N - 1`` of a larger run.
        batch: images per call of the target, default all; never changes a result.
        state_file: where to save the state after every step; if the file exists, the run goes on from it.

    Raises:
        ConfigError: a value is out of range, or pipeline and solver do not fit each other.
        ProgramError: the pipeline breaks a rule.
        RecordError: the state file is damaged or belongs to another run.
        OutputError: the state file cannot be written.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        target: Target,
        solver: Any,
        *,
        steps: int,
        seed: int = 0,
        images: int = 1,
        first: int = 0,
        batch: int | None = None,
        state_file: str | os.PathLike[str] | None = None,
    ) -> None:
        if images < 1 or (batch is not None and batch < 1):
            raise ConfigError(f"images is {images} and batch {batch}, both must be at least 1")
        if first < 0:
            raise ConfigError(f"the number of the first image is {first}, it must be at least 0")
        validate_pipeline(pipeline)
        self.pipeline, self.target = pipeline, target
        self.seed, self.images, self.batch = check_seed(seed), images, batch or images
        self.first = first
        self._solver: Solver = copy.deepcopy(as_solver(solver))
        self._solver.set_timesteps(steps)
        self._solver.check(pipeline)
        self.program = pipeline.network("denoiser")
        self._readout = next(self.program.readouts())
        self._completed = 0
        self._sample = self._solver.initial_sample(images, self.program.input.shape, self._noise(0))
        self._counts: list[StepCounts] = []
        self._outputs: list[FloatArray] = []
        self._samples: list[Sample] = []
        self._identity = {
            "pipeline": digest(pipeline),
            "solver": dict(self._solver.identity()),
            "seed": self.seed,
            "images": self.images,
        } | ({"first": first} if first else {})
        self._state_file = None if state_file is None else check_output(Path(state_file))
        if self._state_file is not None and self._state_file.exists():
            keeps = (self._solver.remembers, self._solver.records_samples)
            self.resume(load_state(self._state_file, self.state(), self.program, keeps))

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
        frames = self.program.input.quantize(self._solver.model_input(self._sample, t))
        before, total = self._completed * self.images, len(self.timesteps) * self.images

        def finished(images: int) -> None:
            if progress is not None:
                progress(before + images, total)

        output, counts = evaluate_frames(
            self.program, self.target, frames, self._solver.condition(t), self.batch, finished
        )
        self._advance(output, t)
        self._counts.append((t, counts))
        if self._state_file is not None:
            save_state(self._state_file, self.state())

    def _noise(self, draw: int) -> ImageNoise:
        return ImageNoise(self.seed, draw, self.first)

    def _advance(self, output: FloatArray, t: int) -> None:
        self._sample = self._solver.advance(output, t, self._sample, self._noise(1 + self._completed))
        self._completed += 1
        if self._solver.remembers:
            self._outputs.append(output)
        if self._solver.records_samples:
            self._samples.append(self._sample)

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
        """The finished sample, the counts of every step, and the trajectory where the solver records it.

        Raises:
            ConfigError: the session is not done.
        """
        if not self.done:
            raise ConfigError(f"{self._completed} of {len(self.timesteps)} steps are completed: run the session first")
        trajectory = np.stack(self._samples) if self._solver.records_samples else None
        return SampleResult(self._solver.finish(self._sample), tuple(self._counts), trajectory)

    def state(self) -> SessionState:
        """The session after its last completed step."""
        answer, sample = (self.images, *self._readout.output_shape), self._sample
        outputs = np.stack(self._outputs) if self._outputs else np.empty((0, *answer))
        samples = np.stack(self._samples) if self._samples else np.empty((0, *sample.shape), sample.dtype)
        return SessionState(self._identity, self._completed, sample, tuple(self._counts), outputs, samples)

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
        self._check_samples(state)
        if self._solver.remembers:  # its memory is rebuilt by repeating the steps with the answers they had
            for t, output in zip(self.timesteps, state.outputs, strict=False):
                self._solver.model_input(self._sample, int(t))
                self._advance(output, int(t))
            if not np.array_equal(self._sample, state.sample):
                raise RecordError("the recorded predictions do not lead to the recorded sample: the state is damaged")
        self._sample, self._completed, self._counts = state.sample, state.completed, list(state.counts)
        self._samples = list(state.samples)

    def _check_samples(self, state: SessionState) -> None:
        """RecordError unless the samples of ``state`` can be those of this run."""
        try:
            for sample in (*state.samples, state.sample):
                self._solver.check_sample(sample)
        except ConfigError as error:
            raise RecordError(f"the state holds no sample of this run: {error}") from error
        if self._solver.records_samples and not np.array_equal(state.samples[-1], state.sample):
            raise RecordError("the recorded samples do not end in the recorded sample: the state is damaged")
