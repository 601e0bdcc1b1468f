"""The Processes: what exists; ``models.py`` and ``fused.py`` hold how it behaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from spikegen.exporters.lava.exchange import Exchange
from spikegen.exporters.lava.schedule import Schedule
from spikegen.exporters.lava.tapping import POINTS_MAX, TapPlan
from spikegen.program import Program


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


class AxonDelay(AbstractProcess):  # type: ignore[misc]
    """Delays the spikes of each neuron by its own number of timesteps: ``s_out[t] = s_in[t - delays]``.

    ``t`` is the timestep of a frame, 0 .. T - 1: what is late for the last one is forgotten. It receives and sends
    within a step, as a neuron does, so it adds no timestep.

    Ports ``s_in`` and ``s_out`` have the shape ``shape`` and carry int32; Var ``buffer`` is int32 [T, *shape].

    Args:
        shape: shape of the messages.
        delays: int32 of that shape, at least 0.
        timesteps: T.
        offset: phase of the first timestep of a frame at the source, 0 .. T - 1 (``Schedule.reset_offset``).
        name: name of the Process.
    """

    def __init__(
        self, *, shape: tuple[int, ...], delays: npt.NDArray[np.int32], timesteps: int, offset: int, name: str
    ) -> None:
        super().__init__(shape=shape, delays=delays, offset=offset, name=name)
        self.s_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.buffer = Var(shape=(timesteps, *shape), init=0)


class Feed(AbstractProcess):  # type: ignore[misc]
    """Sends the frames of a run from the host, one image after the other, and zeros after the last.

    Port ``s_out`` has the shape of the input, Lava's (W, H, C), and carries int32.

    Args:
        exchange: where the frames are.
        schedule: timing of the network.
        name: name of the Process.
    """

    def __init__(self, *, exchange: Exchange, schedule: Schedule, name: str) -> None:
        super().__init__(exchange=exchange, schedule=schedule, name=name)
        self.s_out = OutPort(shape=exchange.program.input.shape[::-1])


class Collect(AbstractProcess):  # type: ignore[misc]
    """Hands the currents of a readout to the host, those of the images of a run.

    Port ``a_in`` has the shape of the readout, Lava's (W, H, C), and sums int32 currents.

    Args:
        readout: name of the readout.
        exchange: where the currents go.
        schedule: timing of the network.
        name: name of the Process.
    """

    def __init__(self, *, readout: str, exchange: Exchange, schedule: Schedule, name: str) -> None:
        super().__init__(readout=readout, exchange=exchange, schedule=schedule, name=name)
        self.a_in = InPort(shape=exchange.program.nodes[readout].shape[::-1])


class Tap(AbstractProcess):  # type: ignore[misc]
    """Instrumentation for the CPU: counts the events of nodes in their own windows, and records messages if asked to.

    It only listens and changes nothing in the network. One Tap watches many nodes because each Process costs time at
    every step. Ports ``a_in_0``, ``a_in_1``, ... receive int32 messages in the order of ``plan``.

    Args:
        plan: the nodes.
        exchange: where totals, complete when a run ends, and messages go.
        schedule: timing of the network.
        name: name of the Process.
    """

    def __init__(self, *, plan: TapPlan, exchange: Exchange, schedule: Schedule, name: str) -> None:
        super().__init__(plan=plan, exchange=exchange, schedule=schedule, name=name)
        # Lava wants every port that the model declares; what is left over stays unconnected.
        for index in range(POINTS_MAX):
            shape = plan[index].shape if index < len(plan) else (1,)
            setattr(self, f"a_in_{index}", InPort(shape=shape))


class Network(AbstractProcess):  # type: ignore[misc]
    """A whole Program that evaluates up to N images per run, as often as wanted.

    A run is ``RunSteps(schedule.period)``. Host and network meet in ``exchange``, between runs only: there are no Vars,
    because Lava passes them one scalar at a time. Three process models obey this contract, ``fused.FusedModel``,
    ``models.UnrolledModel`` and ``models.ChipModel`` (whose biases are Vars: a chip shares no memory with the host);
    the run configuration chooses one.

    Args:
        program: a valid Program.
        images: N, the most images of a run.
        schedule: timing of the process model that will be chosen.
        synapses: form of the synapse processes of the other two models (never changes a result).
        observed: whether the chip's model hands the messages of every node to the host.
        name: name of the Process.

    Attributes:
        parts: attribute name -> Process, those of the chip's model once it is built.
        lifs: the LIFReset of every Lif in it.
    """

    def __init__(
        self,
        *,
        program: Program,
        images: int,
        schedule: Schedule,
        synapses: str = "",
        observed: bool = True,
        name: str = "network",
    ) -> None:
        exchange = Exchange.of(program, images)
        super().__init__(program=program, exchange=exchange, schedule=schedule, name=name)
        self.program = program
        self.exchange = exchange
        self.schedule = schedule
        self.synapses = synapses
        self.observed = observed
        self.parts: dict[str, Any] = {}
        self.lifs: dict[str, Any] = {}
