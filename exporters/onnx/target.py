"""ONNX Runtime as a target."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from spikegen.errors import BackendError, ConfigError
from spikegen.exporters.onnx.network import EVENTS, FRAMES, MESSAGES, PEAK, READOUT, STEP, current_limit, network_model
from spikegen.program import Evaluation, Program, Readout, validate
from spikegen.program.counting import Counter
from spikegen.program.target import check_frames, joined, streamed_frames

Arrays = Mapping[str, npt.NDArray[np.int64]]

# What ONNX Runtime raises for models and inputs.
FAILURES = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    MemoryError,
)


def open_session(content: bytes, threads: int, severity: int = 3) -> onnxruntime.InferenceSession:
    """ONNX Runtime's CPU provider with a model, with the options for which the results are exact.

    Args:
        content: the model.
        threads: as of :class:`OnnxTarget`.
        severity: of what ONNX Runtime logs: 3 errors, which are raised too, 4 nothing but crashes.

    Raises:
        any of :data:`FAILURES`
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = severity
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


class OnnxTarget:
    """Evaluates a Program with ONNX Runtime on the CPU, exactly as the simulator does.

    The model is built from the Program (:func:`spikegen.exporters.onnx.network_model`); no file is read. Messages are
    a second model, made when they are asked for first.

    Args:
        program: a valid Program.
        batch: images per call of ONNX Runtime; bounds the memory, never changes a result.
        threads: of ONNX Runtime, 0 for as many as it finds cores.
        unroll: as in :func:`spikegen.exporters.onnx.network_model`.

    Raises:
        ProgramError: the Program breaks a rule.
        ConfigError: ``batch`` or ``threads`` is out of range, or no ONNX model can hold the Program.
        BackendError: ONNX Runtime refuses the model.
    """

    def __init__(self, program: Program, batch: int = 64, threads: int = 0, *, unroll: bool | None = None) -> None:
        validate(program)
        if batch < 1 or threads < 0:
            raise ConfigError(f"batch is {batch} and threads {threads}, at least 1 and 0 are needed")
        self.program, self.batch, self.threads, self.unroll = program, batch, threads, unroll
        self._counter = Counter(program)
        self._sessions = {"events": self._session("events")}

    def __enter__(self) -> OnnxTarget:
        return self

    def __exit__(self, *exception: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Free the models. May be called twice."""
        self._sessions = {}

    def evaluate(self, frames: npt.NDArray[np.int32], step: int, record: bool = False) -> Evaluation:
        """See :meth:`spikegen.program.Target.evaluate`.

        Raises:
            ConfigError: ``frames`` or ``step`` do not fit the Program.
            BackendError: a current leaves the range for which the numerics are defined, ONNX Runtime failed, or the
                target is closed.
        """
        check_frames(self.program, frames, step)
        if not self._sessions:
            raise BackendError(f"the ONNX target of {self.program.name!r} is closed: build a new one")
        kind = "messages" if record else "events"
        if kind not in self._sessions:
            self._sessions[kind] = self._session(kind)
        starts = range(0, len(frames), self.batch)
        return joined([self._pass(frames[start : start + self.batch], step, kind) for start in starts])

    def _session(self, outputs: str) -> onnxruntime.InferenceSession:
        model = network_model(self.program, outputs, unroll=self.unroll)
        try:
            return open_session(model.SerializeToString(), self.threads)
        except FAILURES as error:
            raise BackendError(f"ONNX Runtime refuses the model of {self.program.name!r}: {error}") from error

    def _pass(self, frames: npt.NDArray[np.int32], step: int, kind: str) -> Evaluation:
        session, program = self._sessions[kind], self.program
        names = [port.name for port in session.get_outputs()]
        try:
            values = session.run(names, {FRAMES: frames, STEP: np.array(step, dtype=np.int64)})
        except FAILURES as error:
            raise BackendError(f"ONNX Runtime failed at {program.name!r}: {error}") from error
        found = dict(zip(names, values, strict=True))
        self._check(found)
        sent = {program.input.name: streamed_frames(program, frames)}
        senders = [p.name for p in program.populations if not isinstance(p, Readout)]
        if kind == "messages":
            sent |= {name: found[MESSAGES + name] for name in senders}
            events = {name: np.count_nonzero(value, axis=(0, 1)) for name, value in sent.items()}
        else:
            events = {name: np.count_nonzero(value, axis=(0, 1)) for name, value in sent.items()}
            events |= {name: found[EVENTS + name].sum(axis=0, dtype=np.int64) for name in senders}
        counts = self._counter.counts(len(frames), {name: np.asarray(e, np.int64) for name, e in events.items()})
        readouts = {p.name: found[READOUT + p.name] for p in program.readouts()}
        return Evaluation(readouts, counts, sent if kind == "messages" else {})

    def _check(self, found: Mapping[str, npt.NDArray[np.int64]]) -> None:
        """A value of more bits is refused, never cut."""
        for population in self.program.populations:
            peak = int(found.get(PEAK + population.name, np.int64(0)))
            if peak >= current_limit(population):
                raise BackendError(
                    f"{population.name}: its current reaches a magnitude of {peak}, limit is "
                    f"{current_limit(population) - 1}; export with smaller weights (overflow_risks names every such "
                    "population)"
                )
