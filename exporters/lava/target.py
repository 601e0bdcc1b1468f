"""A Program on Lava's CPU simulator, as a target."""

from __future__ import annotations

from types import TracebackType

import numpy as np
import numpy.typing as npt

from spikegen.errors import ConfigError
from spikegen.exporters.lava.exchange import evaluation
from spikegen.exporters.lava.supervisor import Supervisor
from spikegen.program import Evaluation, Program, validate
from spikegen.program.target import check_frames, joined

MODELS = ("fused", "unrolled")
SYNAPSES = ("fast-conv", "sparse", "conv")


class LavaTarget:
    """Evaluates a Program on real Lava processes, exactly as the simulator does.

    That holds while every current stays within its width, which ``overflow_risks`` proves: Lava's processes cut what
    leaves it, the simulator refuses it.

    The network is built once, in a worker process, and run for every evaluation. This process never imports Lava. Use
    as a context manager, or call :meth:`close`: a network is several processes, an unrolled one dozens.

    Args:
        program: a valid Program.
        images: N, images per run. More than N images are evaluated in several runs; in the unrolled model fewer take as
            long as N.
        model: ``"fused"``, the whole Program in one Lava process that computes all images of a run at once, or
            ``"unrolled"``, one stock Lava process for every population and projection, with the images streamed through
            it back to back: the form that a chip would run.
        synapses: form of the synapses of the unrolled model: ``"conv"`` (Lava's ``Conv`` and ``Dense``, compact on a
            chip), ``"fast-conv"`` (the same processes, ``Conv`` with a faster process model of ours, the default) or
            ``"sparse"`` (Lava's ``Sparse`` for every projection). All are exact.
        timeout: seconds that the build and each run may take.

    Raises:
        BackendError: Lava is not installed, or the network cannot be built in time.
        ConfigError: an argument is out of range.
        ProgramError: the Program breaks a rule.
    """

    def __init__(
        self,
        program: Program,
        images: int = 16,
        model: str = "fused",
        synapses: str | None = None,
        timeout: float = 300.0,
    ) -> None:
        validate(program)
        if images < 1:
            raise ConfigError(f"images per run is {images}, it must be at least 1")
        if model not in MODELS:
            raise ConfigError(f"model is {model!r}, it must be one of {', '.join(MODELS)}")
        if synapses is not None and (model == "fused" or synapses not in SYNAPSES):
            known = "none for the fused model" if model == "fused" else f"one of {', '.join(SYNAPSES)}"
            raise ConfigError(f"synapses is {synapses!r}, it must be {known}")
        if not timeout > 0:
            raise ConfigError(f"timeout is {timeout}, it must be positive")
        self.program = program
        self.images = images
        self.supervisor = Supervisor(program, images, "" if model == "fused" else synapses or SYNAPSES[0], timeout)

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
        return evaluation(self.program, len(frames), self.supervisor.run(frames, step, record))
