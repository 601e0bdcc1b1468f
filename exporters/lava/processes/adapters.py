"""Adapters between the host and a chip, and their models on either.

The Processes of ``lava.proc.embedded_io`` are part of Intel's lava-loihi and not public. Their names, ports and
arguments are those of public code: ``lava.networks.gradedvecnetwork`` (lava-nc 0.10.0) and the tutorials
``mnist`` and ``pilotnet_snn`` of lava-dl (commit d825ac5), which wrap them as it is done here, with a model for the CPU
that passes on what it is given. Nothing is imported from lava-loihi before a model for the chip is built.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU, Loihi2NeuroCore
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.io.encoder import Compression


class InputAdapter(AbstractProcess):  # type: ignore[misc]
    """Messages from the host to a chip. Ports ``inp`` and ``out`` carry int32 messages of shape ``shape``.

    Args:
        shape: shape of the messages, (W, H, C).
        bits: declared width of a message, 0 for binary spikes.
        to_conv: whether convolutions hear them, which have an adapter of their own on the chip.
        steps: timesteps that the adapter takes.
        name: name of the Process.
    """

    def __init__(self, *, shape: tuple[int, ...], bits: int, to_conv: bool, steps: int, name: str) -> None:
        super().__init__(shape=shape, bits=bits, to_conv=to_conv, steps=steps, name=name)
        self.inp = InPort(shape=shape)
        self.out = OutPort(shape=shape)


class OutputAdapter(AbstractProcess):  # type: ignore[misc]
    """Messages from a chip to the host. Ports ``inp`` and ``out`` carry int32 messages of shape ``shape``.

    Args:
        shape: shape of the messages, (W, H, C).
        bits: declared width of a message, 0 for binary spikes.
        steps: timesteps that the adapter takes.
        name: name of the Process.
    """

    def __init__(self, *, shape: tuple[int, ...], bits: int, steps: int, name: str) -> None:
        super().__init__(shape=shape, bits=bits, steps=steps, name=name)
        self.inp = InPort(shape=shape)
        self.out = OutPort(shape=shape)


class _Passing(PyLoihiProcessModel):  # type: ignore[misc]
    """Passes on what came ``steps`` steps ago."""

    inp: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=32)
    out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._waiting = [np.zeros(proc_params["shape"], dtype=np.int32)] * proc_params["steps"]

    def run_spk(self) -> None:
        """One message in, one out."""
        self._waiting.append(self.inp.recv())
        self.out.send(self._waiting.pop(0))


@implements(proc=InputAdapter, protocol=LoihiProtocol)
@requires(CPU)
class PyInputAdapter(_Passing):
    """The twin of :class:`NxInputAdapter`."""


@implements(proc=OutputAdapter, protocol=LoihiProtocol)
@requires(CPU)
class PyOutputAdapter(_Passing):
    """The twin of :class:`NxOutputAdapter`."""


@implements(proc=InputAdapter, protocol=LoihiProtocol)
@requires(Loihi2NeuroCore)
class NxInputAdapter(AbstractSubProcessModel):  # type: ignore[misc]
    """``PyToN3ConvAdapter`` in front of convolutions (``pilotnet_snn``), else ``PyToNxAdapter`` (``mnist``)."""

    def __init__(self, proc: AbstractProcess) -> None:
        from lava.proc.embedded_io.spike import PyToN3ConvAdapter, PyToNxAdapter

        parameters = proc.proc_params
        shape, bits = parameters["shape"], parameters["bits"]
        if parameters["to_conv"]:
            self.adapter = PyToN3ConvAdapter(shape=shape, num_message_bits=bits, compression=Compression.DENSE)
        else:
            self.adapter = PyToNxAdapter(shape=shape, num_message_bits=bits)
        self.adapter.name = proc.name
        proc.inp.connect(self.adapter.inp)
        self.adapter.out.connect(proc.out)


@implements(proc=OutputAdapter, protocol=LoihiProtocol)
@requires(Loihi2NeuroCore)
class NxOutputAdapter(AbstractSubProcessModel):  # type: ignore[misc]
    """``NxToPyAdapter``."""

    def __init__(self, proc: AbstractProcess) -> None:
        from lava.proc.embedded_io.spike import NxToPyAdapter

        parameters = proc.proc_params
        self.adapter = NxToPyAdapter(shape=parameters["shape"], num_message_bits=parameters["bits"])
        self.adapter.name = proc.name
        proc.inp.connect(self.adapter.inp)
        self.adapter.out.connect(proc.out)
