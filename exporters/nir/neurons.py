"""The NIR neurons in discrete time.

NIR is continuous (nir 1.0, ``nir/ir/neuron.py``)::

    IF       dv/dt = R I                         CubaLIF  tau_syn dI/dt = -I + w_in S
    LIF      tau dv/dt = (v_leak - v) + R I               tau_mem dv/dt = (v_leak - v) + R I

    all      a spike where v > v_threshold (or >=, as the user says), and then v = v_reset

One timestep is one step of forward Euler, the new current first::

    IF       v += dt R I
    LIF      v = (1 - dt/tau) v + dt/tau R I
    CubaLIF  I = (1 - dt/tau_syn) I + dt/tau_syn w_in S ;  v = (1 - dt/tau_mem) v + dt/tau_mem R I

Forward Euler, and not the exact exponential, because it is how networks get their NIR constants: snnTorch
(``export_nir.py``: tau = dt / (1 - beta)) and SpikingJelly (``nir_exchange/to_nir.py``: tau = tau dt) write the time
constant with which Euler gives back their own decay, and Norse steps with Euler itself.

With v_reset = 0 the recurrences are linear between resets, and a factor of the input is a factor of the threshold: what
a population has is the decays, and input times gain / threshold against the threshold 1. A v_leak is a constant
``dt/tau v_leak`` per timestep; the membrane starts at 0 all the same.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from spikegen.errors import ExchangeError
from spikegen.exporters.nir.builder import Builder, Wire, array
from spikegen.exporters.nir.linear import scaled
from spikegen.exporters.nir.structure import NirNode
from spikegen.lowering.graph import FloatArray, NeuronOp
from spikegen.program.numerics import DECAY_MAX, DECAY_UNITY

FLOAT32_ERROR = 1e-6  # of a product of a few float32 numbers


def integrate_and_fire(builder: Builder, node: NirNode, wire: Wire) -> Wire:
    """``IF``."""
    values = _parameters(node, wire, ("r", "v_threshold"))
    if (values["r"] == 1.0).all() and builder.dt != 1.0:
        builder.warn(
            f"the r of an IF is 1, so an input counts dt = {builder.dt:g}; files of Sinabs and Norse count IF in "
            "timesteps, not seconds: give them --dt 1",
            node.name,
        )
    return _population(builder, node, wire, values, builder.dt * values["r"], 1.0, 0.0)


def leaky(builder: Builder, node: NirNode, wire: Wire) -> Wire:
    """``LIF``."""
    values = _parameters(node, wire, ("tau", "r", "v_leak", "v_threshold"))
    leak = _decay(builder, node, "tau", values)
    return _population(builder, node, wire, values, leak * values["r"], 1.0, leak)


def current_based(builder: Builder, node: NirNode, wire: Wire) -> Wire:
    """``CubaLIF``."""
    keys = ("tau_syn", "tau_mem", "r", "w_in", "v_leak", "v_threshold")
    values = _parameters(node, wire, keys)
    fade, leak = (_decay(builder, node, key, values) for key in ("tau_syn", "tau_mem"))
    return _population(builder, node, wire, values, fade * values["w_in"] * leak * values["r"], fade, leak)


def _parameters(node: NirNode, wire: Wire, keys: tuple[str, ...]) -> Mapping[str, FloatArray]:
    """The parameters, each one number or of the shape of the population; what a Program has no place for is refused."""
    problems = []
    defaults = {"w_in": np.ones(())}
    values = {key: array(node, key) if key in node.fields else defaults[key] for key in keys}
    reset = array(node, "v_reset") if "v_reset" in node.fields else np.zeros(())
    for key, value in values.items():
        if value.size != 1 and value.shape != wire.shape:
            problems.append(f"{key} has shape {value.shape}, its input {wire.shape}")
        elif key not in {"w_in", "v_leak", "v_threshold"} and not (value > 0).all():
            problems.append(f"{key} is {value.min():g}, it must be > 0")
        elif key == "v_threshold" and not (value >= 0).all():
            problems.append(f"{key} is {value.min():g}, it must be at least 0")
    if reset.any():
        problems.append(f"v_reset is {reset.flat[np.abs(reset).argmax()]:g}; a Program's neurons are reset to 0")
    if problems:
        raise ExchangeError(f"{node.name} ({node.type}): " + "; ".join(problems))
    return values


def _decay(builder: Builder, node: NirNode, key: str, values: Mapping[str, FloatArray]) -> float:
    """``dt / tau``, the fraction lost per timestep."""
    taus = np.unique(values[key])
    if len(taus) > 1:
        raise ExchangeError(
            f"{node.name} ({node.type}): {key} differs between its neurons ({taus[0]:g} .. {taus[-1]:g}); a population "
            "has one; make it several"
        )
    decay = _snapped(builder.dt / taus[0])
    units = round(decay * DECAY_UNITY)
    most = DECAY_UNITY if key == "tau_syn" else DECAY_MAX
    if not 1 <= units <= most:
        raise ExchangeError(
            f"{node.name} ({node.type}): {key} is {taus[0]:g} s and dt {builder.dt:g} s; of the 4096ths that a state "
            f"loses per timestep {units} is not in 1..{most}; choose another --dt"
        )
    return decay


def _population(
    builder: Builder,
    node: NirNode,
    wire: Wire,
    values: Mapping[str, FloatArray],
    gain: FloatArray,
    fade: float,
    leak: float,
) -> Wire:
    """Neurons that lose ``fade`` of their current and ``leak`` of their membrane per timestep.

    Args:
        builder: the graph.
        node: the NIR neuron.
        wire: its input.
        values: its parameters.
        gain: of the input, before the membrane.
        fade: fraction of the current lost per timestep.
        leak: the same of the membrane.
    """
    name = builder.name(node.name)
    gain = np.vectorize(_snapped)(gain)
    above = values["v_threshold"]
    if builder.at_threshold:  # Loihi fires above: the largest number below the threshold is what its must be
        above = np.nextafter(above, 0.0)
    offset = leak * values.get("v_leak", np.zeros(()))
    if offset.any():
        builder.warn(
            "a v_leak is not 0; the membrane starts at 0 and goes there, where Norse starts at v_leak", node.name
        )
    if (gain > 0).all() and np.ptp(gain) == np.ptp(above) == 0:
        threshold, offset = float((above / gain).flat[0]), offset / gain
    else:
        if not (above > 0).all():
            raise ExchangeError(f"{node.name} ({node.type}): a threshold of 0 beside others or a negative w_in")
        wire, threshold = scaled(builder, node, wire, gain / above, f"{name}.gain"), 1.0
        offset = offset / above
    wire, bias = _per_channel(builder, node, wire, offset)
    neuron = NeuronOp(
        name,
        (wire.op.name,),
        wire.op.shape,
        threshold,
        max(0, round(fade * DECAY_UNITY) - 1),
        round(leak * DECAY_UNITY),
        bias if bias.any() else None,
    )
    return builder.fire(wire, neuron, (fade, leak))


def _per_channel(builder: Builder, node: NirNode, wire: Wire, offset: FloatArray) -> tuple[Wire, FloatArray]:
    """A constant of the membrane, float64 [C], and the value of these channels."""
    each = np.broadcast_to(offset if offset.size > 1 else offset.reshape(()), wire.shape)
    if len(wire.shape) == 1 and np.ptp(each) > 0:
        wire = builder.column(wire, node.name)
    channels = each.reshape(wire.op.shape)
    if (channels != channels[:, :1, :1]).any():
        raise ExchangeError(f"{node.name} ({node.type}): v_leak differs between the pixels of a channel")
    return wire, channels[:, 0, 0].copy()


def _snapped(value: float) -> float:
    """``value``, or the 4096th that it differs from by the rounding of float32 only (such as a gain of 0.9999999)."""
    whole = round(value * DECAY_UNITY) / DECAY_UNITY
    return float(whole) if abs(value - whole) <= FLOAT32_ERROR * abs(value) else float(value)
