"""`spikegen sample --profile`: time and power of every network of the run, measured on the chip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from spikegen.cli._decode import Place
from spikegen.errors import OutputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from spikegen.program import Evaluation, Pipeline, Program, Target

BACKEND = "loihi2"


def check_profile(folder: Path | None, backend: str) -> None:
    """Refuse ``--profile`` where nothing can be measured, and a folder with something in it.

    Raises:
        OutputError: the folder cannot be made or is not empty.
    """
    if folder is None:
        return
    if backend != BACKEND:
        raise click.UsageError(
            f"--profile measures on a chip, which is the backend {BACKEND}, not {backend}; "
            "elsewhere --counts gives the operations"
        )
    try:
        folder.mkdir(exist_ok=True)
        if any(folder.iterdir()):
            raise OutputError(f"{folder}: the folder of --profile must be empty")
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror or error}") from error


@dataclass(frozen=True)
class Watching(Place):
    """A place that remembers what each network was last asked to evaluate.

    Attributes:
        seen: program -> the last frames of one run, int32 [N, ...] with N at most :attr:`batch`, and their step.
    """

    seen: list[tuple[Program, npt.NDArray[np.int32], int]] = field(default_factory=list)

    def open(self, program: Program) -> Target:
        """As :meth:`Place.open`."""
        target = super().open(program)
        watched: Target = _Watched(target, program, self)
        return watched

    def remember(self, program: Program, frames: npt.NDArray[np.int32], step: int) -> None:
        """Keep the first images of an evaluation, in place of those of an earlier one."""
        self.seen[:] = [entry for entry in self.seen if entry[0] is not program]
        self.seen.append((program, frames[: self.batch].copy(), step))


class _Watched:
    def __init__(self, target: Target, program: Program, place: Watching) -> None:
        self._target, self._program, self._place = target, program, place

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def evaluate(self, frames: npt.NDArray[np.int32], step: int, record: bool = False) -> Evaluation:
        self._place.remember(self._program, frames, step)
        return self._target.evaluate(frames, step, record)

    def close(self) -> None:
        self._target.close()


def watching(place: Place) -> Watching:
    """``place``, which will remember."""
    return Watching(place.backend, place.synapses, place.batch, place.device)


def write_profile(folder: Path, pipeline: Pipeline, place: Watching, say: Callable[[str], Any]) -> None:
    """Measure what ``place`` has seen: one run of one process for time, another for power, a file for each.

    Without a profiler nothing is measured, which ``say`` is told.

    Raises:
        BackendError: a measurement failed.
        OutputError: a file cannot be written.
    """
    from spikegen.energy import Measurement, encode_measurement
    from spikegen.exporters.lava.profiling import KINDS, REPEATS, missing_profiler, profile
    from spikegen.runtime.files import write_output

    if reason := missing_profiler():
        say(f"{reason}: nothing was measured. The operation counts (--counts) are what `spikegen report` works with.")
        return
    for program, frames, step in place.seen:
        role = "denoiser" if program is pipeline.network("denoiser") else "decoder"
        for kind in KINDS:
            say(f"measuring {kind} of the {role}: {REPEATS} x {len(frames)} images at diffusion step {step}")
            found = profile(program, frames, step, kind, repeats=REPEATS)
            measurement = Measurement(
                role, kind, step, len(frames), REPEATS, found.timesteps, found.values, found.machine
            )
            write_output(folder / f"{role}-{kind}.json", encode_measurement(pipeline, measurement))
