"""A NIR graph becomes a layer graph of the lowering."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

import numpy as np

from spikegen.errors import ExchangeError, LoweringError
from spikegen.exporters.nir.builder import Builder, Wire, integers, program_shape
from spikegen.exporters.nir.primitives import PRIMITIVES, REFUSED
from spikegen.exporters.nir.structure import NirGraph, NirNode
from spikegen.lowering.graph import InputOp, LayerGraph, ReadoutOp

INPUT = "input"  # the name of the input in every layer graph


@dataclass(frozen=True, eq=False)
class Walked:
    """What a NIR graph says.

    Attributes:
        graph: the layer graph; its decays are rounded to 4096ths.
        decays: neuron operation -> (current, membrane), the fractions lost per timestep, not rounded.
        warnings: what the user should know.
    """

    graph: LayerGraph
    decays: Mapping[str, tuple[float, float]]
    warnings: tuple[str, ...]


def walk(nir: NirGraph, timesteps: int, dt: float, *, at_threshold: bool = False, spikes: bool = False) -> Walked:
    """The layer graph of ``nir``.

    Args:
        nir: a graph; several edges into one node add up.
        timesteps: T.
        dt: seconds per timestep.
        at_threshold: neurons fire when they reach their threshold (SpikingJelly), not only above it (NIR).
        spikes: the input is spikes.

    Raises:
        ExchangeError: every node that cannot be expressed, by name.
    """
    problems = _unknown(nir)
    order = _order(nir)
    into: dict[str, list[str]] = {name: [] for name in nir.nodes}
    for source, target in nir.edges:
        into[target].append(source)
    builder, readers = Builder(timesteps, dt, at_threshold, spikes), Counter(source for source, _ in nir.edges)
    wires: dict[str, Wire] = {}
    for name in order:
        node = nir.nodes[name]
        try:
            if node.type == "Input":
                shape = _declared(node)
                wires[name] = Wire(builder.add(InputOp(INPUT, (), program_shape(shape))), shape)
            elif all(source in wires for source in into[name]) and node.type in {"Pass", *PRIMITIVES}:
                if not into[name]:
                    raise ExchangeError(f"{name} ({node.type}): nothing leads into it")
                given = builder.sum([wires[source] for source in into[name]], name)
                made = _lowered(builder, node, given)
                shared = readers[name] > 1 or (made.op is given.op and given.shared)
                wires[name] = dataclasses.replace(made, shared=shared)
        except (ExchangeError, LoweringError, KeyError) as error:
            if not isinstance(error, KeyError):  # a missing parameter is in `problems`
                problems.append(str(error))
    if problems:
        supported = ", ".join(PRIMITIVES)
        raise ExchangeError("what cannot be imported:\n  - " + "\n  - ".join(problems) + f"\nsupported: {supported}")
    for name in _unheard(nir, into):
        builder.warn("no way leads from there to an Output; left out", name)
    return Walked(LayerGraph(timesteps, 1, tuple(builder.ops.values())), builder.decays, builder.warnings)


def _declared(node: NirNode) -> tuple[int, ...]:
    """The shape that an end of the graph declares."""
    return integers(node, "shape", max(1, np.size(node.fields["shape"])))


def _lowered(builder: Builder, node: NirNode, wire: Wire) -> Wire:
    if node.type == "Pass":
        return wire
    if node.type == "Output":
        declared = _declared(node)
        if declared != wire.shape:
            raise ExchangeError(f"{node.name} (Output): shape is {declared}, its input has shape {wire.shape}")
        readout = ReadoutOp(builder.name(node.name), (wire.op.name,), wire.op.shape, np.ones(builder.timesteps))
        return Wire(builder.add(readout), wire.shape)
    handler = PRIMITIVES[node.type].handler
    if handler is None:
        raise ExchangeError(f"{node.name} ({node.type}): it cannot stand here")
    return handler(builder, node, wire)


def _unknown(nir: NirGraph) -> list[str]:
    """Node types and parameters that the table does not have, ends that are missing, edges that are there twice."""
    problems = []
    for node in nir.nodes.values():
        if node.type == "Pass":
            continue
        if node.type not in PRIMITIVES:
            hint = f": {REFUSED[node.type]}" if node.type in REFUSED else ": unknown primitive"
            problems.append(f"{node.name} ({node.type}){hint}")
            continue
        row = PRIMITIVES[node.type]
        missing = [key for key in row.required if key not in node.fields]
        unknown = sorted(set(node.fields) - {*row.required, *row.optional})
        problems += [f"{node.name} ({node.type}): it has no {key}" for key in missing]
        problems += [f"{node.name} ({node.type}): {key} is no parameter of {node.type}" for key in unknown]
    for kind, most in (("Input", 1), ("Output", len(nir.nodes))):
        found = sum(node.type == kind for node in nir.nodes.values())
        if not 1 <= found <= most:
            problems.append(f"the graph has {found} nodes {kind}, it needs one")
    leads = {target for _, target in nir.edges}
    problems += [
        f"{name} (Input): something leads into it"
        for name in nir.nodes
        if nir.nodes[name].type == "Input" and name in leads
    ]
    repeated = sorted(edge for edge, times in Counter(nir.edges).items() if times > 1)
    return problems + [f"{source} -> {target}: the edge is there twice" for source, target in repeated]


def _unheard(nir: NirGraph, into: Mapping[str, list[str]]) -> list[str]:
    """Nodes from which no way leads to an Output."""
    heard = {name for name, node in nir.nodes.items() if node.type == "Output"}
    waiting = list(heard)
    while waiting:
        new = set(into[waiting.pop()]) - heard
        heard |= new
        waiting += new
    return sorted(nir.nodes.keys() - heard)


def _order(nir: NirGraph) -> list[str]:
    """The nodes in topological order.

    Raises:
        ExchangeError: a cycle; a Program has none, whether a Delay is in it or not.
    """
    sorter: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(nir.nodes, ()))
    for source, target in nir.edges:
        sorter.add(target, source)
    try:
        return list(sorter.static_order())
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise ExchangeError(
            f"{circle}: a cycle; recurrent connections are not supported, even with a Delay in them; train without them"
        ) from error
