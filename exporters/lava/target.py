"""A Program on Lava, as a target: on its CPU simulator, or on Loihi 2."""

from __future__ import annotations

import dataclasses
import os
from types import TracebackType

import numpy as np
import numpy.typing as npt

from spikegen.errors import BackendError, ConfigError
from spikegen.exporters.lava.exchange import evaluation
from spikegen.exporters.lava.form import Form
from spikegen.exporters.lava.supervisor import Supervisor
from spikegen.program import Evaluation, Program, Target, validate
from spikegen.program.target import check_frames, joined


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
        model: ``"fused"``, the whole Program in one Lava process that computes all images of a run at once;
            ``"unrolled"``, one stock Lava process for every population and projection, with the images streamed through
            it back to back; or ``"chip"``, the same of processes that a chip has, with adapters to the host.
        synapses: form of the synapses of the unrolled model: ``"conv"`` (Lava's ``Conv`` and ``Dense``, compact on a
            chip), ``"fast-conv"`` (the same processes, ``Conv`` with a faster process model of ours, the default) or
            ``"sparse"`` (Lava's ``Sparse`` for every projection); of the chip's model ``"conv"`` (the default, which
            has the faster process model on the CPU) or ``"sparse"``. All are exact.
        timeout: seconds that the build and each run may take.
        hardware: whether the chip's model runs on Loihi 2, which needs Intel's lava-loihi, else on the CPU.
        check_size: whether a Program is refused on hardware that by ``spikegen check`` does not fit the board which the
            environment names.
        observed: whether the chip's model hands the messages of every node to the host, which counts and records them;
            default: on the CPU only. Unobserved, counts are those of the simulator, whose readouts every evaluation
            must then equal.
        adapter_steps: timesteps that the adapters of the chip's model take to the chip and to the host. There is no
            public figure; the twins for the CPU in lava-dl's tutorials take none.

    Raises:
        MissingPackageError: Lava is not installed.
        BackendError: lava-loihi is not installed, or the network cannot be built in time.
        ConfigError: an argument is out of range.
        ProgramError: the Program breaks a rule, or one of Loihi 2 if its model is the chip's.
    """

    def __init__(
        self,
        program: Program,
        images: int = 16,
        model: str = "fused",
        synapses: str | None = None,
        timeout: float = 300.0,
        *,
        hardware: bool = False,
        check_size: bool = True,
        observed: bool | None = None,
        adapter_steps: tuple[int, int] = (0, 0),
    ) -> None:
        validate(program)
        if images < 1:
            raise ConfigError(f"images per run is {images}, it must be at least 1")
        form = Form.choose(model, synapses)
        if model != "chip" and (hardware or observed is not None or adapter_steps != (0, 0)):
            raise ConfigError(f"hardware, observed and adapter_steps belong to the model chip, not to {model}")
        if min(adapter_steps) < 0:
            raise ConfigError(f"adapter_steps is {adapter_steps}, both must be at least 0")
        if not timeout > 0:
            raise ConfigError(f"timeout is {timeout}, it must be positive")
        self.program = program
        self.images = images
        self._simulator: Target | None = None
        environment: dict[str, str] = {}
        if model == "chip":
            from spikegen.exporters.lava.chip_rules import require_chip
            from spikegen.exporters.lava.installation import board_of, require_loihi2

            require_chip(program, board_of(os.environ) if hardware and check_size else None)
            environment = require_loihi2(os.environ) if hardware else {}
            seen = not hardware if observed is None else observed
            lead, lag = adapter_steps
            form = dataclasses.replace(form, hardware=hardware, observed=seen, lead=lead, lag=lag)
            if not seen:
                from spikegen.simulator import Simulator

                self._simulator = Simulator(program)
        self.supervisor = Supervisor(program, images, form, timeout, environment)

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
            BackendError: a Lava process died or a run took too long (the message names it), the target is closed, or
                a chip that is not observed sent other readouts than the simulator has.
            ConfigError: frames or step do not fit, or messages are asked for that are not observed.
        """
        check_frames(self.program, frames, step)
        if record and self._simulator is not None:
            raise ConfigError("the messages of this network are not observed: build it with observed=True")
        parts = [
            self._run(frames[start : start + self.images], step, record) for start in range(0, len(frames), self.images)
        ]
        return joined(parts)

    def _run(self, frames: npt.NDArray[np.int32], step: int, record: bool) -> Evaluation:
        found = evaluation(self.program, len(frames), self.supervisor.run(frames, step, record))
        if self._simulator is None:
            return found
        expected = self._simulator.evaluate(frames, step)
        for name, currents in found.readouts.items():
            self._compare(name, currents, expected.readouts[name])
        return Evaluation(found.readouts, expected.counts, {})

    def _compare(self, name: str, found: npt.NDArray[np.int32], expected: npt.NDArray[np.int32]) -> None:
        differing = np.argwhere(found != expected)
        if len(differing) == 0:
            return
        self.supervisor.kill()
        first = tuple(differing[0])
        image, timestep, channel, y, x = (int(index) for index in first)
        raise BackendError(
            f"the network of {self.program.name!r} is not exact: {len(differing)} of {found.size} currents of the "
            f"readout {name} differ from the simulator's, the first in image {image} at timestep {timestep}, channel "
            f"{channel}, row {y}, column {x}: {int(found[first])}, not {int(expected[first])}. If its adapters take "
            "timesteps, set adapter_steps of LavaTarget"
        )
