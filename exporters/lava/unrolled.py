"""The unrolled network: one stock Lava process for every population and projection, plus AxonDelays, Gains and Delays.

A Feed, a Collect for every readout and Taps connect it to the host: they are no part of what runs on a chip.

Every synapse process adds one timestep and no neuron does, so a node of level ``d`` handles frame step ``k`` at Lava
time ``k + d`` (``schedule.py``). A Lif that nothing leads into is a LIFReset whose ``a_in`` is left unconnected, which
Lava reads as zeros. Populations have Lava's shape (W, H, C).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lava.proc.conv.process import Conv as LavaConv
from lava.proc.dense.process import Dense as LavaDense
from lava.proc.graded.process import GradedVec
from lava.proc.lif.process import LIFReset
from lava.proc.sparse.process import Sparse
from lava.utils.weightutils import SignMode

from spikegen.exporters.lava.processes.process import AxonDelay, Collect, Delay, Feed, Gain, Tap
from spikegen.exporters.lava.synapses import conv_weight, dense_weight, sparse_weight
from spikegen.exporters.lava.tapping import tap_plans
from spikegen.program import Conv, Dense, Input, Lif, Node, Program, Projection, Readout

if TYPE_CHECKING:
    from spikegen.exporters.lava.processes.process import Network


def build(network: Network) -> dict[str, Any]:
    """Create and connect the sub-processes of ``network``.

    Returns:
        attribute name -> Process, for the sub-process model; the readable name of each is its ``name``.
    """
    return _Builder(network).build()


class _Builder:
    def __init__(self, network: Network) -> None:
        self.network = network
        self.program: Program = network.program
        self.processes: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}  # node -> OutPort with its messages
        self.inputs: dict[str, Any] = {}  # population -> InPort that sums its currents
        self.gained: dict[tuple[str, bytes], Any] = {}  # (node, its gains) -> OutPort of the Gain
        self.delayed: dict[tuple[str, bytes, int], Any] = {}  # (node, its gains, steps) -> OutPort of the Delay

    def build(self) -> dict[str, Any]:
        for node in self.program.nodes.values():
            self._add_node(node)
        for projection in self.program.projections:
            self._add_projection(projection)
        for index, plan in enumerate(tap_plans(self.program, self.network.schedule)):
            tap = self._add(Tap(plan=plan, name=f"tap {index}", **self._host()))
            for port, point in enumerate(plan):
                self.outputs[point.node].connect(getattr(tap, f"a_in_{port}"))
        return self.processes

    def _add(self, process: Any) -> Any:
        self.processes[f"process_{len(self.processes):05d}"] = process
        return process

    def _host(self) -> dict[str, Any]:
        return {"exchange": self.network.exchange, "schedule": self.network.schedule}

    def _add_node(self, node: Node) -> None:
        shape = node.shape[::-1]
        schedule = self.network.schedule
        name = f"{type(node).__name__.lower()} {node.name}"
        process: Any
        if isinstance(node, Input):
            process = self._add(Feed(name=name, **self._host()))
        elif isinstance(node, Readout):
            process = self._add(Collect(readout=node.name, name=name, **self._host()))
        elif isinstance(node, Lif):
            process = self._add(
                LIFReset(
                    shape=shape,
                    vth=node.vth,
                    du=node.du,
                    dv=node.dv,
                    bias_exp=node.bias_exp,
                    reset_interval=schedule.timesteps,
                    reset_offset=schedule.reset_offset(self.program.levels[node.name]),
                    name=name,
                )
            )
            # What the process model needs beyond those of Lava, see stock.HostBiasLif.
            process.proc_params["biases"] = self.network.exchange.biases[node.name]
            process.proc_params["period"] = schedule.period
        else:
            process = self._add(GradedVec(shape=shape, vth=0))
            process.name = name  # GradedVec takes none
        if not isinstance(node, Input):
            self.inputs[node.name] = process.a_in
        if isinstance(node, Lif) and node.delays.size:
            self.outputs[node.name] = self._late(node, process.s_out)
        elif not isinstance(node, Readout):
            self.outputs[node.name] = process.s_out

    def _late(self, population: Lif, spikes: Any) -> Any:
        """OutPort with the messages of neurons that have axonal delays."""
        delay = self._add(
            AxonDelay(
                shape=spikes.shape,
                delays=population.delays.transpose(),
                timesteps=self.program.timesteps,
                offset=self.network.schedule.reset_offset(self.program.levels[population.name]),
                name=f"axons {population.name}",
            )
        )
        spikes.connect(delay.s_in)
        return delay.s_out

    def _payloads(self, projection: Projection) -> Any:
        """The OutPort that carries the messages of the projection's source, times the projection's gains."""
        source = self.outputs[projection.source]
        if not projection.gains.size:
            return source
        key = (projection.source, projection.gains.tobytes())
        if key not in self.gained:
            gain = self._add(
                Gain(
                    shape=source.shape,
                    gains=projection.gains,
                    offset=self.network.schedule.reset_offset(self.program.levels[projection.source]),
                    name=f"gain {projection.source} for {projection.name}",
                )
            )
            source.connect(gain.s_in)
            self.gained[key] = gain.s_out
        return self.gained[key]

    def _messages(self, projection: Projection) -> Any:
        """The same, delayed as the projection wants: before the delay, the gain depends on the source's level only."""
        payloads = self._payloads(projection)
        if projection.delay == 0:
            return payloads
        key = (projection.source, projection.gains.tobytes(), projection.delay)
        if key not in self.delayed:
            name = f"delay {projection.source} by {projection.delay} for {projection.name}"
            delay = self._add(Delay(shape=payloads.shape, steps=projection.delay, name=name))
            payloads.connect(delay.s_in)
            self.delayed[key] = delay.s_out
        return self.delayed[key]

    def _add_projection(self, projection: Projection) -> None:
        messages = self._messages(projection)
        source, target = self.program.nodes[projection.source], self.program.nodes[projection.target]
        bits = self.program.payload_bits(projection)
        if isinstance(projection, Conv) and self.network.synapses != "sparse":
            synapse = self._add(
                LavaConv(
                    weight=conv_weight(projection),
                    input_shape=source.shape[::-1],
                    padding=projection.padding[::-1],
                    stride=projection.stride[::-1],
                    dilation=projection.dilation[::-1],
                    groups=projection.groups,
                    num_message_bits=bits,
                    name=f"conv {projection.name}",
                )
            )
            messages.connect(synapse.s_in)
            shuffled(synapse.a_out, projection.shuffle).connect(self.inputs[target.name])
            return
        weights: Any
        common: dict[str, Any] = {"weight_exp": projection.exponent - 1, "sign_mode": SignMode.MIXED}
        if isinstance(projection, Dense) and self.network.synapses != "sparse":
            weights = dense_weight(projection, source.shape, target.shape)
            synapse = LavaDense(weights=weights, num_message_bits=bits, name=f"dense {projection.name}", **common)
        else:
            # With declared message bits Lava multiplies by the matrix, without it slices the columns of the events: the
            # same integers for 0 and 1, much slower.
            weights = sparse_weight(projection, source, target)
            name = f"sparse {projection.name}"
            synapse = Sparse(weights=weights, num_message_bits=max(1, bits), name=name, **common)
        self._add(synapse)
        messages.flatten().connect(synapse.s_in)
        synapse.a_out.reshape(target.shape[::-1]).connect(self.inputs[target.name])


def shuffled(port: Any, r: int) -> Any:
    """``port`` (W, H, C r r) as (r W, r H, C) in the order of torch.pixel_shuffle: virtual ports, no time."""
    if r == 1:
        return port
    width, height, channels = port.shape
    parts = port.reshape((width, height, channels // (r * r), r, r))  # ..., channel, vertical, horizontal
    return parts.transpose((0, 4, 1, 3, 2)).reshape((width * r, height * r, channels // (r * r)))
