"""A model becomes a Program."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from spikegen.errors import LoweringError
from spikegen.lowering.calibrate import Calibration, firing_rates
from spikegen.lowering.fold_batchnorm import fold_batchnorm
from spikegen.lowering.graph import Shape
from spikegen.lowering.input_format import InputFormat
from spikegen.lowering.lower_graph import lower_graph
from spikegen.lowering.payloads import PAYLOAD_BITS
from spikegen.lowering.plain import PlainNetwork
from spikegen.lowering.trace import trace
from spikegen.program import Program


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
        model: a network of the layers in :data:`~spikegen.lowering.layers.LAYERS`; one that is not as those of this
            package in a :class:`~spikegen.lowering.plain.PlainNetwork`.
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
    form = input_format or InputFormat()
    taken = (timesteps, *shape) if form.streamed else shape
    if data.images.shape[1:] != taken:
        raise LoweringError(f"{name}: calibration images have shape {data.images.shape[1:]}, the model takes {taken}")
    stage("trace")
    if isinstance(model, PlainNetwork):
        traced = trace(model.module, shape, timesteps, steps, model.form)
    else:
        traced = trace(model, shape, timesteps, steps)
    stage("fold BatchNorm")
    folded = fold_batchnorm(traced)
    del traced  # its weights are as large as those of the model
    return lower_graph(
        folded,
        data,
        lambda kept: firing_rates(model, kept),
        name,
        input_format,
        on_stage,
        payload_bits,
        streams,
    )
