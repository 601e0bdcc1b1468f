"""Hypothesis strategies for small random Programs and their input frames.

The structure (graph, geometry, parameters) is drawn, so it shrinks; the weights come from a drawn seed, which keeps an
example small enough for Hypothesis.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt

from spikegen.lowering.retime import retime
from spikegen.program import (
    Conditioning,
    Conv,
    Dense,
    Input,
    Lif,
    Node,
    Population,
    Program,
    Projection,
    Readout,
    Relay,
    current_bounds,
    overflow_risks,
    validate,
)
from spikegen.program.ir import Shape, neurons
from spikegen.program.numerics import BIAS_MANT_MAX, BIAS_MANT_MIN, GRADED_BITS_MAX, VTH_MAX

SHUFFLES = (1, 2)
DENSE_WEIGHTS_MAX = 4096
CURRENT_LIMIT = 1 << 17  # |a| below it is the documented range of lif_step


class Axis(NamedTuple):
    """Geometry of a convolution along one axis."""

    kernel: int
    stride: int
    padding: int
    dilation: int

    def size(self, source: int) -> int:
        """Output size for ``source`` pixels; 0 or less if the kernel does not fit."""
        return (source + 2 * self.padding - self.dilation * (self.kernel - 1) - 1) // self.stride + 1


AXES = tuple(Axis(k, s, p, d) for k in (1, 2, 3) for s in (1, 2) for p in (0, 1, 2) for d in (1, 2) if k > 1 or d == 1)


@cache
def _axes_from(source: int, largest: int) -> tuple[Axis, ...]:
    """Geometries that turn ``source`` pixels into 1 to ``largest`` pixels."""
    return tuple(axis for axis in AXES if 1 <= axis.size(source) <= largest)


@cache
def _axes_between(source: int, target: int) -> tuple[Axis, ...]:
    """Geometries that turn ``source`` pixels into ``target`` pixels."""
    return tuple(axis for axis in AXES if axis.size(source) == target)


def _common_divisors(a: int, b: int) -> list[int]:
    return [n for n in range(1, min(a, b) + 1) if a % n == 0 and b % n == 0]


class _Builder:
    """Grows one Program; ``rms`` is a guess of each node's typical message, from which thresholds are chosen."""

    def __init__(
        self, draw: st.DrawFn, *, timesteps: int, max_size: int, min_exponent: int, gains: bool, delays: bool
    ) -> None:
        self.draw = draw
        self.timesteps, self.gains, self.delays = timesteps, gains, delays
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="weights"))
        self.max_size, self.min_exponent = max_size, min_exponent
        self.input = self._input(st.integers(2, min(6, max_size)))
        self.nodes: list[Node] = [self.input]
        self.rms = {"in": max(0.5, float(np.square([self.input.low, self.input.high]).mean() / 3) ** 0.5)}
        self.populations: list[Population] = []
        self.projections: list[Projection] = []

    def _input(self, size: st.SearchStrategy[int]) -> Input:
        draw = self.draw
        channels, height, width = draw(st.integers(1, 3)), draw(size), draw(size)
        kind = draw(st.sampled_from(("default", "default", "tight", "binary")), label="input")
        bits = 0 if kind == "binary" else draw(st.sampled_from((1, 3, 4, 7)))
        streamed = draw(st.integers(0, 3), label="streamed") >= (3 if bits else 2)
        port = Input("in", (channels, height, width), bits, 2.0**-bits, streamed=streamed)
        if kind == "tight":
            # from 0 or an end to anything: 0 .. K, K .. K and ranges without 0 are among them
            ends = np.sort(
                [self.rng.choice((0, *port.high, *port.low), channels), self.rng.integers(port.low, port.high + 1)],
                axis=0,
            )
            port = dataclasses.replace(port, low=ends[0], high=ends[1])
        return port

    def source(self, last: bool) -> Node:
        """The last node that sends messages, or any."""
        senders = [node for node in self.nodes if not isinstance(node, Readout)]
        return senders[-1] if last else self.draw(st.sampled_from(senders))

    def _weight(self, shape: tuple[int, ...]) -> npt.NDArray[np.int8]:
        weight = self.rng.integers(-128, 128, shape)
        style = self.draw(st.sampled_from(("full", "sparse", "positive", "negative", "extreme", "small")))
        if style == "sparse":
            weight = weight * (self.rng.random(shape) < 0.5)
        elif style in ("positive", "negative"):
            weight = np.abs(weight).clip(0, 127) * (1 if style == "positive" else -1)
        elif style == "extreme":
            weight = self.rng.choice([-128, 127], shape)
        elif style == "small":
            weight = weight // 32
        return weight.astype(np.int8)

    def _add(self, projection: Projection) -> None:
        if self.gains and self.draw(st.integers(0, 3), label="gains") == 3:
            largest = self.draw(st.sampled_from((1, 3, 100)))
            gains = self.rng.integers(-largest, largest + 1, self.timesteps).astype(np.int32)
            projection = dataclasses.replace(projection, gains=gains)
        self.projections.append(projection)

    def conv(self, source: Node, target: str, shape: Shape, axes: tuple[Axis, Axis], shuffle: int) -> None:
        """A convolution of drawn groups, weights and exponent."""
        out = shape[0] * shuffle * shuffle
        groups = self.draw(st.sampled_from(_common_divisors(source.shape[0], out)))
        vertical, horizontal = axes
        self._add(
            Conv(
                f"{source.name}>{target}.{len(self.projections)}",
                source.name,
                target,
                self._weight((out, source.shape[0] // groups, vertical.kernel, horizontal.kernel)),
                self.draw(st.integers(self.min_exponent, self.min_exponent + 2)),
                stride=(vertical.stride, horizontal.stride),
                padding=(vertical.padding, horizontal.padding),
                dilation=(vertical.dilation, horizontal.dilation),
                groups=groups,
                shuffle=shuffle,
            )
        )

    def dense(self, source: Node, target: str, shape: Shape) -> None:
        """A fully connected projection."""
        weight = self._weight((math.prod(shape), neurons(source)))
        exponent = self.draw(st.integers(self.min_exponent, self.min_exponent + 2))
        self._add(Dense(f"{source.name}>{target}.{len(self.projections)}", source.name, target, weight, exponent))

    def first_projection(self, source: Node, target: str) -> Shape:
        """A projection that decides the shape of its target."""
        channels = self.draw(st.integers(1, 3))
        if self.draw(st.integers(0, 7), label="dense") == 7:
            shape = (channels, self.draw(st.integers(1, 3)), self.draw(st.integers(1, 3)))
            if math.prod(shape) * neurons(source) <= DENSE_WEIGHTS_MAX:
                self.dense(source, target, shape)
                return shape
        shuffle = self.draw(st.sampled_from(SHUFFLES))
        if shuffle > 1 and max(source.shape[1:]) * shuffle > self.max_size:
            shuffle = 1
        largest = self.max_size // shuffle
        vertical, horizontal = (self.draw(st.sampled_from(_axes_from(n, largest))) for n in source.shape[1:])
        height, width = (
            axis.size(n) * shuffle for axis, n in zip((vertical, horizontal), source.shape[1:], strict=True)
        )
        shape = (channels, height, width)
        self.conv(source, target, shape, (vertical, horizontal), shuffle)
        return shape

    def further_projection(self, source: Node, target: str, shape: Shape) -> None:
        """Another projection into a target whose shape is known, if there is one."""
        options = []
        for shuffle in SHUFFLES:
            if shape[1] % shuffle == shape[2] % shuffle == 0:
                axes = [_axes_between(n, m // shuffle) for n, m in zip(source.shape[1:], shape[1:], strict=True)]
                if all(axes):
                    options.append((shuffle, axes))
        dense = math.prod(shape) * neurons(source) <= DENSE_WEIGHTS_MAX
        if options and (not dense or self.draw(st.integers(0, 3), label="dense") < 3):
            shuffle, axes = self.draw(st.sampled_from(options))
            vertical, horizontal = (self.draw(st.sampled_from(choices)) for choices in axes)
            self.conv(source, target, shape, (vertical, horizontal), shuffle)
        elif dense:
            self.dense(source, target, shape)

    def typical_current(self, target: str) -> float:
        """Root mean square of the summed current of ``target``, if messages were independent."""
        square = 0.0
        for p in self.projections:
            if p.target == target:
                gain = math.sqrt(np.square(p.gains.astype(float)).mean()) if p.gains.size else 1.0
                weights = p.weight.astype(float) * (1 << p.exponent) * gain * self.rms[p.source]
                fan_in = weights[0].size
                square += float(np.square(weights).mean()) * fan_in
        return math.sqrt(square) + 1.0

    def clock(self) -> None:
        """A Lif that hears nothing and fires from its bias alone."""
        draw, size = self.draw, st.integers(1, min(6, self.max_size))
        shape = (draw(st.integers(1, 3)), draw(size), draw(size))
        bias_exp, dv = draw(st.integers(0, 7)), draw(st.sampled_from((0, 128, 4095)))
        bias = self.rng.integers(-100, 4000, shape[0])
        vth = (int(bias.max()) << bias_exp) * draw(st.integers(0, self.timesteps)) // 64
        name = f"p{len(self.populations)}"
        self._append(Lif(name, shape, max(0, min(vth, VTH_MAX)), 4095, dv, bias.astype(np.int16), bias_exp), 0.6)

    def population(self, kind: str, steps: int) -> npt.NDArray[np.int64] | None:
        """One more population with its projections; the conditioning table of a Lif, or None."""
        draw, name = self.draw, f"p{len(self.populations)}"
        shape = self.first_projection(self.source(last=draw(st.booleans(), label="last")), name)
        for _ in range(draw(st.sampled_from((0, 0, 1, 1, 2)), label="further")):
            self.further_projection(self.source(last=False), name, shape)
        typical = self.typical_current(name)
        table = None
        if kind == "lif":
            bias_exp = draw(st.integers(0, 7))
            reach = min(int(64 * typical * draw(st.sampled_from((0.0, 0.2, 1.0)))) >> bias_exp, BIAS_MANT_MAX)
            bias = self.rng.integers(-reach, reach + 1, shape[0])
            if draw(st.booleans(), label="conditioned"):
                sums = self.rng.integers(-reach, reach + 1, (steps, shape[0]))
                table = sums.clip(BIAS_MANT_MIN, BIAS_MANT_MAX) - bias
            vth = min(int(typical * draw(st.sampled_from((0.0, 0.3, 1.0, 2.0)))), VTH_MAX)
            delays = np.empty(0, dtype=np.int32)
            if self.delays and draw(st.integers(0, 3), label="delays") >= (2 if self.timesteps > 1 else 3):
                longest = draw(st.sampled_from((1, 1, 1, 2, self.timesteps + 1)))
                delays = self.rng.integers(0, longest, shape, dtype=np.int32, endpoint=True)
            du, dv = (
                draw(st.sampled_from((4095, 4095, 0, 1024, 3000))),
                draw(st.sampled_from((0, 0, 128, 2048, 2048, 4095))),
            )
            lif = Lif(name, shape, vth, du, dv, bias.astype(np.int16), bias_exp, 2.0**-6, delays=delays)
            self._append(lif, 0.6)
        elif kind == "relay":
            self._append(Relay(name, shape, GRADED_BITS_MAX, 2.0**-6), typical)
        else:
            weights, biases = 0.8 ** np.arange(self.timesteps)[::-1], self.rng.normal(size=(self.timesteps, shape[0]))
            self._append(Readout(name, shape, weights, biases), 0.0)
        return table

    def _append(self, population: Population, rms: float) -> None:
        self.populations.append(population)
        self.nodes.append(population)
        self.rms[population.name] = rms


def _weaker(program: Program, name: str, min_exponent: int) -> Program:
    """``program`` with about half the current into population ``name``."""

    def projection(p: Projection) -> Projection:
        if p.target != name:
            return p
        if p.exponent > min_exponent:
            return dataclasses.replace(p, exponent=p.exponent - 1)
        return dataclasses.replace(p, weight=np.fix(p.weight / 2).astype(np.int8))

    def population(p: Population) -> Population:
        return dataclasses.replace(p, vth=p.vth // 2) if isinstance(p, Lif) and p.name == name else p

    return dataclasses.replace(
        program,
        projections=tuple(projection(p) for p in program.projections),
        populations=tuple(population(p) for p in program.populations),
    )


def _without_risks(program: Program, min_exponent: int) -> Program:
    while True:
        risky = [line.split(":")[0] for line in overflow_risks(program)]
        risky += [p.name for p in program.populations if _long_payload(program, p.name)]
        if not risky:
            return program
        program = _weaker(program, risky[0], min_exponent)


def _with_risks(program: Program, min_exponent: int) -> Program:
    """Currents as large as the documented range of ``lif_step`` allows; relays and readouts within their widths."""
    for population in program.populations:
        if isinstance(population, Lif) and program.into(population.name):
            grown = program
            while _largest(grown, population.name) < CURRENT_LIMIT and all(
                p.exponent < 15 for p in grown.into(population.name)
            ):
                program, grown = (
                    grown,
                    dataclasses.replace(
                        grown,
                        projections=tuple(
                            dataclasses.replace(p, exponent=p.exponent + 1) if p.target == population.name else p
                            for p in grown.projections
                        ),
                    ),
                )
        while _unfit(program, population.name):
            program = _weaker(program, population.name, min_exponent)
    return program


def _largest(program: Program, name: str) -> int:
    low, high = current_bounds(program)[name]
    return max(-int(low.min()), int(high.max()))


def _unfit(program: Program, name: str) -> bool:
    limit = CURRENT_LIMIT if isinstance(program.nodes[name], Lif) else 1 << GRADED_BITS_MAX
    return _largest(program, name) >= limit or _long_payload(program, name)


def _long_payload(program: Program, name: str) -> bool:
    """Whether messages of ``name`` times a gain have more bits than a payload holds."""
    scaled = [p for p in program.out_of(name) if p.gains.size]
    if not scaled or not isinstance(program.nodes[name], Relay):
        return False
    tight = _tight_relays(program)
    return any(tight.payload_bits(p) > GRADED_BITS_MAX for p in scaled)


def _tight_relays(program: Program) -> Program:
    """Every relay declares just the bits that its bounds need."""
    bits = {name: max(1, _largest(program, name).bit_length()) for name in program.nodes if name != program.input.name}
    populations = tuple(
        dataclasses.replace(p, bits=bits[p.name]) if isinstance(p, Relay) else p for p in program.populations
    )
    return dataclasses.replace(program, populations=populations)


@st.composite
def programs(
    draw: st.DrawFn,
    *,
    timesteps: Sequence[int] = (1, 2, 4, 8),
    max_populations: int = 6,
    max_size: int = 8,
    min_exponent: int = 1,
    overflow: bool = False,
    gains: bool = True,
    delays: bool = True,
    clocks: bool = True,
) -> Program:
    """A small valid Program that went through ``retime``.

    Args:
        timesteps: the values of T to choose from.
        max_populations: 2 to this many populations, readouts included.
        max_size: largest height and width of a population, at least 4; the input has at most 6.
        min_exponent: smallest weight exponent (1 is Loihi's mixed-sign grid).
        overflow: False makes Programs without ``overflow_risks``. True makes leaky accumulators with currents as large
            as allowed, so that most have a current that wraps or a membrane that clips for large frames.
        gains: whether about a quarter of the projections have gains, of either sign, some of them 0.
        delays: whether about a third of the Lif populations have axonal delays, some beyond the last timestep.
        clocks: whether there may be Lif populations that hear nothing.
    """
    steps, count = draw(st.integers(1, 3), label="steps"), draw(st.integers(2, max_populations), label="populations")
    length = draw(st.sampled_from(tuple(timesteps)), label="T")
    builder = _Builder(draw, timesteps=length, max_size=max_size, min_exponent=min_exponent, gains=gains, delays=delays)
    tables = {}
    for index in range(count):
        usual = ("lif", "lif", "lif", "relay", "readout") if index else ("lif", "lif", "relay")
        if clocks and 0 < index < count - 1 and draw(st.integers(0, 7), label="clock") == 7:
            builder.clock()
            continue
        table = builder.population("readout" if index == count - 1 else draw(st.sampled_from(usual)), steps)
        if table is not None:
            tables[builder.populations[-1].name] = table.astype(np.int16)
    populations = tuple(builder.populations)
    if overflow:
        populations = tuple(
            dataclasses.replace(
                p,
                du=draw(st.sampled_from((0, 50, 4095))),
                dv=draw(st.sampled_from((0, 10))),
                vth=draw(st.sampled_from((1000, VTH_MAX))),
            )
            if isinstance(p, Lif)
            else p
            for p in populations
        )
    program = Program(
        "random", length, builder.input, populations, tuple(builder.projections), Conditioning(steps, tables)
    )
    program = _with_risks(program, min_exponent) if overflow else _without_risks(program, min_exponent)
    program = retime(_tight_relays(program))
    validate(program)
    return program


@st.composite
def frames(draw: st.DrawFn, program: Program, images: Sequence[int] = (1, 2, 3)) -> npt.NDArray[np.int32]:
    """Input frames for ``program``: int32 [N, C, H, W], or [N, T, C, H, W] if its input is streamed.

    N is one of ``images``. Extremes, and the message nearest to zero, are frequent.
    """
    port = program.input
    low, high = (np.broadcast_to(end[:, None, None], port.shape) for end in (port.low, port.high))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="pixels"))
    count = draw(st.sampled_from(tuple(images)))
    kinds = [draw(st.sampled_from(("random", "extreme", "highest", "lowest", "zero"))) for _ in range(count)]

    def image(kind: str) -> npt.NDArray[np.int32]:
        if kind == "random":
            return rng.integers(low, high + 1).astype(np.int32)
        if kind == "extreme":
            return np.where(rng.random(port.shape) < 0.5, low, high)
        ends: dict[str, npt.NDArray[np.int32]] = {"highest": high, "lowest": low, "zero": np.clip(0, low, high)}
        return ends[kind]

    # each image is of one kind; now and then a timestep of a stream is of another
    drawn = [
        [image(kind if t == 0 or rng.random() < 0.7 else "random") for t in range(program.timesteps)]
        if port.streamed
        else image(kind)
        for kind in kinds
    ]
    return np.array(drawn, dtype=np.int32)
