"""A NIR file becomes a pipeline: walk, lowering, and how near the integer network is to the float one."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from spikegen import __version__
from spikegen.errors import ConfigError
from spikegen.exporters.nir.float_run import run_float
from spikegen.exporters.nir.structure import read_checked
from spikegen.exporters.nir.walk import Walked, walk
from spikegen.lowering.calibrate import Calibration
from spikegen.lowering.fold_batchnorm import fold_batchnorm
from spikegen.lowering.graph import FloatArray, InputOp, Shape
from spikegen.lowering.input_format import InputFormat
from spikegen.lowering.lower_graph import lower_graph
from spikegen.program import Lif, Pipeline, Program, Standalone
from spikegen.simulator import Simulator

RANDOM_INPUTS = 16
COMPARED_INPUTS = 16
DT = 1e-4  # what snnTorch and SpikingJelly write with


@dataclass(frozen=True)
class InputRange:
    """How the host quantises the input.

    Attributes:
        bits: magnitude bits; 0 for spikes.
        largest: largest magnitude; None: that of the calibration inputs, or 1 if there are none.
        streamed: every timestep has a frame of its own.
    """

    bits: int = 7
    largest: float | None = None
    streamed: bool = False

    def format(self, inputs: FloatArray | None) -> InputFormat:
        """The format, for calibration ``inputs`` if there are any."""
        widest = 1.0 if inputs is None else float(np.abs(inputs).max())
        largest = self.largest or widest
        if not self.bits:
            largest = 1.0
        if not 0.0 < largest < math.inf:
            raise ConfigError(f"the largest magnitude of the input is {largest}; it must be > 0 and finite")
        return InputFormat(self.bits, largest, streamed=self.streamed)


@dataclass(frozen=True, eq=False)
class Imported:
    """A pipeline from a NIR file.

    Attributes:
        pipeline: of one network, ``Standalone``.
        agreement: neuron layer -> share of spikes that the integer network has as the float one has them, 0 .. 1.
        warnings: what the user should know.
    """

    pipeline: Pipeline
    agreement: Mapping[str, float]
    warnings: tuple[str, ...]


def import_nir(
    path: str | os.PathLike[str],
    timesteps: int,
    dt: float = DT,
    calibration: Callable[[tuple[int, ...]], FloatArray] | None = None,
    input_range: InputRange | None = None,
    seed: int = 0,
    on_stage: Callable[[str], None] = lambda _: None,
    *,
    at_threshold: bool = False,
) -> Imported:
    """Lower a NIR file.

    Args:
        path: of any framework; it is read with nothing taken on trust.
        timesteps: T; NIR does not say it.
        dt: seconds per timestep; NIR does not say it.
        calibration: called with the shape of an input, (C, H, W), or (T, C, H, W) if the input is streamed, which the
            file says; real inputs to calibrate on, float64 (N, ...). None: random ones.
        input_range: quantisation of the input.
        seed: of random inputs.
        on_stage: called with the name of each pass as it starts.
        at_threshold: neurons fire when they reach their threshold, not only above it.

    Raises:
        ExchangeError: the file is damaged, or holds what a Program cannot say: every node, by name.
        LoweringError: a part that cannot be lowered exactly.
        ConfigError: T, dt or the inputs do not fit.
    """
    if timesteps < 1 or not 0.0 < dt < math.inf:
        raise ConfigError(f"T is {timesteps} and dt {dt}; T must be at least 1, dt > 0 and finite")
    path, declared = Path(path), input_range or InputRange()
    on_stage("read")
    walked = walk(read_checked(path), timesteps, dt, at_threshold=at_threshold, spikes=not declared.bits)
    shape = next(op.shape for op in walked.graph.ops if isinstance(op, InputOp))
    wanted = (timesteps, *shape) if declared.streamed else shape
    warnings = list(walked.warnings)
    inputs = None if calibration is None else calibration(wanted)
    form = declared.format(inputs)
    if inputs is None:
        warnings.append(
            f"no calibration inputs: {RANDOM_INPUTS} random ones in the range of the input are used; real ones make "
            "better thresholds and a true agreement"
        )
        inputs = _random(form, shape, timesteps, seed)
    if inputs.shape[1:] != wanted or not len(inputs) or not np.isfinite(inputs).all():
        size = ", ".join(map(str, wanted))
        raise ConfigError(f"calibration inputs have shape {inputs.shape}, finite ones of (N, {size}) are needed")
    data = Calibration(inputs.astype(np.float64), np.zeros(len(inputs), dtype=np.int64))
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", path.stem)[:48] or "nir"
    program = lower_graph(
        fold_batchnorm(walked.graph), data, lambda kept: _rates(walked, form, kept), name, form, on_stage
    )
    on_stage("compare with the float network")
    agreement = _agreement(walked, program, data.images[:COMPARED_INPUTS])
    provenance = {
        "source": f"NIR file {path.name}",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "dt": repr(dt),
        "fires": "at the threshold" if at_threshold else "above the threshold",
        "spikegen": __version__,
    }
    return Imported(Pipeline(name, Standalone(), {"network": program}, provenance), agreement, tuple(warnings))


def _random(form: InputFormat, shape: Shape, timesteps: int, seed: int) -> FloatArray:
    """Inputs drawn evenly from the messages that the input takes."""
    port, rng = form.port(shape), np.random.default_rng(seed)
    size = (RANDOM_INPUTS, timesteps, *shape) if form.streamed else (RANDOM_INPUTS, *shape)
    low, high = port.low[:, None, None], port.high[:, None, None]
    return np.asarray(rng.integers(low, high, size, endpoint=True) * port.scale, dtype=np.float64)


def _rates(walked: Walked, form: InputFormat, data: Calibration) -> Mapping[str, float]:
    """Mean spikes per neuron and timestep of the float network on the inputs as they are quantised."""
    port, rates = form.port(next(op.shape for op in walked.graph.ops if isinstance(op, InputOp))), {}

    def keep(name: str, spikes: Tensor) -> None:
        rates[name] = float(spikes.mean())

    run_float(walked, port.quantize(data.images) * port.scale, keep)
    return rates


def _agreement(walked: Walked, program: Program, inputs: FloatArray) -> Mapping[str, float]:
    """Share of equal spikes of every population that is a whole neuron layer, on the quantised inputs."""
    frames = program.input.quantize(inputs)
    populations = {p.origin: p for p in program.populations if isinstance(p, Lif) and p.origin}
    with Simulator(program) as simulator:
        messages = simulator.evaluate(frames, step=0, record=True).messages
    agreement: dict[str, float] = {}

    def keep(name: str, spikes: Tensor) -> None:
        population = populations.get(name)
        if population is not None and population.shape == tuple(spikes.shape[2:]):
            agreement[name] = float(np.mean(messages[population.name] == spikes.numpy()))

    run_float(walked, frames * program.input.scale, keep)
    return agreement
