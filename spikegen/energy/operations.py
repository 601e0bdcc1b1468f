"""From counted events to operations per projection and population: the bill before its prices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from spikegen.errors import ConfigError
from spikegen.program import Conv, Counts, Input, Lif, Program, Projection, Readout, Relay
from spikegen.program.ir import Node, neurons

OPERATIONS: Mapping[str, str] = MappingProxyType(
    {
        "spikes": "nonzero messages of Lif neurons",
        "injected_spikes": "nonzero messages of a binary input port: spikes that the host writes",
        "relay_messages": "nonzero messages of Relay neurons",
        "binary_synops": "synaptic operations of binary spikes, zero weights included",
        "binary_synops_effective": "the same through nonzero weights only",
        "graded_synops": "synaptic operations of a relay's messages or of spikes with gains, zero weights included",
        "graded_synops_effective": "the same through nonzero weights only",
        "analog_macs": "synaptic operations of a graded input, repeated at each timestep, zero weights included",
        "analog_macs_effective": "the same through nonzero weights only",
        "conv_synops": "synaptic operations of convolutions, whatever the messages, zero weights included",
        "dense_synops": "synaptic operations of dense projections, whatever the messages, zero weights included",
        "neuron_updates": "Lif and Relay neurons x timesteps",
        "bias_adds": "Lif neurons whose bias is not zero at that diffusion step x timesteps",
        "delayed_messages": "messages held back for one timestep by a projection's delay (events x delay)",
        "readout_adds": "weighted additions of readout currents on the host (outputs x timesteps)",
        "host_macs": "multiply-accumulates of a readout's tail on the host, taps on padding included (priced nowhere)",
    }
)
_SYNOPS = {"binary": "binary_synops", "graded": "graded_synops", "analog": "analog_macs"}
_FORMS = {"conv": "conv_synops", "dense": "dense_synops"}


@dataclass(frozen=True)
class ProjectionOperations:
    """Operations of one projection.

    Attributes:
        name: of the projection.
        source: name of the node it reads.
        target: name of the population it leads to.
        kind: ``analog`` behind a graded input port, ``graded`` behind a Relay and where the projection has gains,
            which make the payload of a spike graded, else ``binary``.
        form: ``conv`` or ``dense``.
        events: nonzero messages of the source.
        stored: synaptic operations, zero weights included.
        effective: synaptic operations through nonzero weights.
        delayed: events x delay.
    """

    name: str
    source: str
    target: str
    kind: str
    form: str
    events: int
    stored: int
    effective: int
    delayed: int

    def __add__(self, other: ProjectionOperations) -> ProjectionOperations:
        return replace(
            self,
            events=self.events + other.events,
            stored=self.stored + other.stored,
            effective=self.effective + other.effective,
            delayed=self.delayed + other.delayed,
        )


@dataclass(frozen=True)
class NodeOperations:
    """Operations of one node.

    Attributes:
        name: of the node.
        kind: ``Input``, ``Lif``, ``Relay`` or ``Readout``.
        binary: it sends binary spikes.
        neurons: neurons, or input lines.
        events: nonzero messages; 0 for a readout, which sends none.
        updates: neuron updates.
        bias_adds: additions of a nonzero bias.
        readout_adds: weighted additions on the host.
        host_macs: multiply-accumulates of the two convolutions of a readout's tail on the host.
    """

    name: str
    kind: str
    binary: bool
    neurons: int
    events: int
    updates: int
    bias_adds: int
    readout_adds: int
    host_macs: int

    def __add__(self, other: NodeOperations) -> NodeOperations:
        return replace(
            self,
            events=self.events + other.events,
            updates=self.updates + other.updates,
            bias_adds=self.bias_adds + other.bias_adds,
            readout_adds=self.readout_adds + other.readout_adds,
            host_macs=self.host_macs + other.host_macs,
        )


@dataclass(frozen=True)
class Operations:
    """Operations of a number of network evaluations.

    Attributes:
        evaluations: images x diffusion steps.
        nodes: per node, in topological order.
        projections: per projection, in the order of the Program.
    """

    evaluations: int
    nodes: tuple[NodeOperations, ...]
    projections: tuple[ProjectionOperations, ...]

    def __add__(self, other: Operations) -> Operations:
        return Operations(
            self.evaluations + other.evaluations,
            tuple(a + b for a, b in zip(self.nodes, other.nodes, strict=True)),
            tuple(a + b for a, b in zip(self.projections, other.projections, strict=True)),
        )

    def totals(self) -> dict[str, int]:
        """Number of each of :data:`OPERATIONS`."""
        totals = dict.fromkeys(OPERATIONS, 0)
        for projection in self.projections:
            totals[_SYNOPS[projection.kind]] += projection.stored
            totals[_SYNOPS[projection.kind] + "_effective"] += projection.effective
            totals[_FORMS[projection.form]] += projection.stored
            totals["delayed_messages"] += projection.delayed
        for node in self.nodes:
            totals["neuron_updates"] += node.updates
            totals["bias_adds"] += node.bias_adds
            totals["readout_adds"] += node.readout_adds
            totals["host_macs"] += node.host_macs
            if node.kind == "Lif":
                totals["spikes"] += node.events
            elif node.kind == "Input" and node.binary:
                totals["injected_spikes"] += node.events
            elif node.kind == "Relay":
                totals["relay_messages"] += node.events
        return totals


def count_operations(program: Program, step: int, counts: Counts) -> Operations:
    """Operations of the evaluations counted in ``counts``, all of them at one diffusion step.

    Args:
        program: the Program that was counted.
        step: diffusion step; with conditioning tables it is their row, 0 .. K - 1, and decides which biases are zero.
        counts: what a target counted there.

    Raises:
        ConfigError: the counts are not those of this Program.
    """
    _check(program, step, counts)
    runs = counts.images * program.timesteps
    return Operations(
        counts.images,
        tuple(_node(program, node, step, runs, counts) for node in program.nodes.values()),
        tuple(_projection(program, projection, counts) for projection in program.projections),
    )


def _check(program: Program, step: int, counts: Counts) -> None:
    if step < 0 or (program.conditioning.steps > 1 and step >= program.conditioning.steps):
        raise ConfigError(
            f"counts are of diffusion step {step}, {program.name} has 0..{program.conditioning.steps - 1}"
        )
    if counts.images < 1:
        raise ConfigError(f"counts of diffusion step {step} are of {counts.images} evaluations, it must be at least 1")
    senders = {name for name, node in program.nodes.items() if not isinstance(node, Readout)}
    names = {projection.name for projection in program.projections}
    for what, expected, given in (
        ("events", senders, set(counts.events)),
        ("stored operations", names, set(counts.stored)),
        ("effective operations", names, set(counts.effective)),
    ):
        if given != expected:
            differing = ", ".join(sorted(given ^ expected)[:5])
            raise ConfigError(
                f"the {what} counted are not those of {program.name}: only one of the two has {differing}"
            )


def _node(program: Program, node: Node, step: int, runs: int, counts: Counts) -> NodeOperations:
    size = neurons(node)
    biased = 0
    if isinstance(node, Lif):
        row = step if program.conditioning.steps > 1 else 0  # a network with one row is the same at every step
        biased = int(np.count_nonzero(program.bias_mant(node, row))) * (size // node.shape[0])
    return NodeOperations(
        name=node.name,
        kind=type(node).__name__,
        binary=isinstance(node, Lif | Input) and not program.message_bits(node.name),
        neurons=size,
        events=counts.events.get(node.name, 0),
        updates=runs * size if isinstance(node, Lif | Relay) else 0,
        bias_adds=runs * biased,
        readout_adds=runs * math.prod(node.output_shape) if isinstance(node, Readout) else 0,
        host_macs=runs * _tail_macs(node) if isinstance(node, Readout) else 0,
    )


def _tail_macs(readout: Readout) -> int:
    """Multiply-accumulates of the host's tail at one timestep: H W (O C kh kw + O O kh' kw'); 0 without a tail."""
    if readout.tail is None:
        return 0
    return math.prod(readout.shape[1:]) * (readout.tail.weight.size + readout.tail.mix_weight.size)


def _projection(program: Program, projection: Projection, counts: Counts) -> ProjectionOperations:
    source = program.nodes[projection.source]
    if isinstance(source, Input) and source.bits:
        kind = "analog"
    else:
        kind = "graded" if program.payload_bits(projection) else "binary"
    events = counts.events[projection.source]
    return ProjectionOperations(
        name=projection.name,
        source=projection.source,
        target=projection.target,
        kind=kind,
        form="conv" if isinstance(projection, Conv) else "dense",
        events=events,
        stored=counts.stored[projection.name],
        effective=counts.effective[projection.name],
        delayed=events * projection.delay,
    )
