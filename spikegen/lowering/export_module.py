"""A module that is not of this package becomes a pipeline."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from spikegen import __version__
from spikegen.errors import LoweringError, SpikegenError
from spikegen.lowering.calibrate import Calibration, record_spikes
from spikegen.lowering.calls import FIRST, LAST
from spikegen.lowering.form import READOUTS, Form
from spikegen.lowering.graph import LayerGraph, NeuronOp, Shape
from spikegen.lowering.input_format import InputFormat
from spikegen.lowering.layers import CONTAINERS, layer_key
from spikegen.lowering.lower import lower
from spikegen.lowering.payloads import PAYLOAD_BITS
from spikegen.lowering.plain import PlainNetwork, time_of
from spikegen.lowering.trace import OUTPUT, repeats_input, trace
from spikegen.lowering.user_code import describe_error
from spikegen.program import Lif, Pipeline, Program, Standalone
from spikegen.program.numerics import delayed
from spikegen.runtime.readout import host_readout
from spikegen.simulator import Simulator

RANDOM_INPUTS = 32
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class InputSpec:
    """The input of a module.

    Attributes:
        shape: (C, H, W); of features (F, 1, 1).
        timesteps: T.
        flat: the module takes features, (N, F) at a timestep.
        streamed: every timestep has a frame of its own; None: where the module is of SLAYER, whose inputs are spike
            trains.
        bits: magnitude bits, 0: spikes; None: 0 if streamed, else 7.
        largest: the largest magnitude that the bits hold.
    """

    shape: Shape
    timesteps: int
    flat: bool = False
    streamed: bool | None = None
    bits: int | None = None
    largest: float = 1.0

    def taken(self, module: nn.Module) -> tuple[int, ...]:
        """Shape of one input of ``module``: (C, H, W), streamed (T, C, H, W)."""
        streamed, _ = self.resolved(time_of(module))
        return (self.timesteps, *self.shape) if streamed else self.shape

    def resolved(self, time: str) -> tuple[bool, InputFormat]:
        """Whether it is streamed, and its quantisation, for a module with SNN time at ``time``."""
        streamed = time == LAST if self.streamed is None else self.streamed
        bits = (0 if streamed else 7) if self.bits is None else self.bits
        return streamed, InputFormat(bits, self.largest, streamed=streamed)


def export_module(
    module: nn.Module,
    spec: InputSpec,
    name: str = "network",
    *,
    inputs: FloatArray | None = None,
    readout: str = "mean",
    seed: int = 0,
    payload_bits: int = PAYLOAD_BITS,
    streams: str = "cheapest",
    provenance: dict[str, str] | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> Pipeline:
    """The Standalone pipeline of ``module``, calibrated on ``inputs``.

    The report of its network holds, as ``float_agreement``, how near it is to the module on these inputs.

    Args:
        module: of the layers in :data:`~spikegen.lowering.layers.LAYERS`; it is put into evaluation mode.
        spec: its input.
        name: of the pipeline.
        inputs: float64 [N, C, H, W], or [N, T, C, H, W] if it is streamed; None: random ones in the range.
        readout: key of :data:`~spikegen.lowering.form.READOUTS`, for a module that ends with values of every timestep.
        seed: of the random inputs.
        payload_bits: see :func:`~spikegen.lowering.lower.lower`.
        streams: see :func:`~spikegen.lowering.lower.lower`.
        provenance: where the module comes from.
        on_stage: called with the name of each step as it starts.

    Raises:
        LoweringError: what cannot be lowered, or an input that the module does not take.
    """
    if readout not in READOUTS:
        raise LoweringError(f"readout {readout!r} is unknown; choose one of {', '.join(READOUTS)}")
    if layer_key(type(module)) in CONTAINERS:
        module = nn.Sequential(module)  # the tracer goes through containers where they are called
    module = module.eval()
    streamed, quantisation, form = form_of(module, spec, readout)
    graph = trace(module, spec.shape, spec.timesteps, 1, form)
    model = PlainNetwork(
        module,
        spec.timesteps,
        form,
        streamed=streamed,
        lags=_lags(graph),
        reads_out=graph.ops[-1].name != OUTPUT,
    )
    if inputs is None:
        inputs = random_calibration(spec, quantisation, seed)
    data = Calibration(inputs, np.zeros(len(inputs), dtype=np.int64))
    check_called(model, data)
    program = lower(
        model,
        spec.shape,
        spec.timesteps,
        1,
        data,
        "network",
        quantisation,
        on_stage,
        payload_bits,
        streams,
    )
    report = {**program.report, "float_agreement": float_agreement(program, model, inputs)}
    origin = {
        **(provenance or {}),
        "calibration_seed": str(seed),
        "spikegen": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    return Pipeline(name, Standalone(), {"network": dataclasses.replace(program, report=report)}, origin)


def form_of(module: nn.Module, spec: InputSpec, readout: str) -> tuple[bool, InputFormat, Form]:
    """Whether the input of ``module`` is streamed, its quantisation, and how the module takes it.

    Raises:
        LoweringError: the input is streamed, and the module repeats it over time itself.
    """
    time = time_of(module)
    streamed, quantisation = spec.resolved(time)
    repeats = time == FIRST and repeats_input(module)
    if repeats and streamed:
        raise LoweringError(
            f"{type(module).__name__}: it repeats its input over time, which cannot be streamed then; use --constant"
        )
    return streamed, quantisation, Form(time, spec.flat, quantisation.bits == 0, repeats, readout)


def random_calibration(spec: InputSpec, quantisation: InputFormat, seed: int) -> FloatArray:
    """Inputs drawn evenly from the range of the messages, float64 [N, C, H, W] or [N, T, C, H, W]."""
    low, high = (0, 1) if quantisation.bits == 0 else (-(1 << quantisation.bits) + 1, (1 << quantisation.bits) - 1)
    shape = (spec.timesteps, *spec.shape) if quantisation.streamed else spec.shape
    messages = np.random.default_rng(seed).integers(low, high, (RANDOM_INPUTS, *shape), endpoint=True)
    return np.asarray(messages * quantisation.scale, dtype=np.float64)


def check_called(model: PlainNetwork, data: Calibration) -> None:
    """Call the module once.

    Raises:
        LoweringError: it does not take such an input.
    """
    try:
        with torch.no_grad():
            model(torch.from_numpy(data.images[:1]).float())
    except SpikegenError:
        raise
    except Exception as error:  # the code of a module may raise anything
        shape = tuple(data.images.shape[1:])
        raise LoweringError(
            f"{type(model.module).__name__}: it cannot be called with an input of {shape} (time is {model.form.time}): "
            f"{describe_error(error)}"
        ) from error


def float_agreement(program: Program, model: PlainNetwork, inputs: FloatArray) -> dict[str, Any]:
    """Spikes and readout of ``program`` against the float model on real inputs.

    Returns:
        ``inputs``: N; ``spikes``: population -> share of equal (neuron, timestep, input) spikes; ``readout_error``:
        ``|y_int - y_float| / |y_float|`` (L2 norms), None if ``y_float`` is 0.
    """
    spikes, output = record_spikes(model, Calibration(inputs, np.zeros(len(inputs), dtype=np.int64)))
    found = Simulator(program).evaluate(program.input.quantize(inputs), 0, record=True)
    shares = {}
    for population in program.populations:
        if isinstance(population, Lif) and population.origin in spikes:
            expected, sent = spikes[population.origin], found.messages[population.name]
            expected = expected.reshape(*expected.shape[:2], -1, *population.shape[1:])
            start, lag = population.origin_start, model.lags.get(population.origin, 0)
            expected = delayed(expected[:, lag:, start : start + population.shape[0]], population.delays)
            if expected.size:
                shares[population.name] = float(np.mean(expected == sent[:, : expected.shape[1]]))
    readout = next(program.readouts())
    value = host_readout(readout, found.readouts[readout.name]).reshape(output.shape)
    size = float(np.linalg.norm(output))
    error = float(np.linalg.norm(value - output)) / size if size else None
    return {"inputs": len(inputs), "spikes": shares, "readout_error": error}


def _lags(graph: LayerGraph) -> dict[str, int]:
    """Neuron layer -> lag of what it reads."""
    values = {op.name: op.lag for op in graph.ops}
    return {op.name: values[op.inputs[0]] for op in graph.ops if isinstance(op, NeuronOp)}
