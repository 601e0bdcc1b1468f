"""The passes behind folding, in order: a layer graph, traced or read from a file, becomes a Program."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from spikegen.lowering.calibrate import Calibration, within_budget
from spikegen.lowering.compose_linear import compose_linear
from spikegen.lowering.graph import InputOp, LayerGraph
from spikegen.lowering.input_format import InputFormat
from spikegen.lowering.payloads import PAYLOAD_BITS
from spikegen.lowering.quantize import quantize
from spikegen.lowering.relay_room import relays_fit
from spikegen.lowering.retime import retime
from spikegen.lowering.split_gains import split_gains
from spikegen.program import Program, validate


def lower_graph(
    graph: LayerGraph,
    data: Calibration,
    rates: Callable[[Calibration], Mapping[str, float]],
    name: str = "network",
    input_format: InputFormat | None = None,
    on_stage: Callable[[str], None] | None = None,
    payload_bits: int = PAYLOAD_BITS,
    streams: str = "cheapest",
) -> Program:
    """Lower ``graph`` to a valid Program.

    Args:
        graph: float operations, the first is the input; norms and gains are folded.
        data: calibration inputs and their steps, of the shape of the input.
        rates: calibration inputs -> mean spikes per neuron and timestep of every neuron layer.
        name: name of the Program.
        input_format: quantisation of the input.
        on_stage: called with the name of each pass as it starts.
        payload_bits: the most bits of the gain of a timestep (TSM).
        streams: policy for real-valued streams, one of :data:`~spikegen.lowering.compose_linear.STREAMS`.

    Raises:
        LoweringError: what cannot be lowered, by name.
    """
    stage = on_stage or (lambda _: None)
    shape = next(op.shape for op in graph.ops if isinstance(op, InputOp))
    stage("calibrate")
    inputs = len(data.steps)
    data = within_budget(data, graph.macs() * graph.timesteps)
    measured = rates(data)
    stage("compose linear paths")
    form = input_format or InputFormat()
    port = form.port(shape)
    network, decisions = compose_linear(graph, measured, streams, lambda found: relays_fit(found, port))
    stage("quantise")
    program = quantize(split_gains(network, payload_bits), data, form, name, graph.macs(), payload_bits)
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
