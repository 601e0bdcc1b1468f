"""Pass: trace a model with torch.fx into a :class:`LayerGraph`.

What depends on the diffusion step only is evaluated for every step and becomes tables.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import fx, nn

from spikegen.errors import LoweringError
from spikegen.lowering.graph import ConditionOp, FloatArray, InputOp, LayerGraph, Op, ReadoutOp, Shape
from spikegen.lowering.layers import LAYERS, Call, add_handler
from spikegen.models.readouts import TemporalReadout


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return type(module) in LAYERS or super().is_leaf_module(module, qualified_name)


def trace(model: nn.Module, shape: Shape, timesteps: int, steps: int) -> LayerGraph:
    """Trace ``model(x, t)`` or ``model(x)`` in evaluation mode.

    Args:
        model: a network whose first argument is the input and whose second, if it has one, is the diffusion step.
        shape: (C, H, W) of the input.
        timesteps: T.
        steps: K, diffusion steps 0 .. K - 1; 1 for a model without a second argument.

    Raises:
        LoweringError: names every layer that :data:`~spikegen.lowering.layers.LAYERS` does not hold.
    """
    try:
        graph = _Tracer().trace(model.eval())
    except (fx.proxy.TraceError, TypeError) as error:
        raise LoweringError(f"{type(model).__name__}: the model cannot be traced: {error}") from error
    modules = dict(model.named_modules())
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    if not 1 <= len(placeholders) <= 2:
        raise LoweringError(
            f"{type(model).__name__}: forward must take the input and, if it wants it, the diffusion step, "
            f"not {len(placeholders)} arguments"
        )
    tables = _Tables(model, graph, _independent_of(graph, placeholders[0]), timesteps, steps)
    image = InputOp("input", (), shape)
    values: dict[fx.Node, Op] = {placeholders[0]: image}
    ops: dict[str, Op] = {image.name: image}
    problems: list[str] = []
    for node in graph.nodes:
        if node in tables.nodes or node.op == "placeholder":
            continue
        try:
            if node.op != "output":
                _check_known(node, modules)
            if any(source not in values and source not in tables.nodes for source in node.all_input_nodes):
                continue  # an input came from a layer that is already in `problems`
            if node.op == "output":
                _check_output(node, values)
                continue
            op = _lower_call(node, modules, values, tables)
            if ops.setdefault(op.name, op) is not op:
                raise LoweringError(f"{op.name}: it is used twice, or a layer has the name of a function; make it two")
        except LoweringError as error:
            problems.append(str(error))
            continue
        values[node] = op
    if problems:
        supported = ", ".join(sorted({layer.__name__ for layer in LAYERS}))
        raise LoweringError("what cannot be lowered:\n  - " + "\n  - ".join(problems) + f"\nsupported: {supported}")
    return LayerGraph(timesteps, steps, tuple(ops.values()))


def _check_output(node: fx.Node, values: dict[fx.Node, Op]) -> None:
    result = node.args[0]
    readouts = ", ".join(
        layer.__name__ for layer in LAYERS if isinstance(layer, type) and issubclass(layer, TemporalReadout)
    )
    if not isinstance(result, fx.Node) or not isinstance(values.get(result), ReadoutOp):
        raise LoweringError(f"output ({result}): a model must return the value of one readout ({readouts})")


def _identify(node: fx.Node, modules: dict[str, nn.Module]) -> tuple[str, Any, nn.Module | None]:
    """Name, key of :data:`LAYERS` and module (None for a function) of a call."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        return str(node.target), type(module), module
    return node.name, node.target, None


def _check_known(node: fx.Node, modules: dict[str, nn.Module]) -> None:
    name, kind, _ = _identify(node, modules)
    if kind not in LAYERS or node.op == "call_method":
        raise LoweringError(f"{name} ({getattr(kind, '__name__', kind)}): unknown layer")


def _lower_call(node: fx.Node, modules: dict[str, nn.Module], values: dict[fx.Node, Op], tables: _Tables) -> Op:
    name, kind, module = _identify(node, modules)
    title = kind.__name__
    own = getattr(module, "timesteps", tables.timesteps)
    if own != tables.timesteps:
        raise LoweringError(f"{name} ({title}): it has {own} timesteps, the model {tables.timesteps}")
    operands, arguments = _arguments(node)
    unknown = [
        f"{argument}={value!r}" for argument, value in arguments.items() if argument not in LAYERS[kind].arguments
    ]
    if unknown or not operands:
        raise LoweringError(
            f"{name} ({title}): arguments {', '.join(unknown)} are not supported; pass tensors by position"
        )
    positional = [operand for operand in operands if not isinstance(operand, fx.Node)]
    if module is not None and positional:
        raise LoweringError(f"{name} ({title}): arguments {positional} are not supported; pass the input only")
    constant = [operand for operand in operands if isinstance(operand, fx.Node) and operand in tables.nodes]
    if constant:
        data = [operand for operand in operands if operand not in tables.nodes]
        if len(operands) != 2 or not data or LAYERS[kind].handler is not add_handler:
            raise LoweringError(f"{name} ({title}): of the diffusion step; only + is supported")
        source = values[data[0]]
        op: Op = ConditionOp(name, (source.name,), source.shape, tables.table(constant[0], source.shape[0]))
    else:
        inputs = [values[operand] for operand in operands if isinstance(operand, fx.Node)]
        op = LAYERS[kind].handler(module, inputs, Call(name, arguments))
        if any(isinstance(source, ReadoutOp) for source in inputs):
            raise LoweringError(f"{name} ({title}): it reads a readout, which must be the end of the model")
    held = {**vars(op), **(vars(op.tail) if isinstance(op, ReadoutOp) and op.tail else {})}
    broken = [field for field, value in held.items() if isinstance(value, np.ndarray) and not np.isfinite(value).all()]
    if broken:
        raise LoweringError(f"{name} ({title}): its {', '.join(broken)} has NaN or infinite values")
    return op


def _arguments(node: fx.Node) -> tuple[list[Any], dict[str, Any]]:
    """What a call reads, and its keyword arguments; ``dim`` of a concatenation may be positional."""
    arguments = dict(node.kwargs)
    if node.args and isinstance(node.args[0], list | tuple):
        if len(node.args) > 1:
            arguments["dim"] = node.args[1]
        return list(node.args[0]), arguments
    return list(node.args), arguments


def _independent_of(graph: fx.Graph, image: fx.Node) -> set[fx.Node]:
    """Nodes whose value does not depend on ``image``: the diffusion step and what is computed from it."""
    dependent = {image}
    for node in graph.nodes:
        if any(source in dependent for source in node.all_input_nodes):
            dependent.add(node)
    return {node for node in graph.nodes if node not in dependent and node.op != "output"}


class _Tables:
    """Evaluates the part of the graph that depends on the diffusion step only, for all steps at once."""

    def __init__(self, model: nn.Module, graph: fx.Graph, nodes: set[fx.Node], timesteps: int, steps: int) -> None:
        self.nodes = nodes
        self.timesteps, self.steps = timesteps, steps
        self._values: dict[fx.Node, Any] = {}
        if not nodes:
            return
        interpreter = fx.Interpreter(fx.GraphModule(model, graph))
        with torch.no_grad():
            for node in graph.nodes:
                if node in nodes:
                    interpreter.env = self._values
                    try:
                        step = node.op == "placeholder"
                        self._values[node] = torch.arange(steps) if step else interpreter.run_node(node)
                    except (RuntimeError, IndexError, TypeError, ValueError) as error:
                        raise LoweringError(
                            f"{node.name}: it cannot be evaluated for diffusion steps 0..{steps - 1}: {error}"
                        ) from error

    def table(self, node: fx.Node, channels: int) -> FloatArray:
        """The value of ``node`` as float64 [K, channels]; it must be the same at every timestep and pixel."""
        value = self._values[node]
        expected = (self.timesteps * self.steps, channels, 1, 1)
        shape = tuple(getattr(value, "shape", ()))
        if shape != expected:
            raise LoweringError(
                f"{node.name}: conditioning has shape {shape}, expected {expected} (one bias per channel)"
            )
        per_step = value.double().numpy().reshape(self.timesteps, self.steps, channels)
        if not np.array_equal(per_step, np.broadcast_to(per_step[:1], per_step.shape)):
            raise LoweringError(f"{node.name}: conditioning differs between timesteps")
        return np.array(per_step[0])
