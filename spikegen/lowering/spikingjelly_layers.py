"""Handlers of SpikingJelly's neurons (`spikingjelly.activation_based.neuron`). Nothing of it is imported."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from spikegen.errors import LoweringError
from spikegen.lowering.calls import Call, refusal
from spikegen.lowering.graph import NeuronOp, Op
from spikegen.program.numerics import DECAY_MAX, DECAY_UNITY


def hard_reset(source: Op, call: Call, threshold: float, decay: float, *, decay_input: bool) -> NeuronOp:
    """A neuron that fires at >= ``threshold`` and starts again at 0; see :class:`spikegen.models.HardResetNeuron`."""
    if not (math.isfinite(threshold) and threshold > 0 and 0.0 <= decay < 1.0) or (decay_input and decay == 0.0):
        raise refusal(
            call,
            f"its threshold is {threshold} and its decay {decay}; the threshold must be > 0, the decay in [0, 1)",
        )
    # It fires at >=, Loihi at >: the largest number below the threshold is what Loihi's must be.
    below = math.nextafter(threshold, 0.0)
    if decay_input:  # the same neuron on an input that is not scaled
        below /= decay
    leak = round(decay * DECAY_UNITY)
    return NeuronOp(call.name, (source.name,), source.shape, below, DECAY_MAX, leak, flat=source.flat)


def if_node(module: Any, inputs: Sequence[Op], call: Call) -> Op:
    """IFNode: ``v[t] = v[t-1] + x[t]``."""
    _check(module, call)
    return hard_reset(inputs[0], call, float(module.v_threshold), 0.0, decay_input=False)


def lif_node(module: Any, inputs: Sequence[Op], call: Call) -> Op:
    """LIFNode: ``v[t] = v[t-1] + (x[t] - v[t-1]) / tau``, or without ``decay_input`` ``(1 - 1/tau) v[t-1] + x[t]``."""
    _check(module, call)
    return hard_reset(
        inputs[0], call, float(module.v_threshold), 1.0 / float(module.tau), decay_input=module.decay_input
    )


def plif_node(module: Any, inputs: Sequence[Op], call: Call) -> Op:
    """ParametricLIFNode: LIFNode with ``1/tau = sigmoid(w)``."""
    _check(module, call)
    decay = float(module.w.detach().double().sigmoid())
    return hard_reset(inputs[0], call, float(module.v_threshold), decay, decay_input=module.decay_input)


def _check(module: Any, call: Call) -> None:
    if module.v_reset is None or float(module.v_reset) != 0.0:
        how = "subtracts its threshold" if module.v_reset is None else f"resets to {module.v_reset}"
        raise refusal(call, f"it {how}; Loihi resets to 0: use v_reset=0.0")


def check_step_mode(module: Any, call: Call, first: str) -> None:
    """Refuse a layer whose step_mode does not fit the tensors that it gets.

    Raises:
        LoweringError: it would take time for the batch, or the other way round.
    """
    mode = getattr(module, "step_mode", None)
    wanted = "m" if call.time == first else "s"
    if mode in ("s", "m") and mode != wanted:
        raise LoweringError(
            f"{call.name} ({type(module).__name__}): its step_mode is {mode!r} where it gets "
            f"{'all timesteps at once' if wanted == 'm' else 'one timestep'}; use step_mode={wanted!r} "
            "(functional.set_step_mode sets that of a whole model)"
        )
