"""The models of the Processes in ``process.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from spikegen.exporters.lava import chip
from spikegen.exporters.lava.exchange import Exchange
from spikegen.exporters.lava.processes.process import AxonDelay, Collect, Delay, Feed, Gain, Network, Tap
from spikegen.exporters.lava.schedule import Schedule
from spikegen.exporters.lava.tapping import POINTS_MAX, TapPlan
from spikegen.exporters.lava.unrolled import build


@implements(proc=Delay, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyDelayModel(PyLoihiProcessModel):  # type: ignore[misc]
    """A ring of ``steps`` messages."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    buffer: Any = LavaPyType(np.ndarray, np.int32, precision=24)

    def run_spk(self) -> None:
        """Send what came ``steps`` steps ago, then keep what comes now in its place."""
        slot = (self.time_step - 1) % len(self.buffer)
        self.s_out.send(self.buffer[slot])
        self.buffer[slot] = self.s_in.recv()


@implements(proc=Gain, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyGainModel(PyLoihiProcessModel):  # type: ignore[misc]
    """One product per message and step."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    gains: Any = LavaPyType(np.ndarray, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._offset: int = proc_params["offset"]

    def run_spk(self) -> None:
        """Send what comes now, times the gain of its timestep."""
        gain = self.gains[(self.time_step - self._offset) % len(self.gains)]
        self.s_out.send(gain * self.s_in.recv())


@implements(proc=AxonDelay, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyAxonDelayModel(PyLoihiProcessModel):  # type: ignore[misc]
    """The spikes of a frame, of which each neuron's message is the one that its delay reaches back to."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    buffer: Any = LavaPyType(np.ndarray, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._offset: int = proc_params["offset"]
        self._delays: npt.NDArray[np.int32] = proc_params["delays"]

    def run_spk(self) -> None:
        """Keep what comes now, send what is due."""
        timestep = (self.time_step - self._offset) % len(self.buffer)
        self.buffer[timestep] = self.s_in.recv()
        sent = timestep - self._delays
        due = np.take_along_axis(self.buffer, np.maximum(sent, 0)[None], axis=0)[0]
        self.s_out.send(np.where(sent >= 0, due, 0))


@implements(proc=Feed, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyFeedModel(PyLoihiProcessModel):  # type: ignore[misc]
    """One frame per step."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._exchange: Exchange = proc_params["exchange"]
        self._schedule: Schedule = proc_params["schedule"]
        port = self._exchange.program.input
        self._streamed = port.streamed
        self._silence = np.zeros(port.shape[::-1], dtype=np.int32)

    def run_spk(self) -> None:
        """Send the frame of this step, (C, H, W) as (W, H, C)."""
        image, timestep = self._schedule.place(self.time_step, 0)
        if image >= self._exchange.images:
            self.s_out.send(self._silence)
            return
        frame = self._exchange.frames[image]
        self.s_out.send((frame[timestep] if self._streamed else frame).T)


@implements(proc=Collect, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyCollectModel(PyLoihiProcessModel):  # type: ignore[misc]
    """One current per step."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._exchange: Exchange = proc_params["exchange"]
        self._schedule: Schedule = proc_params["schedule"]
        self._currents = self._exchange.readouts[proc_params["readout"]]
        self._late = self._schedule.seen(self._exchange.program.levels[proc_params["readout"]])

    def run_spk(self) -> None:
        """Keep what comes in this step, (W, H, C) as (C, H, W), if it belongs to an image."""
        current = _signed(self.a_in.recv())
        image, timestep = self._schedule.place(self.time_step, self._late)
        if 0 <= image < self._exchange.images:
            self._currents[image, timestep] = current.T


def _signed(message: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """What a chip sends in 24 bits, with its sign; anything else of 24 bits as it is.

    The adapters leave the upper 8 bits empty (``OutputVec.get_data`` in ``lava/networks/gradedvecnetwork.py``).
    """
    return (message.astype(np.int32) << 8) >> 8


@implements(proc=Tap, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyTapModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Counts and records; ports are declared below the class, as many as a plan may have points."""

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._plan: TapPlan = proc_params["plan"]
        self._exchange: Exchange = proc_params["exchange"]
        self._schedule: Schedule = proc_params["schedule"]
        self._events = self._none()

    def _none(self) -> list[npt.NDArray[np.int64]]:
        return [np.zeros(point.shape, dtype=np.int64) for point in self._plan]

    def run_spk(self) -> None:
        """Receive the messages of one step of every node."""
        exchange, step = self._exchange, self._schedule.step(self.time_step)
        if step == 0:
            self._events = self._none()
        for index, point in enumerate(self._plan):
            message = _signed(getattr(self, f"a_in_{index}").recv())
            image, timestep = self._schedule.place(self.time_step, point.late)
            if 0 <= image < exchange.images:
                self._events[index] += message != 0
                if exchange.record:
                    exchange.messages[point.node][image, timestep] = message.T
        if step == self._schedule.period - 1:
            for point, events in zip(self._plan, self._events, strict=True):
                exchange.totals[point.node][:] = point.rows @ events.ravel()


for _index in range(POINTS_MAX):
    setattr(PyTapModel, f"a_in_{_index}", LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24))


@implements(proc=Network, protocol=LoihiProtocol)
@tag("unrolled")
class UnrolledModel(AbstractSubProcessModel):  # type: ignore[misc]
    """Stock Lava processes, AxonDelays, Gains and Delays, and what a CPU needs around them. See ``unrolled.build``."""

    def __init__(self, network: Network) -> None:
        for name, process in build(network).items():
            setattr(self, name, process)


@implements(proc=Network, protocol=LoihiProtocol)
@tag("chip")
class ChipModel(AbstractSubProcessModel):  # type: ignore[misc]
    """What runs on a chip, stock Lava processes only, between adapters to the host. See ``chip.build``."""

    def __init__(self, network: Network) -> None:
        for name, process in chip.build(network).items():
            setattr(self, name, process)
