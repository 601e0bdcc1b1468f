"""Layer-by-layer evaluation of a Program over all T timesteps, batched over images."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from types import TracebackType

import numpy as np
import numpy.typing as npt

from spikegen.errors import ConfigError
from spikegen.program import Evaluation, Program, validate
from spikegen.program.counting import Counter
from spikegen.program.target import check_frames, joined
from spikegen.simulator.engine import Engine
from spikegen.simulator.numpy_engine import NumpyEngine

ENGINES = ("torch", "numpy")


class Simulator:
    """The exact target that needs nothing but numpy, and is fast where torch is installed.

    Frames of different images never meet (each evaluation starts from zero state), so delays and levels, which only
    align frames in time, do not appear: every population is computed for all T timesteps before the next one.

    Args:
        program: a valid Program.
        batch: images per pass; bounds the memory, never changes a result.
        engine: one of :data:`ENGINES`, never changes a result; None: torch if it is installed.
        device: ``"cpu"`` or ``"cuda"``, of the engine torch.
        kernels: keys of ``spikegen.simulator.kernels.KERNELS`` that the engine torch may use; empty: all that suit
            the device, the fastest of them by measurement.

    Raises:
        ProgramError: the Program breaks a rule.
        ConfigError: ``batch`` is not positive, the engine, device or kernel is unknown or not there.
    """

    def __init__(
        self,
        program: Program,
        batch: int = 64,
        engine: str | None = None,
        device: str = "cpu",
        kernels: Sequence[str] = (),
    ) -> None:
        validate(program)
        if batch < 1:
            raise ConfigError(f"batch is {batch}, it must be at least 1")
        self.program = program
        self.batch = batch
        self.engine = _engine(program, engine, device, kernels)
        self._counter = Counter(program)

    def __enter__(self) -> Simulator:
        return self

    def __exit__(self, *exception: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Nothing to free."""

    def evaluate(self, frames: npt.NDArray[np.int32], step: int, record: bool = False) -> Evaluation:
        """See :meth:`spikegen.program.Target.evaluate`.

        Raises:
            ConfigError: ``frames`` or ``step`` do not fit the Program.
            BackendError: a current leaves the range for which the numerics are defined.
        """
        check_frames(self.program, frames, step)
        return joined(
            [
                self._pass(frames[start : start + self.batch], step, record)
                for start in range(0, len(frames), self.batch)
            ]
        )

    def _pass(self, frames: npt.NDArray[np.int32], step: int, record: bool) -> Evaluation:
        readouts, events, messages = self.engine.run(frames, step, record)
        return Evaluation(readouts, self._counter.counts(len(frames), events), messages)


def _engine(program: Program, name: str | None, device: str, kernels: Sequence[str]) -> Engine:
    if name not in (None, *ENGINES):
        raise ConfigError(f"engine is {name!r}, it must be one of {', '.join(ENGINES)}")
    installed = importlib.util.find_spec("torch") is not None
    if name == "torch" and not installed:
        raise ConfigError("engine is 'torch', which is not installed: pip install 'spikegen[torch]'")
    if name == "numpy" or not installed:
        if device != "cpu" or kernels:
            raise ConfigError("device and kernels are those of the engine torch")
        return NumpyEngine(program)
    from spikegen.simulator.torch_engine import TorchEngine

    return TorchEngine(program, device, kernels)
