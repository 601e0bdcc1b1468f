"""A Program as one ONNX model: populations in topological order, each over all T timesteps at once.

Frames of different timesteps meet in the neurons only, so the delays of a Program, which align frames in time on a
chip, do not appear; the timestep is the leading axis of every value, and one Conv serves all T.
"""

from __future__ import annotations

import numpy as np
import onnx

from spikegen.errors import ConfigError
from spikegen.exporters.onnx.currents import Currents, Signal
from spikegen.exporters.onnx.graph import Graph, Port, make_model
from spikegen.exporters.onnx.neurons import Neurons
from spikegen.program import Lif, Program, Readout, current_bounds, overflow_risks, validate
from spikegen.program.ir import Population, Shape
from spikegen.program.numerics import CURRENT_LIMIT, GRADED_BITS_MAX
from spikegen.program.storage import digest

FRAMES, STEP = "frames", "step"
READOUT, EVENTS, MESSAGES, PEAK = "readout/", "events/", "messages/", "peak/"  # before the name of a node
# What a model gives beside its readouts.
OUTPUTS = ("readouts", "events", "messages")
UNROLLED_MAX = 32  # timesteps; beyond, neurons are a Scan, which keeps the file small and quick to load


def network_model(program: Program, outputs: str = "readouts", *, unroll: bool | None = None) -> onnx.ModelProto:
    """``program`` as a model of opset 17 with integer inputs and outputs, exact in ONNX Runtime on a CPU.

    Inputs: ``frames`` int32 (N, C, H, W), or (N, T, C, H, W) of a streamed input, within the range of each channel, and
    ``step`` int64 (), the conditioning step 0 .. K - 1. Outputs:

    * ``readout/NAME`` int32 (N, T, C, H, W), the current of every readout at every timestep;
    * with outputs "events", ``events/NAME`` int32 (N, C, H, W) of every Lif and Relay, its nonzero messages over the
      timesteps;
    * with outputs "messages", ``messages/NAME`` int32 (N, T, C, H, W) of them instead;
    * ``peak/NAME`` int64 (), the largest magnitude of the current, of every population for which the bounds do not
      prove that it stays in range. Where it is above 2^18 - 1 (Lif), 2^23 - 1 (Readout) or what the bits of the Relay
      hold, the arithmetic is not defined, and the other outputs are meaningless.

    Args:
        program: the network.
        outputs: one of :data:`OUTPUTS`.
        unroll: whether neurons are unrolled over T; None: up to :data:`UNROLLED_MAX` timesteps. Else they are a Scan.

    Raises:
        ProgramError: the Program breaks a rule.
        ConfigError: unknown ``outputs``, sums that no ONNX model could hold, or a model of 2 GiB and more.
    """
    validate(program)
    if outputs not in OUTPUTS:
        raise ConfigError(f"outputs is {outputs!r}, it must be one of {', '.join(OUTPUTS)}")
    builder = _Network(program, outputs, program.timesteps <= UNROLLED_MAX if unroll is None else unroll)
    builder.build()
    metadata = {
        "spikegen.kind": "network",
        "spikegen.program": program.name,
        "spikegen.digest": digest(program),
        "spikegen.timesteps": str(program.timesteps),
        "spikegen.steps": str(program.conditioning.steps),
    }
    port = program.input
    doc = (
        f"{program.name}: frames are int32 in {int(port.low.min())}..{int(port.high.max())}, step is 0.."
        f"{program.conditioning.steps - 1}; all results are exact integers"
    )
    timesteps: tuple[int, ...] = (program.timesteps,) if port.streamed else ()
    inputs = [Port(FRAMES, np.int32, ("N", *timesteps, *port.shape)), Port(STEP, np.int64, ())]
    return make_model(builder.graph.proto(program.name, inputs, builder.outputs), metadata, doc)


def current_limit(population: Population) -> int:
    """The magnitude that the current of ``population`` must stay below, as in the simulator."""
    if isinstance(population, Lif):
        return CURRENT_LIMIT
    return 1 << (GRADED_BITS_MAX if isinstance(population, Readout) else population.bits)


class _Network:
    """The graph of a Program, and its outputs so far."""

    def __init__(self, program: Program, observed: str, unroll: bool) -> None:
        self.program, self.observed, self.unroll = program, observed, unroll
        self.graph = Graph()
        self.outputs: list[Port] = []
        self.bounds = dict(current_bounds(program))
        self.currents = Currents(self.graph, program, self.bounds)
        self.risky = frozenset(line.split(": ")[0] for line in overflow_risks(program))
        self._rest: dict[tuple[Shape, type], str] = {}

    def build(self) -> None:
        """Add all nodes and outputs."""
        sent = {self.program.input.name: self._frames()}
        for population in self.program.populations:
            dtype = self._dtype(population)
            current = self.currents.total(population, sent, dtype)
            if current is not None:
                self._peak(population, current)
            if isinstance(population, Lif):
                sent[population.name] = self._spikes(population, current, dtype)
            elif current is not None:  # ``validate``: only a Lif may hear nothing
                if isinstance(population, Readout):
                    self._readout(population, current)
                    continue
                value = current.value if dtype is np.float32 else self.graph.cast(current.value, np.float32)
                sent[population.name] = Signal(value, np.float32, current.steady)
            self._observe(population, sent[population.name])

    def _dtype(self, population: Population) -> type:
        exact = self.currents.fits_float32(population)
        if isinstance(population, Lif):
            exact = exact and Neurons.plain(population)
        return np.float32 if exact else np.int64

    def _frames(self) -> Signal:
        """The messages of the input, timestep first."""
        found = self.graph.cast(FRAMES, np.float32)
        if self.program.input.streamed:
            found = self.graph.add("Transpose", found, perm=[1, 0, 2, 3, 4])
        else:
            found = self.graph.reshape(found, (1, -1, *self.program.input.shape))
        return Signal(found, np.float32, not self.program.input.streamed)

    def _spikes(self, population: Lif, current: Signal | None, dtype: type) -> Signal:
        rest = self._zeros(population.shape, dtype)
        if current is None:  # a clock
            current = Signal(self.graph.reshape(rest, (1, -1, *population.shape)), dtype, steady=True)
        neurons = Neurons(population, dtype, risky=population.name in self.risky)
        run = neurons.unrolled if self.unroll else neurons.scanned
        spikes = run(self.graph, current, self._bias(population, dtype), rest, self.program.timesteps)
        sent = self.graph.cast(spikes, np.float32)
        return Signal(self._late(population, sent) if population.delays.size else sent, np.float32, steady=False)

    def _late(self, population: Lif, spikes: str) -> str:
        """Messages float32 (T, N, C, H, W) of spikes and axonal delays: for each neuron a frame, or a silent one."""
        graph, shape = self.graph, population.shape
        silence = graph.reshape(self._zeros(shape, np.float32), (1, -1, *shape))
        frames = graph.add("Concat", silence, spikes, axis=0)
        times = graph.constant(np.arange(1, self.program.timesteps + 1).reshape(-1, 1, 1, 1, 1), np.int64)
        late = graph.add("Sub", times, graph.cast(graph.constant(population.delays, np.int32), np.int64))
        chosen = graph.add("Max", late, graph.constant(0, np.int64))  # (T, 1, C, H, W)
        chosen = graph.add("Expand", chosen, graph.add("Shape", spikes))
        return graph.add("GatherElements", frames, chosen, axis=0)

    def _bias(self, population: Lif, dtype: type) -> str:
        """``bias_mant << bias_exp`` of the step, (C, 1, 1)."""
        graph, program = self.graph, self.program
        steps = program.conditioning.steps if population.name in program.conditioning.tables else 1
        rows = np.stack([program.bias_mant(population, step) for step in range(steps)])[..., None, None]
        table = graph.constant(rows if steps > 1 else rows[0], np.int16)
        mantissas = graph.add("Gather", table, STEP, axis=0) if steps > 1 else table
        return graph.add("Mul", graph.cast(mantissas, dtype), graph.constant(1 << population.bias_exp, dtype))

    def _zeros(self, shape: Shape, dtype: type) -> str:
        """0 (N, C, H, W)."""
        if (shape, dtype) not in self._rest:
            graph = self.graph
            images = graph.add("Shape", FRAMES, start=0, end=1)
            size = graph.add("Concat", images, graph.constant(shape, np.int64), axis=0)
            self._rest[shape, dtype] = graph.add("Expand", graph.constant(0, dtype), size)
        return self._rest[shape, dtype]

    def _readout(self, population: Readout, current: Signal) -> None:
        self._output(READOUT, population, self.graph.cast(current.value, np.int32), current.steady)

    def _observe(self, population: Population, sent: Signal) -> None:
        graph = self.graph
        if self.observed == "messages":
            self._output(MESSAGES, population, graph.cast(sent.value, np.int32), sent.steady)
        elif self.observed == "events":
            nonzero = graph.cast(graph.cast(sent.value, np.bool_), np.int32)
            repeats = self.program.timesteps if sent.steady else 1
            found = graph.add("ReduceSum", nonzero, graph.constant([0], np.int64), keepdims=0)
            port = Port(f"{EVENTS}{population.name}", np.int32, ("N", *population.shape))
            graph.add("Mul", found, graph.constant(repeats, np.int32), into=port.name)
            self.outputs.append(port)

    def _output(self, prefix: str, population: Population, value: str, steady: bool) -> None:
        """Give ``value`` int32 to the outside, image first."""
        timesteps = self.program.timesteps
        if steady and timesteps > 1:
            value = self.graph.add("Concat", *[value] * timesteps, axis=0)
        port = Port(f"{prefix}{population.name}", np.int32, ("N", timesteps, *population.shape))
        self.graph.add("Transpose", value, into=port.name, perm=[1, 0, 2, 3, 4])
        self.outputs.append(port)

    def _peak(self, population: Population, current: Signal) -> None:
        low, high = self.bounds[population.name]
        if max(-int(low.min()), int(high.max())) < current_limit(population):
            return
        graph, port = self.graph, Port(f"{PEAK}{population.name}", np.int64, ())
        unit = 1 << 6 if isinstance(population, Lif) else 1
        magnitude = graph.add(
            "Div", graph.add("Abs", graph.cast(current.value, np.int64)), graph.constant(unit, np.int64)
        )
        graph.add("ReduceMax", magnitude, into=port.name, keepdims=0)
        self.outputs.append(port)
