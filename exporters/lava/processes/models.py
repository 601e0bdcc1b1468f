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

from spikegen.exporters.lava.packing import pack
from spikegen.exporters.lava.processes.process import Delay, Gain, Network, Tap
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


@implements(proc=Tap, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyTapModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Counts and records; ports are declared below the class, as many as a plan may have points."""

    window: Any = LavaPyType(np.ndarray, np.int64)
    recording: Any = LavaPyType(np.ndarray, np.int64)
    totals: Any = LavaPyType(np.ndarray, np.int64)
    recorded: Any = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._plan: TapPlan = proc_params["plan"]
        self._period: int = proc_params["period"]
        self._events: list[npt.NDArray[np.int64]] = []

    def run_spk(self) -> None:
        """Receive the messages of one step of every node."""
        step = (self.time_step - 1) % self._period
        if step == 0:
            self._events = [np.zeros(point.rows.shape[1], dtype=np.int64) for point in self._plan.points]
        column = 0
        for index, point in enumerate(self._plan.points):
            message = getattr(self, f"a_in_{index}").recv().ravel()
            frame_step = step - point.level
            if 0 <= frame_step < self.window[0]:
                self._events[index] += message != 0
                if self.recording[0]:
                    self.recorded[frame_step, column : column + point.words] = pack(message, point.bits)
            column += point.words
        if step == self._period - 1:
            pairs = zip(self._plan.points, self._events, strict=True)
            self.totals[:] = np.concatenate([point.rows @ events for point, events in pairs])


for _index in range(POINTS_MAX):
    setattr(PyTapModel, f"a_in_{_index}", LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24))


@implements(proc=Network, protocol=LoihiProtocol)
@tag("unrolled")
class UnrolledModel(AbstractSubProcessModel):  # type: ignore[misc]
    """Stock Lava processes, Gains, Delays and Taps: what runs on Loihi 2 (without the Taps). See ``unrolled.build``."""

    def __init__(self, network: Network) -> None:
        for name, process in build(network).items():
            setattr(self, name, process)
