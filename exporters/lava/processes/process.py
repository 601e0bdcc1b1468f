"""The Processes: what exists; ``models.py`` holds how it behaves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from spikegen.exporters.lava.schedule import Schedule
from spikegen.exporters.lava.tapping import POINTS_MAX, TapPlan, tap_plans
from spikegen.program import Program, Readout


class Delay(AbstractProcess):  # type: ignore[misc]
    """Delays messages: ``s_out[t] = s_in[t - steps]``, 0 before the first.

    Ports ``s_in`` and ``s_out`` have the shape ``shape`` and carry int32; Var ``buffer`` is int32 [steps, *shape].
    The buffer is sent before the input is received, so a Delay never waits for its source within a step.

    Args:
        shape: shape of the messages.
        steps: delay in timesteps, at least 1.
        name: name of the Process.
    """

    def __init__(self, *, shape: tuple[int, ...], steps: int, name: str) -> None:
        super().__init__(shape=shape, steps=steps, name=name)
        self.s_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.buffer = Var(shape=(steps, *shape), init=0)


class Gain(AbstractProcess):  # type: ignore[misc]
    """Multiplies messages by the gain of their timestep: ``s_out[t] = gains[(t - offset) mod T] * s_in[t]``.

    It receives and sends within a step, as a neuron does, so it adds no timestep. A payload has the sign of the
    message, the gain or both.

    Ports ``s_in`` and ``s_out`` have the shape ``shape`` and carry int32; Var ``gains`` is int32 [T].

    Args:
        shape: shape of the messages.
        gains: int32 [T], as in :class:`spikegen.program.Conv`.
        offset: phase of the first timestep of a frame at the source, 0 .. T - 1 (``Schedule.reset_offset``).
        name: name of the Process.
    """

    def __init__(self, *, shape: tuple[int, ...], gains: npt.NDArray[np.int32], offset: int, name: str) -> None:
        super().__init__(shape=shape, gains=gains, offset=offset, name=name)
        self.s_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.gains = Var(shape=gains.shape, init=gains)


class Tap(AbstractProcess):  # type: ignore[misc]
    """Instrumentation for the CPU: counts the events of nodes in their own windows, and records messages if asked to.

    It only listens and changes nothing in the network. One Tap watches many nodes because each Process costs time at
    every step.

    Ports ``a_in_0``, ``a_in_1``, ... receive int32 messages in the order of ``plan.points``.
    Vars, the first two set before a run: ``window`` int64 [1], steps to count; ``recording`` int64 [1], 1 to keep
    messages; ``totals`` int64 [plan.totals_shape], complete when a run ends; ``recorded`` int64 [plan.words_shape],
    messages packed as in ``packing.pack``, meaningful in the steps of the window if they were kept.

    Args:
        plan: the nodes.
        period: R, steps of a run.
        name: name of the Process.
    """

    def __init__(self, *, plan: TapPlan, period: int, name: str) -> None:
        super().__init__(plan=plan, period=period, name=name)
        # Lava wants every port that the model declares; what is left over stays unconnected.
        for index in range(POINTS_MAX):
            shape = plan.points[index].shape if index < len(plan.points) else (1,)
            setattr(self, f"a_in_{index}", InPort(shape=shape))
        self.window = Var(shape=(1,), init=0)
        self.recording = Var(shape=(1,), init=0)
        self.totals = Var(shape=plan.totals_shape, init=0)
        self.recorded = Var(shape=plan.words_shape, init=0)


class Network(AbstractProcess):  # type: ignore[misc]
    """A whole Program that runs N images back to back, as often as wanted.

    Host and network meet in Vars, all set and read between runs of ``schedule.period`` steps:

    * ``frames`` int32 [W, H, C, R]: one column per step (``Schedule.columns``),
    * ``bias_<i>`` int16 [W, H, C]: bias mantissas of the i-th population, only if it is conditioned,
    * ``readout_<i>`` int32 [W, H, C, R]: currents of the i-th population, a readout (``Schedule.images_of``),
    * ``window_<j>``, ``recording_<j>``, ``totals_<j>``, ``recorded_<j>``: those of the j-th :class:`Tap`, for
      ``plans[j]``.

    Args:
        program: a valid Program.
        images: N, images per run.
        synapses: ``"sparse"`` or ``"conv"``, the form of the synapse processes (never changes a result).
        name: name of the Process.
    """

    def __init__(self, *, program: Program, images: int, synapses: str, name: str = "network") -> None:
        super().__init__(program=program, images=images, synapses=synapses, name=name)
        self.program = program
        self.synapses = synapses
        self.schedule = Schedule.of(program, images)
        self.plans = tap_plans(program, self.schedule.window)
        self.frames = Var(shape=(*program.input.shape[::-1], self.schedule.period), init=0)
        for index, population in enumerate(program.populations):
            shape = population.shape[::-1]
            if isinstance(population, Readout):
                setattr(self, f"readout_{index}", Var(shape=(*shape, self.schedule.period), init=0))
            elif population.name in program.conditioning.tables:
                setattr(self, f"bias_{index}", Var(shape=shape, init=0))
        for index, plan in enumerate(self.plans):
            setattr(self, f"window_{index}", Var(shape=(1,), init=0))
            setattr(self, f"recording_{index}", Var(shape=(1,), init=0))
            setattr(self, f"totals_{index}", Var(shape=plan.totals_shape, init=0))
            setattr(self, f"recorded_{index}", Var(shape=plan.words_shape, init=0))
