"""The passes in order: a model becomes a Program."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from torch import nn

from spikegen.errors import LoweringError
from spikegen.lowering.calibrate import Calibration, firing_rates, within_budget
from spikegen.lowering.compose_linear import compose_linear
from spikegen.lowering.fold_batchnorm import fold_batchnorm
from spikegen.lowering.graph import LayerGraph, Shape
from spikegen.lowering.input_format import InputFormat
from spikegen.lowering.payloads import PAYLOAD_BITS
from spikegen.lowering.quantize import quantize
from spikegen.lowering.relay_room import relays_fit
from spikegen.lowering.retime import retime
from spikegen.lowering.split_gains import split_gains
from spikegen.lowering.trace import trace
from spikegen.program import Program, validate


def lower(
    model: nn.Module,
    shape: Shape,
    timesteps: int,
    steps: int,
    data: Calibration,
    name: str = "network",
    input_format: InputFormat | None = None,
    on_stage: Callable[[str], None] | None = None,
    payload_bits: int = PAYLOAD_BITS,
    streams: str = "cheapest",
) -> Program:
    """Lower ``model(x, t)`` or ``model(x)`` to a valid Program.

    Args:
        model: a network of the layers in :data:`~spikegen.lowering.layers.LAYERS`.
        shape: (C, H, W) of its input.
        timesteps: T.
        steps: K, steps of the conditioning; 1 for a model without a second argument.
        data: calibration inputs and their steps.
        name: name of the Program.
        input_format: quantisation of the input.
        on_stage: called with the name of each pass as it starts.
        payload_bits: the most bits of the gain of a timestep (TSM).
        streams: policy for real-valued streams, one of :data:`~spikegen.lowering.compose_linear.STREAMS`.

    Raises:
        LoweringError: what cannot be lowered, by name.
    """
    stage = on_stage or (lambda _: None)
    if data.images.shape[1:] != shape:
        raise LoweringError(f"{name}: calibration images have shape {data.images.shape[1:]}, the model takes {shape}")
    stage("trace")
    traced = trace(model, shape, timesteps, steps)
    stage("fold BatchNorm")
    folded: LayerGraph = fold_batchnorm(traced)
    del traced  # its weights are as large as those of the model
    stage("calibrate")
    inputs = len(data.steps)
    data = within_budget(data, folded.macs() * timesteps)
    rates = firing_rates(model, data)
    stage("compose linear paths")
    form = input_format or InputFormat()
    port = form.port(shape)
    network, decisions = compose_linear(folded, rates, streams, lambda found: relays_fit(found, port))
    stage("quantise")
    program = quantize(split_gains(network, payload_bits), data, form, name, folded.macs(), payload_bits)
    stage("retime")
    program = retime(program)
    report = {
        **program.report,
        "streams": [dataclasses.asdict(decision) for decision in decisions],
        "calibration": {"inputs": len(data.steps), "offered": inputs},
    }
    program = dataclasses.replace(program, report=_finite(report))
    validate(program)
    return program


def _finite(value: Any) -> Any:
    """``value`` with NaN replaced by None: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
