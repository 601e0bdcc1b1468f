"""The integer IR. One frozen dataclass per primitive; its docstring is the specification.

Units: an integer *current* ``a`` and the membrane ``v`` of the same population differ by the factor 64 (``v`` holds
``a << 6``), as on Loihi. ``LSB`` is the real value of one unit of current and is known to the host only.
Arrays are read-only. Shapes are ``(channels, height, width)`` in PyTorch's order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from spikegen.program.arrays import frozen
from spikegen.program.numerics import GRADED_BITS_MAX
from spikegen.program.tail import SwishTail

Shape: TypeAlias = tuple[int, int, int]

NEURONS_MAX = 1 << 26  # of one node
# Of an array that files have only where it is not empty: files from before the field are as they would be written now.
LATER = {"omitted_if_empty": True}


@dataclass(frozen=True, eq=False)
class Input:
    """The input port: messages from the host.

    ``message = clip(round_half_even(x / scale), low[c], high[c])`` for the real input ``x`` in channel ``c``. The frame
    is the same at each of the T timesteps, or, where ``streamed``, every timestep has a frame of its own.

    Attributes:
        name: unique name.
        shape: (C, H, W).
        bits: 0 for binary spikes, else the magnitude bits of a graded message, 1..23 (the payload is signed).
        scale: real value of one unit of message, > 0 (used by the host only).
        low, high: int32 [C], the range of the messages in each channel; default: all that ``bits`` can hold. A tighter
            range lets the weights behind the port be larger without any risk of overflow.
        streamed: whether every timestep has a frame of its own.
    """

    name: str
    shape: Shape
    bits: int
    scale: float
    low: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    high: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    streamed: bool = False

    def __post_init__(self) -> None:
        widest = (1 << self.bits) - 1 if 0 < self.bits <= GRADED_BITS_MAX else 1
        channels = self.shape[0] if self.shape and 0 < self.shape[0] <= NEURONS_MAX else 0  # else validate refuses it
        for name, default in (("low", -widest if self.bits else 0), ("high", widest)):
            given = frozen(getattr(self, name), np.int32)
            if not given.size:
                given = np.full(channels, default, dtype=np.int32)
                given.setflags(write=False)
            object.__setattr__(self, name, given)

    def quantize(self, x: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
        """Messages int32 for real values ``x`` float64, both [..., C, H, W]: rounded half to even, then clipped."""
        low, high = self.low[:, None, None], self.high[:, None, None]
        messages: npt.NDArray[np.int32] = np.clip(np.rint(x / self.scale), low, high).astype(np.int32)
        return messages


@dataclass(frozen=True, eq=False)
class Lif:
    """Leaky or non-leaky integrate-and-fire neurons, binary messages. IF is ``du=4095, dv=0``.

    Equations (Lava ``lava/proc/lif/models.py``, ``AbstractPyLifModelFixed`` and ``PyLifModelBitAcc``)::

        u[t] = wrap24( trunc(u[t-1] * (4096 - (du + 1)) / 4096) + (a[t] << 6) )
        v[t] = clip23( trunc(v[t-1] * (4096 - dv) / 4096) + u[t] + (bias_mant << bias_exp) )
        s[t] = 1 if v[t] > (vth << 6) else 0 ;  v[t] = 0 where s[t] = 1
        message[t] = s[t - delays]

    ``u`` and ``v`` are 0 at the first timestep of every evaluation, and so are the messages before the first delayed
    one; what is late for the last timestep is never sent.

    Attributes:
        name: unique name.
        shape: (C, H, W).
        vth: threshold mantissa, 0..131071 (17 bit); the membrane is compared with ``vth << 6``.
        du: current decay, 0..4095 (12 bit); Loihi adds 1.
        dv: membrane decay, 0..4095 (12 bit).
        bias_mant: int16 [C], bias mantissa per channel, -4096..4095 (signed 13 bit).
        bias_exp: bias exponent, 0..7 (3 bit).
        scale: LSB, real value of one unit of current, > 0 (used by reports only).
        origin: name of the neuron layer in the source model, "" if there is none.
        origin_start: first channel of that layer that this population holds.
        delays: int32 [C, H, W], axonal delay of each neuron in timesteps, 0..1024; or empty for none. Part of what the
            network computes (lava-dl ``slayer/axon/delay.py``), unlike the delays of projections.
    """

    name: str
    shape: Shape
    vth: int
    du: int
    dv: int
    bias_mant: npt.NDArray[np.int16]
    bias_exp: int
    scale: float = 1.0
    origin: str = ""
    origin_start: int = 0
    delays: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32), metadata=LATER)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bias_mant", frozen(self.bias_mant, np.int16))
        object.__setattr__(self, "delays", frozen(self.delays, np.int32))


@dataclass(frozen=True, eq=False)
class Relay:
    """Stateless neurons that pass the sum of their input on: ``message[t] = a[t]`` (graded).

    Lava: ``GradedVec`` with ``vth=0``.

    Attributes:
        name: unique name.
        shape: (C, H, W).
        bits: magnitude bits of the graded message, 1..23; the bounds of the input must fit.
        scale: LSB of the current, > 0 (used by reports only).
    """

    name: str
    shape: Shape
    bits: int
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class Readout:
    """Stateless output: its current of every timestep goes to the host.

    The host computes ``y = sum_t weights[t] * tail(scale * a[t] + bias[t])``; without a tail that is the weighted sum
    of the real-valued currents. The current has 23 bits and a sign.

    Attributes:
        name: unique name.
        shape: (C, H, W).
        weights: float64 [T], the host's weight of each timestep.
        bias: float64 [T, C], real-valued bias, added by the host; [C] is taken for every timestep.
        scale: LSB of the current, > 0.
        tail: further layers of the host, or None.
    """

    name: str
    shape: Shape
    weights: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    scale: float = 1.0
    tail: SwishTail | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", frozen(self.weights, np.float64))
        bias = frozen(self.bias, np.float64)
        if bias.ndim == 1:
            bias = np.broadcast_to(bias, (len(self.weights), len(bias)))  # takes no memory, whatever a file claims
        object.__setattr__(self, "bias", bias)

    @property
    def output_shape(self) -> Shape:
        """Shape of what the host computes: that of the readout, or with a tail (O, H, W)."""
        return self.shape if self.tail is None else (len(self.tail.bias), *self.shape[1:])


@dataclass(frozen=True, eq=False)
class Conv:
    """Convolution from ``source`` to ``target``, PyTorch's correlation order, optional sub-pixel shuffle of the output.

    ``a[co, y, x] += sum_{ci, i, j} (weight[co, ci, i, j] << exponent) * m[ci, y*stride + i*dilation - padding, ...]``;
    with ``shuffle = r > 1`` the result of ``C*r*r`` channels is rearranged as ``torch.pixel_shuffle`` does:
    channel ``c*r*r + i*r + j`` at (y, x) becomes channel ``c`` at (r*y + i, r*x + j).

    With ``gains`` the message of timestep ``t`` counts ``gains[t]`` times, ``a += gains[t] (weight << exponent) m``:
    the source sends the gain as the payload of its spikes (TSM, SDM arXiv 2408.16467). ``t`` is the timestep of the
    message, whatever the delay.

    Attributes:
        name: unique name.
        source, target: names of an input or population, and of a population.
        weight: int8 [out, in / groups, kh, kw] mantissas, -128..127.
        exponent: 0..15; a weight is worth ``mantissa << exponent`` (at least 1 on Loihi's mixed-sign 8-bit grid).
        stride, padding, dilation: (vertical, horizontal).
        groups: channel groups.
        shuffle: sub-pixel factor r, at least 1.
        delay: extra timesteps between the source's message and its arrival, at least 0 (set by ``retime``).
        gains: int32 [T], or empty for 1 at every timestep.
    """

    name: str
    source: str
    target: str
    weight: npt.NDArray[np.int8]
    exponent: int
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    shuffle: int = 1
    delay: int = 0
    gains: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", frozen(self.weight, np.int8))
        object.__setattr__(self, "gains", frozen(self.gains, np.int32))

    @property
    def is_copy(self) -> bool:
        """Whether every channel goes to the same channel with the same weight: a relayed stream."""
        plain = (self.stride, self.padding, self.shuffle) == ((1, 1), (0, 0), 1)
        depthwise = self.weight.shape == (self.groups, 1, 1, 1)
        return plain and depthwise and bool((self.weight == self.weight.flat[0]).all())

    def target_shape(self, source: Shape) -> Shape:
        """Shape of the currents for messages of shape ``source``."""
        out, _, *kernel = self.weight.shape
        size = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(source[1:], kernel, self.stride, self.padding, self.dilation, strict=True)
        ]
        r = self.shuffle
        return (out // (r * r), size[0] * r, size[1] * r)


@dataclass(frozen=True, eq=False)
class Dense:
    """Fully connected projection; messages and currents are flattened in (C, H, W) order.

    ``a[i] += sum_j (weight[i, j] << exponent) * m[j]``

    Attributes:
        name, source, target, exponent, delay, gains: as in :class:`Conv`.
        weight: int8 [neurons of target, neurons of source] mantissas, -128..127.
    """

    name: str
    source: str
    target: str
    weight: npt.NDArray[np.int8]
    exponent: int
    delay: int = 0
    gains: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", frozen(self.weight, np.int8))
        object.__setattr__(self, "gains", frozen(self.gains, np.int32))


@dataclass(frozen=True, eq=False)
class Conditioning:
    """Bias tables that depend on the diffusion step.

    At diffusion step ``k`` the bias mantissa of population ``name`` is ``bias_mant + tables[name][k]``.

    Attributes:
        steps: K, number of diffusion steps.
        tables: population name -> int16 [K, C] offsets of the bias mantissa.
    """

    steps: int
    tables: Mapping[str, npt.NDArray[np.int16]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tables", {name: frozen(table, np.int16) for name, table in self.tables.items()})


Population: TypeAlias = Lif | Relay | Readout
Node: TypeAlias = Input | Population
Projection: TypeAlias = Conv | Dense


@dataclass(frozen=True, eq=False)
class Program:
    """An integer network in topological order.

    Attributes:
        name: short name.
        timesteps: T, timesteps per evaluation, at least 1.
        input: the input port.
        populations: in topological order.
        projections: several into one population add up.
        conditioning: bias tables per diffusion step.
        ann_macs: multiply-accumulates of one evaluation of the dense ANN of the same shape (no spikes, T = 1), at least
            0; 0 if they are not known.
        report: JSON-able choices and errors of lowering (never needed to run it).
    """

    NODE_TYPES: ClassVar[dict[str, type]] = {c.__name__: c for c in (Input, Lif, Relay, Readout)}
    PROJECTION_TYPES: ClassVar[dict[str, type]] = {c.__name__: c for c in (Conv, Dense)}

    name: str
    timesteps: int
    input: Input
    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    conditioning: Conditioning = field(default_factory=lambda: Conditioning(1))
    ann_macs: int = 0
    report: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def nodes(self) -> Mapping[str, Node]:
        """The input and every population by name, in topological order."""
        return {node.name: node for node in (self.input, *self.populations)}

    @cached_property
    def _into(self) -> Mapping[str, tuple[Projection, ...]]:
        into: dict[str, list[Projection]] = {}
        for projection in self.projections:
            into.setdefault(projection.target, []).append(projection)
        return {name: tuple(found) for name, found in into.items()}

    def into(self, name: str) -> tuple[Projection, ...]:
        """The projections into population ``name``."""
        return self._into.get(name, ())

    @cached_property
    def _out_of(self) -> Mapping[str, tuple[Projection, ...]]:
        out_of: dict[str, list[Projection]] = {}
        for projection in self.projections:
            out_of.setdefault(projection.source, []).append(projection)
        return {name: tuple(found) for name, found in out_of.items()}

    def out_of(self, name: str) -> tuple[Projection, ...]:
        """The projections out of node ``name``."""
        return self._out_of.get(name, ())

    @cached_property
    def levels(self) -> Mapping[str, int]:
        """Level of each node: timesteps between a frame at the input and the node's message for it (input 0).

        Each projection takes one timestep plus its delay; ``retime`` makes all projections into a node agree.
        """
        levels = {self.input.name: 0}
        for population in self.populations:
            levels[population.name] = max(
                (levels[p.source] + 1 + p.delay for p in self.into(population.name)), default=0
            )
        return levels

    @property
    def depth(self) -> int:
        """Highest level."""
        return max(self.levels.values())

    def readouts(self) -> Iterator[Readout]:
        """The readouts in order."""
        return (p for p in self.populations if isinstance(p, Readout))

    def message_bits(self, name: str) -> int:
        """Declared message type of a node: 0 for binary spikes, else the magnitude bits of its graded messages."""
        node = self.nodes[name]
        return 0 if isinstance(node, Lif | Readout) else node.bits

    def payload_bits(self, projection: Projection) -> int:
        """Magnitude bits of what ``projection`` is sent: 0 for binary spikes, else message times gain."""
        bits = self.message_bits(projection.source)
        if not projection.gains.size:
            return bits
        gain = int(np.abs(projection.gains.astype(np.int64)).max())
        return max(1, (max(1, (1 << bits) - 1) * gain).bit_length())

    def bias_mant(self, population: Lif, step: int) -> npt.NDArray[np.int64]:
        """Bias mantissas int64 [C] of ``population`` at diffusion step ``step``."""
        mantissa = population.bias_mant.astype(np.int64)
        table = self.conditioning.tables.get(population.name)
        return mantissa if table is None else mantissa + table[step]


def neurons(node: Node) -> int:
    """Number of neurons (or input lines) of a node."""
    return math.prod(node.shape)
