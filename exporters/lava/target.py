"""A Program on Lava's CPU simulator, as a target."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from spikegen.errors import ConfigError
from spikegen.exporters.lava.schedule import Schedule
from spikegen.exporters.lava.supervisor import Supervisor
from spikegen.exporters.lava.tapping import TapPlan, tap_plans
from spikegen.program import Counts, Evaluation, Program, Readout, validate
from spikegen.program.target import check_frames, joined

SYNAPSES = ("sparse", "conv")


class LavaTarget:
    """Evaluates a Program on real Lava processes, exactly as the simulator does.

    That holds while every current stays within its width, which ``overflow_risks`` proves: Lava cuts what leaves it,
    the simulator refuses it.

    The network is built once, in a worker process, and run for every evaluation; images are streamed through it back to
    back. This process never imports Lava. Use as a context manager, or call :meth:`close`: a network is dozens of
    processes.

    Args:
        program: a valid Program.
        images: N, images per run. More than N images are evaluated in several runs, fewer take as long as N.
        synapses: ``"sparse"`` (Lava's ``Sparse`` for every projection, fast on a CPU) or ``"conv"`` (Lava's ``Conv``
            and ``Dense``, compact on a chip). Both are exact.
        timeout: seconds that the build and each run may take.

    Raises:
        BackendError: Lava is not installed, or the network cannot be built in time.
        ConfigError: an argument is out of range.
        ProgramError: the Program breaks a rule.
    """

    def __init__(self, program: Program, images: int = 16, synapses: str = "sparse", timeout: float = 300.0) -> None:
        validate(program)
        if images < 1:
            raise ConfigError(f"images per run is {images}, it must be at least 1")
        if synapses not in SYNAPSES:
            raise ConfigError(f"synapses is {synapses!r}, it must be one of {', '.join(SYNAPSES)}")
        if not timeout > 0:
            raise ConfigError(f"timeout is {timeout}, it must be positive")
        self.program = program
        self.images = images
        self.schedule = Schedule.of(program, images)
        self._plans = tap_plans(program, self.schedule.window)
        self.supervisor = Supervisor(program, images, synapses, timeout)

    def __enter__(self) -> LavaTarget:
        return self

    def __exit__(self, *exception: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End all Lava processes. May be called twice."""
        self.supervisor.close()

    def evaluate(self, frames: npt.NDArray[np.int32], step: int, record: bool = False) -> Evaluation:
        """See :meth:`spikegen.program.Target.evaluate`.

        Raises:
            BackendError: a Lava process died or a run took too long (the message names it), or the target is closed.
        """
        check_frames(self.program, frames, step)
        parts = [
            self._run(frames[start : start + self.images], step, record) for start in range(0, len(frames), self.images)
        ]
        return joined(parts)

    def _run(self, frames: npt.NDArray[np.int32], step: int, record: bool) -> Evaluation:
        results = self.supervisor.run(frames, step, record)
        return evaluation(self.program, self._plans, len(frames), results)


def evaluation(
    program: Program, plans: tuple[TapPlan, ...], images: int, results: Mapping[str, npt.NDArray[Any]]
) -> Evaluation:
    """The evaluation of ``images`` images from what ``engine.Engine.run`` returned for them."""
    taps: dict[str, npt.NDArray[np.int64]] = {}
    messages: dict[str, npt.NDArray[np.int32]] = {}
    for index, plan in enumerate(plans):
        taps.update(plan.split_totals(results[f"totals_{index}"]))
        if f"recorded_{index}" in results:
            messages.update(plan.split_messages(results[f"recorded_{index}"], program, images))
    readouts = {
        population.name: results[f"readout_{index}"]
        for index, population in enumerate(program.populations)
        if isinstance(population, Readout)
    }
    return Evaluation(readouts, Counts.from_taps(program, images, taps), messages)
