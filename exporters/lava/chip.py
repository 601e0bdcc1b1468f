"""The network of a chip: stock Lava processes, each of which has a model for neuro-cores, and adapters to the host.

Every process between the adapters is one that public code runs with ``Loihi2HwCfg``: Conv, Dense, DelayDense, Sparse,
DelaySparse, LIF and LIFReset through lava-dl's netx, GradedVec through ``lava.networks.gradedvecnetwork``. What the
unrolled network has beside those is replaced: a Delay by delay synapses or by relays, a Gain by its constant in the
weights, the biases in shared memory by the Var ``bias_mant``, a Readout by a GradedVec whose messages are its currents.

Weights are those that the chip stores: 8 bits, even, and the exponent in ``weight_exp``. Times are those of the
unrolled network (``schedule.py``): neurons and adapters take no step, synapses one and their delay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from lava.proc.conv.process import Conv as LavaConv
from lava.proc.dense.process import DelayDense
from lava.proc.dense.process import Dense as LavaDense
from lava.proc.graded.process import GradedVec
from lava.proc.lif.process import LIF, LIFReset
from lava.proc.sparse.process import DelaySparse, Sparse
from lava.utils.weightutils import SignMode
from scipy.sparse import csr_matrix, identity

from spikegen.exporters.lava.chip_rules import CONV_INPUT_BITS, GRADED_BITS, for_chip, is_conv, relay_delays
from spikegen.exporters.lava.processes.adapters import InputAdapter, OutputAdapter
from spikegen.exporters.lava.processes.process import Collect, Feed, Tap
from spikegen.exporters.lava.synapses import conv_mantissa, dense_weight, sparse_weight
from spikegen.exporters.lava.tapping import tap_plans
from spikegen.exporters.lava.unrolled import shuffled
from spikegen.program import Conv, Dense, Input, Lif, Node, Program, Projection, Readout

if TYPE_CHECKING:
    from spikegen.exporters.lava.processes.process import Network

RELAY = {"du": 4095, "dv": 0, "vth": 1}  # with a weight of 2 a LIF sends at every message, and at no other time


def build(network: Network) -> dict[str, Any]:
    """Create and connect the sub-processes of ``network``; also sets its ``parts`` and ``lifs``.

    Returns:
        attribute name -> Process, for the sub-process model; the readable name of each is its ``name``.
    """
    return _Builder(network).build()


class _Builder:
    def __init__(self, network: Network) -> None:
        self.network = network
        self.program: Program = network.program
        self.delays = relay_delays(self.program, network.synapses)
        self.feed: Any = None  # OutPort of the host's messages
        self.entries: dict[bool, Any] = {}  # whether convolutions hear it -> OutPort of an adapter
        self.outputs: dict[str, Any] = {}  # population -> OutPort with its messages
        self.inputs: dict[str, Any] = {}  # population -> InPort that sums its currents
        self.relays: dict[tuple[str, int], Any] = {}  # (node, delay) -> OutPort of a relay

    def build(self) -> dict[str, Any]:
        for node in self.program.nodes.values():
            self._add_node(node)
        for projection in self.program.projections:
            self._add_projection(for_chip(projection))
        if self.network.observed:
            self._add_taps()
        return self.network.parts

    def _add(self, process: Any, name: str = "") -> Any:
        if name:  # a process whose constructor takes none
            process.name = name
        self.network.parts[f"process_{len(self.network.parts):05d}"] = process
        return process

    def _host(self) -> dict[str, Any]:
        return {"exchange": self.network.exchange, "schedule": self.network.schedule}

    def _add_node(self, node: Node) -> None:
        shape = node.shape[::-1]
        name = f"{type(node).__name__.lower()} {node.name}"
        if isinstance(node, Input):
            self.feed = self._add(Feed(name=name, **self._host())).s_out
        elif isinstance(node, Lif):
            lif = self._add(self._lif(node, name))
            self.network.lifs[node.name] = lif
            self.inputs[node.name], self.outputs[node.name] = lif.a_in, lif.s_out
        else:
            relay = self._add(GradedVec(shape=shape, vth=0), name)
            self.inputs[node.name], self.outputs[node.name] = relay.a_in, relay.s_out
            if isinstance(node, Readout):
                collect = self._add(Collect(readout=node.name, name=f"collect {node.name}", **self._host()))
                self._seen(node.name, GRADED_BITS).connect(collect.a_in)

    def _lif(self, node: Lif, name: str) -> Any:
        schedule, shape = self.network.schedule, node.shape[::-1]
        return LIFReset(
            shape=shape,
            vth=node.vth,
            du=node.du,
            dv=node.dv,
            bias_mant=np.broadcast_to(self.program.bias_mant(node, 0), shape).astype(np.int32),
            bias_exp=node.bias_exp,
            reset_interval=schedule.timesteps,
            reset_offset=schedule.reset_offset(self.program.levels[node.name]),
            name=name,
        )

    def _seen(self, node: str, bits: int) -> Any:
        """OutPort, on the host, of the messages of population ``node``."""
        port, steps = self.outputs[node], self.network.schedule.lag
        adapter = self._add(OutputAdapter(shape=port.shape, bits=bits, steps=steps, name=f"adapter from {node}"))
        port.connect(adapter.inp)
        return adapter.out

    def _add_taps(self) -> None:
        for index, plan in enumerate(tap_plans(self.program, self.network.schedule)):
            tap = self._add(Tap(plan=plan, name=f"tap {index}", **self._host()))
            for port, point in enumerate(plan):
                if point.node == self.program.input.name:
                    source = self.feed
                else:
                    source = self._seen(point.node, GRADED_BITS if self.program.message_bits(point.node) else 0)
                source.connect(getattr(tap, f"a_in_{port}"))

    def _entry(self, to_conv: bool) -> Any:
        """OutPort, on the chip, of the messages of the input."""
        if to_conv not in self.entries:
            port = self.program.input
            bits = CONV_INPUT_BITS if to_conv else GRADED_BITS if port.bits else 0
            name = f"adapter to {'convolutions' if to_conv else 'neurons'}"
            steps = self.network.schedule.lead
            adapter = InputAdapter(shape=port.shape[::-1], bits=bits, to_conv=to_conv, steps=steps, name=name)
            self.feed.connect(self._add(adapter).inp)
            self.entries[to_conv] = adapter.out
        return self.entries[to_conv]

    def _messages(self, source: str, delay: int, to_conv: bool) -> tuple[Any, int]:
        """OutPort with the messages of ``source``, ``delay`` steps late, and their declared width."""
        bits = GRADED_BITS if self.program.message_bits(source) else 0
        if to_conv and delay:
            return self._relay(source, delay), bits
        if source != self.program.input.name:
            return self.outputs[source], bits
        return self._entry(to_conv), CONV_INPUT_BITS if to_conv else bits

    def _relay(self, source: str, delay: int) -> Any:
        """OutPort of the relay that sends the messages of ``source`` ``delay`` steps late."""
        if (source, delay) not in self.relays:
            shorter = max((steps for steps in self.delays[source] if steps < delay), default=0)
            name = f"{source} by {delay}"
            graded = self.program.message_bits(source) > 0
            port, bits = (
                (self._relay(source, shorter), GRADED_BITS if graded else 0)
                if shorter
                else self._messages(source, 0, to_conv=False)
            )
            one = identity(int(np.prod(port.shape)), dtype=np.int32, format="csr")
            weights = one if graded else 2 * one
            synapse = self._sparse(weights, delay - shorter - 1, bits, f"line {name}", SignMode.EXCITATORY)
            port.flatten().connect(synapse.s_in)
            if graded:
                relay = self._add(GradedVec(shape=port.shape, vth=0), f"delay {name}")
            else:
                relay = self._add(LIF(shape=port.shape, name=f"delay {name}", **RELAY))
            synapse.a_out.reshape(port.shape).connect(relay.a_in)
            self.relays[source, delay] = relay.s_out
        return self.relays[source, delay]

    def _sparse(self, weights: Any, delay: int, bits: int, name: str, sign: Any, exponent: int = 0) -> Any:
        common = {"weights": weights, "num_message_bits": bits, "name": name, "sign_mode": sign, "weight_exp": exponent}
        if not delay or not weights.nnz:
            return self._add(Sparse(**common))
        delays = csr_matrix((np.full(weights.nnz, delay), weights.indices, weights.indptr), shape=weights.shape)
        return self._add(DelaySparse(delays=delays, max_delay=delay, **common))

    def _add_projection(self, projection: Projection) -> None:
        source, target = self.program.nodes[projection.source], self.program.nodes[projection.target]
        if is_conv(projection, self.network.synapses):
            messages, bits = self._messages(source.name, projection.delay, to_conv=True)
            synapse = self._add(_conv(projection, source, bits))
            messages.connect(synapse.s_in)
            shuffled(synapse.a_out, projection.shuffle).connect(self.inputs[target.name])
            return
        messages, bits = self._messages(source.name, projection.delay, to_conv=False)
        if isinstance(projection, Dense) and self.network.synapses == "conv":
            synapse = self._add(_dense(projection, source, target, bits))
        else:
            matrix, name = sparse_weight(projection, source, target), f"sparse {projection.name}"
            synapse = self._sparse(matrix, projection.delay, bits, name, SignMode.MIXED, projection.exponent - 1)
        messages.flatten().connect(synapse.s_in)
        synapse.a_out.reshape(target.shape[::-1]).connect(self.inputs[target.name])


def _conv(projection: Conv, source: Node, bits: int) -> Any:
    return LavaConv(
        weight=conv_mantissa(projection),
        weight_exp=projection.exponent - 1,
        input_shape=source.shape[::-1],
        padding=projection.padding[::-1],
        stride=projection.stride[::-1],
        dilation=projection.dilation[::-1],
        groups=projection.groups,
        num_message_bits=bits,
        name=f"conv {projection.name}",
    )


def _dense(projection: Dense, source: Node, target: Node, bits: int) -> Any:
    weights = dense_weight(projection, source.shape, target.shape)
    common: dict[str, Any] = {
        "weights": weights,
        "weight_exp": projection.exponent - 1,
        "sign_mode": SignMode.MIXED,
        "num_message_bits": bits,
        "name": f"dense {projection.name}",
    }
    if not projection.delay:
        return LavaDense(**common)
    return DelayDense(delays=np.full(weights.shape, projection.delay), max_delay=projection.delay, **common)
