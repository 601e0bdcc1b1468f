"""The engine that needs numpy only: int64 arithmetic, one population after the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spikegen.errors import BackendError
from spikegen.program import Lif, Program, Readout
from spikegen.program.ir import Population
from spikegen.program.numerics import CURRENT_LIMIT, GRADED_BITS_MAX, delayed, lif_step
from spikegen.program.target import streamed_frames
from spikegen.simulator.currents import projection_currents, with_gains
from spikegen.simulator.engine import IntArray, Messages, Pass


class NumpyEngine:
    """Currents by matrix products (:mod:`spikegen.simulator.currents`), neurons by ``lif_step``.

    Args:
        program: a valid Program.
    """

    def __init__(self, program: Program) -> None:
        self.program = program

    def run(self, frames: Messages, step: int, record: bool) -> Pass:
        """See :meth:`spikegen.simulator.engine.Engine.run`."""
        program = self.program
        sent = {program.input.name: streamed_frames(program, frames)}
        readouts = {}
        for population in program.populations:
            found = population_messages(program, population, sent.__getitem__, len(frames), step)
            if isinstance(population, Readout):
                readouts[population.name] = found
            else:
                sent[population.name] = found
        events = {name: np.count_nonzero(messages, axis=(0, 1)).astype(np.int64) for name, messages in sent.items()}
        return Pass(readouts, events, sent if record else {})


def population_messages(
    program: Program, population: Population, sent: Callable[[str], Messages], images: int, step: int
) -> Messages:
    """Messages of ``population``, or the currents of a readout: int32 [n, T, C, H, W].

    Args:
        program: the Program.
        population: one of its populations.
        sent: messages int32 [n, T, C, H, W] of an earlier node that has a projection into it.
        images: n.
        step: diffusion step.

    Raises:
        BackendError: its current leaves the range for which the numerics are defined.
    """
    current = _current(program, population, sent, images)
    if isinstance(population, Readout):
        return _within(population, current, 1 << GRADED_BITS_MAX).astype(np.int32)
    if isinstance(population, Lif):
        return _spikes(program, population, _within(population, current, CURRENT_LIMIT), step)
    return _within(population, current, 1 << population.bits).astype(np.int32)


def _current(program: Program, population: Population, sent: Callable[[str], Messages], images: int) -> IntArray:
    """Summed current int64 [n, T, C, H, W] of one population; 0 where no projection leads into it."""
    total: IntArray = np.zeros((1, 1, *population.shape), dtype=np.int64)
    port = program.input
    for projection in program.into(population.name):
        messages = sent(projection.source)
        if projection.source == port.name and not port.streamed:  # the same at every timestep: convolve it once
            messages = messages[:, :1]
        current = projection_currents(projection, messages.reshape(-1, *messages.shape[2:]))
        total = total + with_gains(projection, current.reshape(images, -1, *population.shape))
    return np.broadcast_to(total, (images, program.timesteps, *population.shape))


def _spikes(program: Program, population: Lif, current: IntArray, step: int) -> Messages:
    bias = (program.bias_mant(population, step) << population.bias_exp)[:, None, None]
    u = v = np.zeros((len(current), *population.shape), dtype=np.int64)
    spikes = np.empty(current.shape, dtype=np.int32)
    for t in range(program.timesteps):
        u, v, spikes[:, t] = lif_step(
            u, v, current[:, t], vth=population.vth, du=population.du, dv=population.dv, bias=bias
        )
    return delayed(spikes, population.delays)


def _within(population: Population, current: IntArray, limit: int) -> IntArray:
    """``current`` if its magnitude is below ``limit``: a value of more bits is refused, never cut."""
    low, high = int(current.min()), int(current.max())
    if max(-low, high) >= limit:
        raise BackendError(
            f"{population.name}: its current reaches {low}..{high}, limit is +-{limit - 1}; "
            "export with smaller weights (overflow_risks names every such population)"
        )
    return current
