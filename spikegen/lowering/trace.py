"""Pass: trace a model with torch.fx into a :class:`LayerGraph`.

What depends on the diffusion step only is evaluated for every step and becomes tables.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import fx, nn

from spikegen.errors import LoweringError
from spikegen.lowering.calls import FIRST, FOLDED, LAST, STEP, Call, Layer
from spikegen.lowering.form import READOUTS, Form
from spikegen.lowering.graph import (
    ConcatOp,
    ConditionOp,
    ConvOp,
    InputOp,
    LayerGraph,
    NeuronOp,
    NormOp,
    Op,
    ReadoutOp,
    Shape,
)
from spikegen.lowering.layers import CONTAINERS, LAYERS, instead_of, layer_key, layer_title
from spikegen.lowering.spikingjelly_layers import check_step_mode
from spikegen.lowering.step_tables import StepTables
from spikegen.lowering.torch_layers import add_handler
from spikegen.lowering.user_code import describe_error
from spikegen.models.readouts import TemporalReadout

_LIBRARIES = ("lava.lib.dl.slayer.", "spikingjelly.")  # their modules are layers, known or not
OUTPUT = "output"  # the readout of a model that has none


class _Tracer(fx.Tracer):
    """Stops at the layers of the table, and goes through the containers that change where time is."""

    def __init__(self) -> None:
        super().__init__()
        self._time: list[str] = []

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        key = layer_key(type(module))
        foreign = type(module).__module__.startswith(_LIBRARIES) and not isinstance(module, nn.Sequential)
        return key in LAYERS or foreign or super().is_leaf_module(module, qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key = layer_key(type(m))
        if key not in CONTAINERS or len(args) != 1 or kwargs or not isinstance(m, nn.Sequential):
            return super().call_module(m, forward, args, kwargs)
        self._time.append(STEP if CONTAINERS[key] else FOLDED)
        value = args[0]
        for child in m:
            value = self.call_module(child, child.forward, (value,), {})
        self._time.pop()
        return value

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node: fx.Node = super().create_node(*args, **kwargs)
        if self._time:
            node.meta["time"] = self._time[-1]
        return node


def trace_modules(model: nn.Module) -> fx.Graph:
    """The calls of ``model`` in evaluation mode.

    Raises:
        LoweringError: the calls depend on values.
    """
    try:
        graph: fx.Graph = _Tracer().trace(model.eval())
    except Exception as error:  # the code of a model may raise anything
        if isinstance(error, LoweringError):
            raise
        raise LoweringError(f"{type(model).__name__}: the model cannot be traced: {describe_error(error)}") from error
    return graph


def repeats_input(model: nn.Module) -> bool:
    """Whether ``model`` has an ``x.unsqueeze(0)``: it takes one frame, and repeats it over SNN time itself.

    Raises:
        LoweringError: its calls depend on values.
    """
    return any(node.target == "unsqueeze" for node in trace_modules(model).nodes)


def trace(model: nn.Module, shape: Shape, timesteps: int, steps: int, form: Form | None = None) -> LayerGraph:
    """Trace ``model(x, t)`` or ``model(x)`` in evaluation mode.

    Args:
        model: a network whose first argument is the input and whose second, if it has one, is the diffusion step.
        shape: (C, H, W) of the input.
        timesteps: T.
        steps: K, diffusion steps 0 .. K - 1; 1 for a model without a second argument.
        form: how it takes its input and gives its output; default: as the models of this package.

    Raises:
        LoweringError: names every layer that :data:`~spikegen.lowering.layers.LAYERS` does not hold.
    """
    calls, form = trace_modules(model), form or Form()
    first = _Trace(model, calls, shape, timesteps, steps, form)
    graph = first.run()
    return graph if first.one_lag else _Trace(model, calls, shape, timesteps, steps, form, keep_delays=True).run()


class _Trace:
    """One walk over the calls of a model.

    Delays that all paths to a value share are left out (its lag). Where paths differ, or a bias, which acts from the
    first timestep on, is behind a lag, :attr:`one_lag` becomes False, and the graph is right only with ``keep_delays``:
    then every neuron has all of its delay.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: fx.Graph,
        shape: Shape,
        timesteps: int,
        steps: int,
        form: Form,
        *,
        keep_delays: bool = False,
    ) -> None:
        self.graph, self.form = graph, form
        self.keep_delays, self.one_lag = keep_delays, True
        self.timesteps, self.steps = timesteps, steps
        self.modules = dict(model.named_modules())
        placeholders = [node for node in graph.nodes if node.op == "placeholder"]
        if not 1 <= len(placeholders) <= 2:
            raise LoweringError(
                f"{type(model).__name__}: forward must take the input and, if it wants it, the diffusion step, "
                f"not {len(placeholders)} arguments"
            )
        self.tables = StepTables(model, graph, _independent_of(graph, placeholders[0]), timesteps, steps)
        image = InputOp("input", (), shape, flat=form.flat, spikes=form.spikes)
        self.values: dict[fx.Node, Op] = {placeholders[0]: image}
        self.sizes: dict[fx.Node, Any] = {}  # what is known of sizes: tuples, numbers and names of axes
        self.ops: dict[str, Op] = {image.name: image}

    def run(self) -> LayerGraph:
        problems: list[str] = []
        needed = _needed(self.graph)
        for node in self.graph.nodes:
            if node in self.tables.nodes or node.op == "placeholder" or node not in needed:
                continue
            try:
                if node.op == "output":
                    self._end(node, problems)
                elif not self._reads_sizes(node):
                    self._known(node)
                    if self._waits(node):
                        continue  # an input came from a layer that is already in `problems`
                    self.values[node] = self._lower(node)
            except LoweringError as error:
                problems.append(str(error))
        if problems:
            supported = ", ".join(sorted({layer_title(key) for key in LAYERS}))
            raise LoweringError("what cannot be lowered:\n  - " + "\n  - ".join(problems) + f"\nsupported: {supported}")
        return LayerGraph(self.timesteps, self.steps, _heard(tuple(self.ops.values())))

    def _waits(self, node: fx.Node) -> bool:
        known = (self.values, self.tables.nodes, self.sizes)
        return any(all(source not in found for found in known) for source in node.all_input_nodes)

    def _time(self, node: fx.Node) -> str:
        return str(node.meta.get("time", self.form.time))

    def _reads_sizes(self, node: fx.Node) -> bool:
        """Whether ``node`` is a size, a shape or one number of it; then it is in :attr:`sizes`."""
        if node.op not in ("call_function", "call_method") or not node.args or not isinstance(node.args[0], fx.Node):
            return False
        source, rest = node.args[0], node.args[1:]
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        if node.op == "call_method" and name == "dim" and source in self.values:
            self.sizes[node] = len(Call(node.name, {}, (), self._time(node), self.timesteps).sizes(self.values[source]))
        elif source in self.values and ((node.op, name) == ("call_method", "size") or rest == ("shape",)):
            sizes = Call(node.name, {}, (), self._time(node), self.timesteps).sizes(self.values[source])
            self.sizes[node] = sizes[rest[0]] if name == "size" and rest and isinstance(rest[0], int) else sizes
        elif node.target is operator.getitem and isinstance(self.sizes.get(source), tuple) and len(rest) == 1:
            try:
                self.sizes[node] = self.sizes[source][rest[0]]
            except (IndexError, TypeError) as error:
                raise LoweringError(f"{node.name}: {self.sizes[source]} has no size {rest[0]!r}") from error
        else:
            return False
        return True

    def _end(self, node: fx.Node, problems: Sequence[str]) -> None:
        result = node.args[0]
        op = self.values.get(result) if isinstance(result, fx.Node) else None
        if isinstance(op, ReadoutOp) or (op is None and isinstance(result, fx.Node) and problems):
            return  # or it comes from a layer that is already in `problems`
        readouts = ", ".join(
            layer.__name__ for layer in LAYERS if isinstance(layer, type) and issubclass(layer, TemporalReadout)
        )
        if self.form.readout is None:
            raise LoweringError(f"output ({result}): a model must return the value of one readout ({readouts})")
        if op is None:
            raise LoweringError(f"output ({result}): a model must return one value, the spikes or currents to read out")
        if OUTPUT in self.ops:
            raise LoweringError(f"{OUTPUT}: this is the name of the readout; give the layer another one")
        weights = READOUTS[self.form.readout](self.timesteps)
        self._add([ReadoutOp(OUTPUT, (op.name,), op.shape, weights)], [op])

    def _identify(self, node: fx.Node) -> tuple[str, Any, nn.Module | None]:
        """Name, key of :data:`LAYERS` and module (None for a function) of a call."""
        if node.op == "call_module":
            module = self.modules[str(node.target)]
            return str(node.target), layer_key(type(module)), module
        return node.name, f"Tensor.{node.target}" if node.op == "call_method" else layer_key(node.target), None

    def _known(self, node: fx.Node) -> None:
        name, key, _ = self._identify(node)
        if key in LAYERS:
            return
        title = layer_title(key)
        instead = instead_of(key)
        raise LoweringError(f"{name} ({title}): unknown layer" + ("" if instead is None else f"; use {instead}"))

    def _lower(self, node: fx.Node) -> Op:
        name, key, module = self._identify(node)
        title, layer = layer_title(key), LAYERS[key]
        own = getattr(module, "timesteps", self.timesteps)
        if own != self.timesteps:
            raise LoweringError(f"{name} ({title}): it has {own} timesteps, the model {self.timesteps}")
        operands, arguments = _arguments(node)
        unknown = [f"{argument}={value!r}" for argument, value in arguments.items() if argument not in layer.arguments]
        if unknown or not operands:
            raise LoweringError(
                f"{name} ({title}): arguments {', '.join(unknown)} are not supported; pass tensors by position"
            )
        values = [operand for operand in operands if isinstance(operand, fx.Node) and operand not in self.sizes]
        others = tuple(_resolved(operand, self.sizes) for operand in operands if operand not in values)
        if module is not None and others:
            raise LoweringError(f"{name} ({title}): arguments {list(others)} are not supported; pass the input only")
        if others and not layer.positional:
            values = operands  # a number where a value belongs: the handler counts
        constant = [operand for operand in values if isinstance(operand, fx.Node) and operand in self.tables.nodes]
        if constant:
            return self._conditioned(name, title, layer, values, constant[0])
        inputs = [self.values[operand] for operand in values if isinstance(operand, fx.Node)]
        if any(isinstance(source, ReadoutOp) for source in inputs):
            raise LoweringError(f"{name} ({title}): it reads a readout, which must be the end of the model")
        call = Call(name, arguments, others if layer.positional else (), self._time(node), self.timesteps)
        _check_layout(title, layer, module, inputs, call)
        made = layer.handler(module, inputs, call)
        return self._add([made] if isinstance(made, Op) else list(made), inputs, title)

    def _conditioned(self, name: str, title: str, layer: Layer, operands: list[Any], constant: fx.Node) -> Op:
        data = [operand for operand in operands if operand not in self.tables.nodes]
        if len(operands) != 2 or not data or layer.handler is not add_handler:
            raise LoweringError(f"{name} ({title}): of the diffusion step; only + is supported")
        source = self.values[data[0]]
        table = self.tables.table(constant, source.shape[0])
        return self._add([ConditionOp(name, (source.name,), source.shape, table)], [source], title)

    def _add(self, made: list[Op], inputs: Sequence[Op], title: str = "Readout") -> Op:
        """Take the operations of one call into the graph; the value of the call."""
        last = made[-1]
        if any((last.name, last.inputs) == (op.name, op.inputs) for op in inputs):
            return last  # another view of an input
        lags = {op.lag for op in inputs}
        lag = max(lags)
        self.one_lag &= len(lags) == 1
        for op in made:
            _check_finite(op, title)
            if op.name in self.ops:
                raise LoweringError(
                    f"{op.name}: it is used twice, or a layer has the name of a function; make it two, and leave loops "
                    "over timesteps out"
                )
            self.one_lag &= lag == 0 or not _has_bias(op)
            spiking = isinstance(op, NeuronOp) or (isinstance(op, ConcatOp) and all(part.spikes for part in inputs))
            self.ops[op.name] = dataclasses.replace(self._timed(op, lag), spikes=spiking)
        return self.ops[last.name]

    def _timed(self, op: Op, lag: int) -> Op:
        """``op`` behind values of this lag, with a lag, delays or weights of a readout that say so."""
        if isinstance(op, ReadoutOp):
            weights = np.append(op.weights[lag:], np.zeros(min(lag, self.timesteps)))
            return dataclasses.replace(op, weights=weights, lag=lag)
        if isinstance(op, NeuronOp) and op.lag and self.keep_delays:
            before = op.delays if op.delays.size else np.zeros(op.shape, dtype=np.int32)
            delays = np.minimum(before + op.lag, self.timesteps).astype(np.int32)  # later is never
            return dataclasses.replace(op, delays=delays, lag=lag)
        return dataclasses.replace(op, lag=lag + op.lag)


def _check_layout(title: str, layer: Layer, module: nn.Module | None, inputs: Sequence[Op], call: Call) -> None:
    """Refuse a layer that takes other tensors than the model gives it."""
    if call.time not in layer.times:
        shape = {FOLDED: "(T * N, ...)", STEP: "(N, ...)", FIRST: "(T, N, ...)"}.get(call.time, "(N, ..., T)")
        hint = {
            FIRST: "use that of spikingjelly's `layer`, or a SeqToANNContainer around it",
            LAST: "use that of slayer.block.cuba",
        }.get(call.time, "")
        raise LoweringError(
            f"{call.name} ({title}): it does not take {shape}, which is where this model has time"
            + (f"; {hint}" if hint else "")
        )
    if module is not None:
        check_step_mode(module, call, FIRST)
    if not layer.flat and any(op.flat for op in inputs):
        raise LoweringError(f"{call.name} ({title}): it takes pixels, its input is features; unflatten them before it")


def _check_finite(op: Op, title: str) -> None:
    held = {**vars(op), **(vars(op.tail) if isinstance(op, ReadoutOp) and op.tail else {})}
    broken = [field for field, value in held.items() if isinstance(value, np.ndarray) and not np.isfinite(value).all()]
    if broken:
        raise LoweringError(f"{op.name} ({title}): its {', '.join(broken)} has NaN or infinite values")


def _has_bias(op: Op) -> bool:
    added = {ConvOp: "bias", NormOp: "shift", NeuronOp: "bias", ConditionOp: "table"}.get(type(op))
    value = None if added is None else getattr(op, added)
    return value is not None and bool(value.any())


def _arguments(node: fx.Node) -> tuple[list[Any], dict[str, Any]]:
    """What a call reads, and its keyword arguments; ``dim`` of a concatenation may be positional."""
    arguments = dict(node.kwargs)
    if node.args and isinstance(node.args[0], list | tuple):
        if len(node.args) > 1:
            arguments["dim"] = node.args[1]
        return list(node.args[0]), arguments
    return list(node.args), arguments


def _resolved(value: Any, sizes: dict[fx.Node, Any]) -> Any:
    """``value`` with the nodes that are sizes replaced by them."""
    if isinstance(value, list | tuple):
        return type(value)(_resolved(item, sizes) for item in value)
    return sizes.get(value, value) if isinstance(value, fx.Node) else value


def _independent_of(graph: fx.Graph, image: fx.Node) -> set[fx.Node]:
    """Nodes whose value does not depend on ``image``: the diffusion step and what is computed from it."""
    dependent = {image}
    for node in graph.nodes:
        if any(source in dependent for source in node.all_input_nodes):
            dependent.add(node)
    return {node for node in graph.nodes if node not in dependent and node.op != "output"}


def _needed(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that the output depends on."""
    needed = {node for node in graph.nodes if node.op == "output"}
    for node in reversed(list(graph.nodes)):
        if node in needed:
            needed.update(node.all_input_nodes)
    return needed


def _heard(ops: tuple[Op, ...]) -> tuple[Op, ...]:
    """The input, and the operations that a readout depends on."""
    needed = {ops[0].name} | {op.name for op in ops if isinstance(op, ReadoutOp)}
    for op in reversed(ops):
        if op.name in needed:
            needed.update(op.inputs)
    return tuple(op for op in ops if op.name in needed)
