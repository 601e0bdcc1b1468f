"""What the mapping looks at: layers of neurons and links between them, with sizes only."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

from spikegen.errors import ProgramError
from spikegen.hardware.loihi2.memory import weight_bits
from spikegen.program import Conv, Dense, Lif, Program, Projection, Readout, Relay
from spikegen.program.ir import Shape


class Role(Enum):
    """Why a layer is there."""

    POPULATION = "population"
    DELAY = "delay"
    PARTIAL = "partial sum"


class Form(Enum):
    """How the synapses of a link are stored."""

    CONV = "shared kernel"
    DENSE = "dense"
    LINE = "one to one, delayed"


@dataclass(frozen=True)
class Layer:
    """Neurons that are placed together.

    Attributes:
        name: unique name.
        shape: (C, H, W).
        role: why it is there.
        population: the population (or input) that it belongs to.
        readout: its currents go to the host.
    """

    name: str
    shape: Shape
    role: Role
    population: str
    readout: bool = False

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Link:
    """Synapses between two layers.

    Attributes:
        source, target: names of layers; the source may be the input port.
        form: how they are stored.
        bits: of a weight.
        inputs: for a kernel the input channels that one output channel hears, for a dense link its source neurons.
        outputs: output channels of a kernel in one group, before its shuffle; for a dense link its target neurons.
        kernel, stride, padding, dilation, groups, shuffle, delay: as in :class:`~spikegen.program.Conv`.
        gains: what tells apart messages of one source with different gains.
        projection: the projection whose synapses these are, or a part of them; "" for links that the mapping adds.
    """

    source: str
    target: str
    form: Form
    bits: int
    inputs: int
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    shuffle: int = 1
    delay: int = 0
    gains: bytes = b""
    projection: str = ""


@dataclass(frozen=True)
class Network:
    """Layers in topological order, and their links.

    Attributes:
        input: the input port, which takes no core.
        layers: everything that does.
        links: all links.
    """

    input: Layer
    layers: tuple[Layer, ...]
    links: tuple[Link, ...]

    @cached_property
    def _into(self) -> Mapping[str, tuple[Link, ...]]:
        return _grouped(self.links, "target")

    @cached_property
    def _out_of(self) -> Mapping[str, tuple[Link, ...]]:
        return _grouped(self.links, "source")

    @cached_property
    def by_name(self) -> Mapping[str, Layer]:
        """The input and every layer by name."""
        return {layer.name: layer for layer in (self.input, *self.layers)}

    def into(self, name: str) -> tuple[Link, ...]:
        """The links into layer ``name``."""
        return self._into.get(name, ())

    def out_of(self, name: str) -> tuple[Link, ...]:
        """The links out of layer ``name``."""
        return self._out_of.get(name, ())


def _grouped(links: Iterable[Link], end: str) -> Mapping[str, tuple[Link, ...]]:
    found: dict[str, list[Link]] = {}
    for link in links:
        found.setdefault(getattr(link, end), []).append(link)
    return {name: tuple(group) for name, group in found.items()}


def network_of(program: Program) -> Network:
    """The layers and links of a valid ``program``; delays are numbers at its links.

    Raises:
        ProgramError: a population or projection of a type that has no place on the chip.
    """
    unknown = [p.name for p in program.populations if not isinstance(p, Lif | Relay | Readout)]
    unknown += [p.name for p in program.projections if not isinstance(p, Conv | Dense)]
    if unknown:
        raise ProgramError([f"{name}: it has a type that cannot be placed on Loihi 2" for name in unknown])
    port = Layer(program.input.name, program.input.shape, Role.POPULATION, program.input.name)
    layers = tuple(Layer(p.name, p.shape, Role.POPULATION, p.name, isinstance(p, Readout)) for p in program.populations)
    return Network(port, layers, tuple(_link(projection) for projection in program.projections))


def _link(projection: Projection) -> Link:
    outputs, inputs, *kernel = projection.weight.shape
    common = Link(
        projection.source,
        projection.target,
        Form.DENSE,
        weight_bits(projection.weight),
        inputs,
        outputs,
        delay=projection.delay,
        gains=projection.gains.tobytes(),
        projection=projection.name,
    )
    if not isinstance(projection, Conv):
        return common
    return replace(
        common,
        form=Form.CONV,
        outputs=outputs // projection.groups,
        kernel=(kernel[0], kernel[1]),
        stride=projection.stride,
        padding=projection.padding,
        dilation=projection.dilation,
        groups=projection.groups,
        shuffle=projection.shuffle,
    )


def retimed(network: Network) -> Network:
    """``network`` with the delays that make all inputs of each layer meet, as the pass ``retime`` of the lowering."""
    levels = {network.input.name: 0}
    for layer in network.layers:
        levels[layer.name] = max((levels[link.source] + 1 for link in network.into(layer.name)), default=0)
    links = tuple(replace(link, delay=levels[link.target] - levels[link.source] - 1) for link in network.links)
    return Network(network.input, network.layers, links)


def with_delays(network: Network) -> Network:
    """``network`` with layers in place of the delays of its convolutions, each behind its source.

    A convolution has no delays on the chip, so that the delayed messages come from relays which a sparse projection
    with delay synapses feeds one to one (Lava's ``DelaySparse`` into ``GradedVec``). Links that hear the same messages
    with the same delay share one such layer, and the layers of one source are a chain: each hears the one with the next
    smaller delay. A delayed dense link has delay synapses itself.
    """
    wanted: dict[tuple[str, bytes], set[int]] = {}
    for link in network.links:
        if link.delay and link.form is Form.CONV:
            wanted.setdefault((link.source, link.gains), set()).add(link.delay)
    chains: dict[str, list[list[Layer]]] = {}
    found: dict[tuple[str, bytes, int], str] = {}
    for index, ((name, gains), delays) in enumerate(wanted.items()):
        source, chain = network.by_name[name], []
        for delay in sorted(delays):
            # "|" is in no name of a Program; the index tells apart what differs by its gains only
            mark = f" | gains {index}" if gains else ""
            chain.append(Layer(f"{name} | delay {delay}{mark}", source.shape, Role.DELAY, source.population))
            found[name, gains, delay] = chain[-1].name
        chains.setdefault(name, []).append(chain)
    layers: list[Layer] = []
    links = [
        replace(link, source=found.get((link.source, link.gains, link.delay), link.source), delay=0)
        if link.form is Form.CONV
        else link
        for link in network.links
    ]
    for layer in (network.input, *network.layers):
        layers.append(layer)
        for chain in chains.get(layer.name, ()):
            names = [layer.name, *(delay.name for delay in chain)]
            links += [
                Link(source, target, Form.LINE, 1, 1, 1, groups=layer.shape[0])
                for source, target in itertools.pairwise(names)
            ]
            layers += chain
    return Network(network.input, tuple(layers[1:]), tuple(links))
