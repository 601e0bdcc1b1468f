"""The NIR ``Delay`` as axonal delays of a Program: ``y(t) = x(t - delay)``, in seconds, and 0 before.

Source: nir 1.0, ``nir/ir/delay.py``. A Program delays the spikes of a population by whole timesteps (``Lif.delays``).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from spikegen.errors import ExchangeError
from spikegen.exporters.nir.builder import Builder, Wire, array
from spikegen.exporters.nir.neurons import FLOAT32_ERROR
from spikegen.exporters.nir.structure import NirNode
from spikegen.lowering.geometry import spike_copy
from spikegen.lowering.graph import FloatArray, InputOp, NeuronOp

FINER_MAX = 20  # how many timesteps of another --dt may stand for one of this, in a hint


def delay(builder: Builder, node: NirNode, wire: Wire) -> Wire:
    """``Delay``: of the neurons before it where nothing else reads them, else of IF neurons that copy the spikes.

    Raises:
        ExchangeError: the value is no spikes, or a delay is negative or no whole number of timesteps.
    """
    steps = _timesteps(builder, node, wire)
    if not steps.any():
        return wire
    op = wire.op
    each = steps if steps.size > 1 else np.broadcast_to(steps.reshape(()), wire.shape)
    delays = each.reshape(op.shape).astype(np.int32)
    if isinstance(op, NeuronOp) and not wire.shared:
        before = op.delays if op.delays.size else np.zeros_like(delays)
        late = dataclasses.replace(op, delays=np.minimum(before + delays, builder.timesteps))
        return dataclasses.replace(wire, op=builder.add(late))
    if isinstance(op, NeuronOp) or (isinstance(op, InputOp) and builder.spikes):
        copy = dataclasses.replace(spike_copy(builder.name(node.name), op), delays=delays)
        return builder.fire(wire, copy, (1.0, 0.0))
    hint = "; an input of spikes needs --input-bits 0" if isinstance(op, InputOp) else ""
    raise ExchangeError(
        f"{node.name} (Delay): its input {op.name} is real-valued; a Program delays spikes only: put the Delay "
        f"directly behind a neuron, before weights and sums{hint}"
    )


def _timesteps(builder: Builder, node: NirNode, wire: Wire) -> FloatArray:
    """The delays in whole timesteps, one or of the shape of the value, at most T: what is later never comes."""
    delays = array(node, "delay")
    if delays.size != 1 and delays.shape != wire.shape:
        raise ExchangeError(f"{node.name} (Delay): delay has shape {delays.shape}, its input {wire.shape}")
    if not (delays >= 0).all():
        raise ExchangeError(f"{node.name} (Delay): delay is {delays.min():g} s, it must be at least 0")
    late = np.unique(delays[delays < builder.timesteps * builder.dt])
    broken = late[~_whole(late, builder.dt)]
    if broken.size:
        raise ExchangeError(
            f"{node.name} (Delay): delay is {broken[0]:.9g} s, which is {broken[0] / builder.dt:.6g} timesteps of --dt "
            f"{builder.dt:.9g}; a Program delays by whole timesteps{_hint(late, float(broken[0]), builder.dt)}"
        )
    with np.errstate(over="ignore"):
        return np.asarray(np.minimum(np.rint(delays / builder.dt), builder.timesteps))


def _whole(delays: FloatArray, dt: float) -> npt.NDArray[np.bool_]:
    """Whether each is a whole number of timesteps, up to the rounding of float32."""
    steps = delays / dt
    return np.asarray(np.abs(steps - np.rint(steps)) <= FLOAT32_ERROR * np.maximum(steps, 1.0))


def _hint(delays: FloatArray, broken: float, dt: float) -> str:
    """The largest fraction of ``dt`` that all delays of the node are multiples of; else what is nearest for one."""
    for parts in range(2, FINER_MAX + 1):
        if _whole(delays, dt / parts).all():
            return f": --dt {dt / parts:.9g} would do, with {parts} times the timesteps"
    whole = max(1, round(broken / dt))
    return f": the nearest for this delay is --dt {broken / whole:.9g}, or a delay of {whole * dt:.9g} s"
