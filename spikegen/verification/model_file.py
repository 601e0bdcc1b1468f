"""An ONNX file against the simulator, output by output. Needs the extra ``onnx``, so the package does not import it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from spikegen.exporters.onnx.host import REAL, VALUE
from spikegen.exporters.onnx.model_file import ModelFile
from spikegen.exporters.onnx.network import EVENTS, FRAMES, MESSAGES, PEAK, READOUT, STEP
from spikegen.program import Evaluation, Program
from spikegen.runtime import host_readout
from spikegen.simulator import Simulator
from spikegen.simulator.currents import projection_currents, with_gains

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]

IMAGES_MAX = 16  # of one run of the file, which bounds its memory


@dataclass(frozen=True)
class OutputResult:
    """One output of the model over all inputs.

    Attributes:
        output: its name.
        values: values compared.
        nonzero: those of the simulator that are not 0.
        differing: values of other bits than the simulator's.
    """

    output: str
    values: int
    nonzero: int
    differing: int


@dataclass(frozen=True)
class FileResult:
    """One model file.

    Attributes:
        file: its path.
        kind: network, or input or readout, the host's parts around it.
        network: role of the network in its pipeline.
        outputs: in the order of the model that the exporter writes.
    """

    file: str
    kind: str
    network: str
    outputs: tuple[OutputResult, ...]

    @property
    def equal(self) -> bool:
        """Whether no value differs."""
        return not any(output.differing for output in self.outputs)


def verify_model(
    file: ModelFile,
    inputs: npt.NDArray[np.float64],
    steps: npt.NDArray[np.int64],
) -> FileResult:
    """Compare a model file with the simulator and the runtime on real inputs, bit for bit.

    Args:
        file: the model.
        inputs: float64 [N, C, H, W] or [N, T, C, H, W], what its network is given, before quantisation.
        steps: int64 [N], the conditioning step of each input.

    Raises:
        ExchangeError: the file cannot be run, see :meth:`~spikegen.exporters.onnx.ModelFile.run`.
        BackendError: a current leaves the range for which the numerics are defined.
    """
    simulator = Simulator(file.program)
    totals = {name: np.zeros(3, dtype=np.int64) for name in file.outputs}
    for step in np.unique(steps).tolist():
        group = inputs[steps == step]
        for start in range(0, len(group), IMAGES_MAX):
            feeds, expected = _case(file, simulator, group[start : start + IMAGES_MAX], step)
            found = file.run(feeds)
            for name, value in expected.items():
                differing = _bits(found[name]) != _bits(value)
                totals[name] += value.size, np.count_nonzero(value), np.count_nonzero(differing)
    rows = tuple(OutputResult(name, *total.tolist()) for name, total in totals.items())
    return FileResult(str(file.path), file.kind, file.role, rows)


def _bits(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """``values`` as integers of the same bits: -0.0 is not 0.0, and NaN is equal to itself."""
    bits: npt.NDArray[Any] = np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
    return bits


def _case(file: ModelFile, simulator: Simulator, real: npt.NDArray[np.float64], step: int) -> tuple[Arrays, Arrays]:
    """What the model is given, and what must come out."""
    program = file.program
    frames = program.input.quantize(real)
    if file.kind == "input":
        return {REAL: real}, {FRAMES: frames}
    if file.kind == "readout":
        currents = simulator.evaluate(frames, step).readouts
        values = {VALUE + readout.name: host_readout(readout, currents[readout.name]) for readout in program.readouts()}
        return {READOUT + name: value for name, value in currents.items()}, values
    evaluation = simulator.evaluate(frames, step, record=True)
    feeds: Arrays = {FRAMES: frames, STEP: np.array(step, dtype=np.int64)}
    return feeds, {name: _expected(program, evaluation, name) for name in file.outputs}


def _expected(program: Program, evaluation: Evaluation, output: str) -> npt.NDArray[Any]:
    """The output of a network's model, by its name."""
    kind, _, node = output.partition("/")
    if f"{kind}/" == READOUT:
        return evaluation.readouts[node]
    if f"{kind}/" == MESSAGES:
        return evaluation.messages[node]
    if f"{kind}/" == EVENTS:
        return np.asarray(np.count_nonzero(evaluation.messages[node], axis=1), dtype=np.int32)
    if f"{kind}/" == PEAK:
        return np.array(_peak(program, evaluation.messages, node), dtype=np.int64)
    raise KeyError(output)


def _peak(program: Program, messages: Mapping[str, npt.NDArray[np.int32]], node: str) -> int:
    """Largest magnitude of the current of a population."""
    total: Any = 0
    for projection in program.into(node):
        sent = messages[projection.source]
        currents = projection_currents(projection, sent.reshape(-1, *sent.shape[2:]))
        total = total + with_gains(projection, currents.reshape(*sent.shape[:2], *program.nodes[node].shape))
    return int(np.abs(total).max())
