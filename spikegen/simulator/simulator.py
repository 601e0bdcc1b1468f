"""Layer-by-layer evaluation of a Program over all T timesteps, batched over images."""

from __future__ import annotations

from types import TracebackType

import numpy as np
import numpy.typing as npt

from spikegen.errors import BackendError, ConfigError
from spikegen.program import Counts, Evaluation, Lif, Program, Readout, validate
from spikegen.program.counting import tap_rows
from spikegen.program.ir import Population
from spikegen.program.numerics import CURRENT_LIMIT, GRADED_BITS_MAX, lif_step
from spikegen.program.target import check_frames, joined, streamed_frames
from spikegen.simulator.currents import IntArray, projection_currents, with_gains

Messages = npt.NDArray[np.int32]


class Simulator:
    """The exact target that needs nothing but numpy.

    Frames of different images never meet (each evaluation starts from zero state), so delays and levels, which only
    align frames in time, do not appear: every population is computed for all T timesteps before the next one.

    Args:
        program: a valid Program.
        batch: images per pass; bounds the memory, never changes a result.

    Raises:
        ProgramError: the Program breaks a rule.
        ConfigError: ``batch`` is not positive.
    """

    def __init__(self, program: Program, batch: int = 64) -> None:
        validate(program)
        if batch < 1:
            raise ConfigError(f"batch is {batch}, it must be at least 1")
        self.program = program
        self.batch = batch
        self._rows = {
            name: tap_rows(program, name) for name, node in program.nodes.items() if not isinstance(node, Readout)
        }

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
        parts = [
            self._pass(frames[start : start + self.batch], step, record) for start in range(0, len(frames), self.batch)
        ]
        return joined(parts)

    def _pass(self, frames: Messages, step: int, record: bool) -> Evaluation:
        program = self.program
        messages = {program.input.name: streamed_frames(program, frames)}
        readouts = {}
        for population in program.populations:
            current = self._current(population, messages)
            if isinstance(population, Readout):
                readouts[population.name] = _within(population, current, 1 << GRADED_BITS_MAX).astype(np.int32)
            elif isinstance(population, Lif):
                current = _within(population, current, CURRENT_LIMIT)
                messages[population.name] = self._spikes(population, current, step)
            else:
                messages[population.name] = _within(population, current, 1 << population.bits).astype(np.int32)
        taps = {name: self._rows[name] @ np.count_nonzero(sent, axis=(0, 1)).ravel() for name, sent in messages.items()}
        counts = Counts.from_taps(program, len(frames), taps)
        return Evaluation(readouts, counts, messages if record else {})

    def _current(self, population: Population, messages: dict[str, Messages]) -> IntArray:
        """Summed current int64 [N, T, C, H, W] of one population; 0 where no projection leads into it."""
        total: IntArray = np.zeros((1, 1, *population.shape), dtype=np.int64)
        port = self.program.input
        images = len(messages[port.name])
        for projection in self.program.into(population.name):
            sent = messages[projection.source]
            if projection.source == port.name and not port.streamed:  # the same at every timestep: convolve it once
                sent = sent[:, :1]
            current = projection_currents(projection, sent.reshape(-1, *sent.shape[2:]))
            total = total + with_gains(projection, current.reshape(images, -1, *population.shape))
        return np.broadcast_to(total, (images, self.program.timesteps, *population.shape))

    def _spikes(self, population: Lif, current: IntArray, step: int) -> Messages:
        bias = (self.program.bias_mant(population, step) << population.bias_exp)[:, None, None]
        u = v = np.zeros((len(current), *population.shape), dtype=np.int64)
        spikes = np.empty(current.shape, dtype=np.int32)
        for t in range(self.program.timesteps):
            u, v, spikes[:, t] = lif_step(
                u, v, current[:, t], vth=population.vth, du=population.du, dv=population.dv, bias=bias
            )
        return spikes


def _within(population: Population, current: IntArray, limit: int) -> IntArray:
    """``current`` if its magnitude is below ``limit``: a value of more bits is refused, never cut."""
    low, high = int(current.min()), int(current.max())
    if max(-low, high) >= limit:
        raise BackendError(
            f"{population.name}: its current reaches {low}..{high}, limit is +-{limit - 1}; "
            "export with smaller weights (overflow_risks names every such population)"
        )
    return current
