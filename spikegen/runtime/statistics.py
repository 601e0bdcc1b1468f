"""The power of the noise that an integer network predicts, measured on the network itself (for Analytic-DPM)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikegen.diffusion import alphas_cumprod
from spikegen.errors import ConfigError, RecordError
from spikegen.program import ImageDiffusion, Pipeline, Target, digest, validate_pipeline
from spikegen.runtime.evaluate import evaluate_frames
from spikegen.runtime.files import check_output, write_output
from spikegen.runtime.noise import ImageNoise, check_seed
from spikegen.runtime.session import Progress

FloatArray = npt.NDArray[np.float64]
FORMAT, VERSION = "spikegen-statistics", 1
STATE_BYTES_MAX = 1 << 24  # 65536 numbers of 25 characters are a tenth of it
EVERY = 10


class NoisePower:
    """One measurement of ``h_t = E[|eps(x_t, t)|^2 / d]``, ``x_t`` being real images with the noise of step ``t``.

    It is Analytic-DPM's ``beta_bar_t Gamma_t`` (arXiv 2201.06503, equation 8), estimated with one draw of noise for
    each image and step. Steps that are not measured are interpolated linearly (the paper does so with ``Gamma`` where
    it has no measurement, appendix E.1). The same pipeline, images and seed give the same numbers bit for bit, whatever
    the target, the batch size and whether the measurement was interrupted.

    Args:
        pipeline: a valid pipeline of an :class:`~spikegen.program.ImageDiffusion`.
        target: where its denoiser runs; it is not closed here.
        images: [N, C, H, W], floats in [-1, 1], N at least 1.
        every: distance of the measured steps, at least 1: 0, every, 2 every, ..., and the last step.
        seed: 0 .. 2^64 - 1.
        batch: images per call of the target, default all; never changes a result.
        state_file: where to save what is measured after every step; if the file exists, the measurement goes on from
            it.

    Attributes:
        grid: int64 [G], the steps that are measured, ascending.
        completed: how many of them are.

    Raises:
        ConfigError: another kind of pipeline, images of another shape or range, or a number out of range.
        ProgramError: the pipeline breaks a rule.
        RecordError: the state file is damaged or belongs to another measurement.
        OutputError: the state file cannot be written.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        target: Target,
        images: npt.ArrayLike,
        *,
        every: int = EVERY,
        seed: int = 0,
        batch: int | None = None,
        state_file: str | os.PathLike[str] | None = None,
    ) -> None:
        self._host = check_pipeline(pipeline)
        validate_pipeline(pipeline)
        self.pipeline, self.target = pipeline, target
        self._program = pipeline.network("denoiser")
        self._images = np.asarray(images, dtype=np.float64)
        if self._images.shape[1:] != self._program.input.shape or not len(self._images):
            raise ConfigError(
                f"the images are {self._images.shape}, the denoiser takes (N, *{self._program.input.shape}) with N >= 1"
            )
        if not (np.abs(self._images) <= 1.0).all():  # NaN is not within it
            raise ConfigError("the images hold numbers outside of -1..1")
        if every < 1 or (batch is not None and batch < 1):
            raise ConfigError(f"every is {every} and batch {batch}, both must be at least 1")
        self._seed, self._batch = check_seed(seed), batch or len(self._images)
        self._steps = self._program.conditioning.steps
        self._alpha_bar = alphas_cumprod(self._host.beta_schedule, self._steps)
        self.grid = measured_steps(self._steps, every)
        self._power: list[float] = []
        self._identity = {
            "pipeline": digest(pipeline),
            "images": hashlib.sha256(self._images.tobytes()).hexdigest(),
            "count": len(self._images),
            "every": every,
            "seed": seed,
        }
        self._state_file = None if state_file is None else check_output(Path(state_file))
        if self._state_file is not None and self._state_file.exists():
            self._power = _load_state(self._state_file, self._identity, len(self.grid))

    @property
    def completed(self) -> int:
        """Steps measured, including those before an interruption."""
        return len(self._power)

    def run(self, progress: Progress | None = None) -> FloatArray:
        """Measure what is left.

        Args:
            progress: called with (network evaluations completed, in all) after every batch.

        Returns:
            float64 [K], ``h_t`` of every diffusion step.

        Raises:
            BackendError: the target failed.
            OutputError: the state file cannot be written.
        """
        while self.completed < len(self.grid):
            self.step(progress)
        return np.interp(np.arange(self._steps), self.grid, self._power)

    def step(self, progress: Progress | None = None) -> None:
        """Measure one step, then save the state; see :meth:`run`."""
        t, count = int(self.grid[self.completed]), len(self._images)
        before, total = self.completed * count, len(self.grid) * count

        def finished(images: int) -> None:
            if progress is not None:
                progress(before + images, total)

        noise = ImageNoise(self._seed, 1 + t).normal(self._images.shape)
        # DDPM (arXiv 2006.11239), equation 4: x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps
        noised = np.sqrt(self._alpha_bar[t]) * self._images + np.sqrt(1.0 - self._alpha_bar[t]) * noise
        frames = self._program.input.quantize(noised)
        predicted, _ = evaluate_frames(self._program, self.target, frames, t, self._batch, finished)
        self._power.append(float(np.square(predicted).mean()))
        if self._state_file is not None:
            document = {"format": FORMAT, "version": VERSION, "identity": self._identity, "power": self._power}
            write_output(self._state_file, json.dumps(document, allow_nan=False).encode())


def measured_steps(steps: int, every: int) -> npt.NDArray[np.int64]:
    """0, every, 2 every, ... below ``steps``, and ``steps - 1``."""
    return np.unique(np.array([*range(0, steps, every), steps - 1], dtype=np.int64))


def check_pipeline(pipeline: Pipeline) -> ImageDiffusion:
    """The host of ``pipeline``, ConfigError if it is none that predicts noise."""
    if not isinstance(pipeline.host, ImageDiffusion):
        raise ConfigError(
            f"{pipeline.name} is a {type(pipeline.host).__name__}: only an ImageDiffusion predicts noise to be measured"
        )
    return pipeline.host


def with_noise_power(pipeline: Pipeline, power: FloatArray, source: str) -> Pipeline:
    """``pipeline`` with the statistics ``power``, float64 [K]; ``source`` is what its provenance says of them.

    Raises:
        ConfigError: another kind of pipeline.
    """
    host = dataclasses.replace(check_pipeline(pipeline), noise_power=power)
    return dataclasses.replace(pipeline, host=host, provenance={**pipeline.provenance, "noise_power": source})


def _load_state(path: Path, identity: Mapping[str, Any], steps: int) -> list[float]:
    """The numbers of the very measurement that has ``identity``."""
    try:
        with path.open("rb") as file:
            data = file.read(STATE_BYTES_MAX + 1)
        if len(data) > STATE_BYTES_MAX:
            raise ValueError(f"it is larger than {STATE_BYTES_MAX} bytes")
        document = json.loads(data)
        if document["format"] != FORMAT or document["version"] != VERSION:
            raise ValueError(f"not a {FORMAT} of version {VERSION}")
        recorded, power = dict(document["identity"]), document["power"]
        if type(power) is not list or len(power) > steps:
            raise ValueError(f"power is no list of at most {steps} numbers")
        for value in power:
            if type(value) is not float or not math.isfinite(value) or value < 0.0:
                raise ValueError("power holds something else than finite numbers that are not negative")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise RecordError(f"{path}: not a readable state file (truncated or damaged): {error}") from error
    different = [key for key in identity if recorded.get(key) != identity[key]]
    if different or recorded.keys() != identity.keys():
        raise RecordError(
            f"{path}: this is the state of another measurement (different: {', '.join(different) or 'fields'}); "
            "delete the file or name another one"
        )
    return power
