"""A network without a loop around it: real inputs in, the readout of one evaluation each out."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

from spikegen.errors import ConfigError
from spikegen.program import Counts, Pipeline, Program, Readout, Standalone, Target
from spikegen.runtime.readout import host_readout

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StandaloneResult:
    """What a network answered to N inputs.

    Attributes:
        outputs: float64 [N, O, H, W], what the host makes of the readout.
        every_step: float64 [N, T, C, H, W], the real current of the readout at every timestep, ``scale * a[t] +
            bias[t]``; for a readout of spikes these are the spikes.
        counts: over all inputs.
    """

    outputs: FloatArray
    every_step: FloatArray
    counts: Counts


def standalone_network(pipeline: Pipeline) -> Program:
    """The one network of ``pipeline``.

    Raises:
        ConfigError: it is a generative model, or its network has not exactly one readout.
    """
    if not isinstance(pipeline.host, Standalone):
        raise ConfigError(
            f"{pipeline.name} is {type(pipeline.host).__name__}: it needs its loop (spikegen sample); only the network "
            "of a Standalone pipeline runs by itself"
        )
    program = pipeline.network("network")
    readouts = [readout.name for readout in program.readouts()]
    if len(readouts) != 1:
        raise ConfigError(f"{pipeline.name} has {len(readouts)} readouts ({', '.join(readouts)}), it must have one")
    return program


def input_shape(program: Program) -> tuple[int, ...]:
    """Shape of one input: (C, H, W), or (T, C, H, W) if every timestep has a frame of its own."""
    port = program.input
    return (program.timesteps, *port.shape) if port.streamed else port.shape


def evaluate_standalone(
    pipeline: Pipeline,
    target: Target,
    inputs: FloatArray,
    batch: int,
    finished: Callable[[int], None] = lambda _: None,
) -> StandaloneResult:
    """Run the network of a Standalone ``pipeline`` on real inputs.

    Args:
        pipeline: with one network of one readout.
        target: holds that network.
        inputs: float64 [N, C, H, W], or [N, T, C, H, W] for a streamed input, before quantisation; N at least 1.
        batch: inputs per call of the target, at least 1; never changes a result.
        finished: called after every batch with the number of inputs that are through.

    Raises:
        ConfigError: no such pipeline, ``batch`` is below 1, or inputs of another shape, or that are not finite.
        BackendError: the target failed.
    """
    program = standalone_network(pipeline)
    shape = input_shape(program)
    if batch < 1:
        raise ConfigError(f"batch is {batch}, it must be at least 1")
    if inputs.shape[1:] != shape or not len(inputs):
        size = ", ".join(map(str, shape))
        raise ConfigError(f"inputs have shape {inputs.shape}, {pipeline.name} takes (N, {size}), N >= 1")
    if not np.isfinite(inputs).all():
        raise ConfigError(f"input {int(np.argwhere(~np.isfinite(inputs))[0][0])} holds a number that is not finite")
    readout = next(program.readouts())
    outputs, currents, counts = [], [], []
    for start in range(0, len(inputs), batch):
        evaluation = target.evaluate(program.input.quantize(inputs[start : start + batch]), step=0)
        found = evaluation.readouts[readout.name]
        outputs.append(host_readout(readout, found))
        currents.append(_real(readout, found))
        counts.append(evaluation.counts)
        finished(min(start + batch, len(inputs)))
    return StandaloneResult(np.concatenate(outputs), np.concatenate(currents), reduce(operator.add, counts))


def random_inputs(program: Program, count: int, seed: int) -> FloatArray:
    """Inputs that fill the range of each channel: messages drawn evenly from it, as real values.

    Args:
        program: whose input.
        count: N.
        seed: choice of the messages.

    Returns:
        float64 [N, C, H, W], or [N, T, C, H, W] for a streamed input.
    """
    port, rng = program.input, np.random.default_rng(seed)
    low, high = port.low[:, None, None], port.high[:, None, None]
    messages = rng.integers(low, high, (count, *input_shape(program)), endpoint=True)
    return np.asarray(messages * port.scale, dtype=np.float64)


def _real(readout: Readout, currents: npt.NDArray[np.int32]) -> FloatArray:
    return currents * readout.scale + readout.bias[:, :, None, None]
