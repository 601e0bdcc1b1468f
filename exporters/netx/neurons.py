"""The neurons of a layer of netx: ``CUBA``, or ``LOIHI``, which is the same.

lava-dl 0.6.0 ``netx/hdf5.py`` (``get_neuron_params``): ``vth = vThMant``, ``du = iDecay - 1``, ``dv = vDecay``;
``refDelay`` and ``gradedSpike`` are not read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikegen.errors import ExchangeError
from spikegen.exporters.netx.numbers import one
from spikegen.exporters.netx.structure import NetxLayer
from spikegen.program.numerics import DECAY_MAX, DECAY_UNITY, VTH_MAX

TYPES = ("CUBA", "LOIHI")
REQUIRED = ("type", "iDecay", "vDecay", "vThMant")
OPTIONAL = ("refDelay", "gradedSpike", "weight_exp")


@dataclass(frozen=True)
class Neurons:
    """Parameters of a Lif.

    Attributes:
        vth, du, dv: as of :class:`spikegen.program.Lif`.
        fires: whether they can; else their membrane is read, as one sum of the currents or as each of them.
    """

    vth: int
    du: int
    dv: int
    fires: bool = True


def neurons(layer: NetxLayer) -> Neurons:
    """The neurons of a layer.

    Raises:
        ExchangeError: a Program has no such neurons.
    """
    if layer.neuron is None:  # netx: a current that never decays, and a threshold out of reach
        return Neurons(VTH_MAX, DECAY_MAX, 0, fires=False)
    given, name = layer.neuron, f"{layer.name}: neuron"
    current, membrane, vth = (one(name, given, key) for key in ("iDecay", "vDecay", "vThMant"))
    if given.get("refDelay") is not None and one(name, given, "refDelay") != 1:
        raise ExchangeError(f"{name}: refDelay is {one(name, given, 'refDelay')}; only 1, no refractory time, is known")
    for key, why in (("gradedSpike", "spikes are 0 or 1"), ("weight_exp", "netx ignores it, and SLAYER does not")):
        if np.any(given.get(key, 0)):
            raise ExchangeError(f"{name}: {key} is set; {why}")
    for key, value in (("iDecay", current), ("vDecay", membrane)):
        if not 0 <= value <= DECAY_UNITY:
            raise ExchangeError(f"{name}: {key} is {value}, allowed 0..{DECAY_UNITY}")
    if vth < 0:
        raise ExchangeError(f"{name}: vThMant is {vth}, it must be at least 0")
    if vth > VTH_MAX:  # above the 2^23 - 1 that a membrane can hold
        if (current, membrane) not in {(DECAY_UNITY, DECAY_UNITY), (DECAY_UNITY, 0), (0, DECAY_UNITY)}:
            raise ExchangeError(
                f"{name}: vThMant is {vth}: it never fires, and its membrane (iDecay {current}, vDecay {membrane}) is "
                "neither the current nor the sum of the currents"
            )
        return Neurons(VTH_MAX, DECAY_MAX, 0, fires=False)
    if current == 0 or membrane > DECAY_MAX:
        raise ExchangeError(
            f"{name}: iDecay is {current} and vDecay {membrane}; a neuron that fires has 1..{DECAY_UNITY} and "
            f"0..{DECAY_MAX}"
        )
    return Neurons(vth, current - 1, membrane)
