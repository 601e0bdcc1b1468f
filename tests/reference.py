"""A slow scalar reference of the Program: Python integers, one neuron and one synapse at a time.

Written from the docstrings of ``spikegen/program/ir.py`` and from the published equations, not from the simulator: it
shares no code with it and has no numpy arithmetic, so the two can only agree by both being right.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spikegen.program import Conv, Lif, Program, Projection, Readout, Relay
from spikegen.program.ir import Shape

Index = tuple[int, int, int]  # channel, row, column
Values = dict[Index, int]


def wrap24(x: int) -> int:
    """The 24-bit current: 2^24 is subtracted once above 2^23, added once at or below -2^23."""
    if x > 8388608:
        return x - 16777216
    if x <= -8388608:
        return x + 16777216
    return x


def clip23(x: int) -> int:
    """The membrane saturates at 2^23 - 1 on both sides."""
    return max(-8388607, min(8388607, x))


def decay(x: int, amount: int) -> int:
    """``x * (4096 - amount) / 4096`` without its fraction."""
    magnitude = abs(x) * (4096 - amount) // 4096
    return magnitude if x >= 0 else -magnitude


def current_before_wrap(u: int, a: int, du: int) -> int:
    """The sum that ``wrap24`` brings into 24 bits."""
    return decay(u, du + 1) + a * 64


def membrane_before_clip(v: int, u: int, dv: int, bias: int) -> int:
    """The sum that ``clip23`` brings into its range."""
    return decay(v, dv) + u + bias


def lif_step(u: int, v: int, a: int, *, vth: int, du: int, dv: int, bias: int) -> tuple[int, int, int]:
    """New u, new v, spike of one neuron."""
    u = wrap24(current_before_wrap(u, a, du))
    v = clip23(membrane_before_clip(v, u, dv, bias))
    return (u, 0, 1) if v > vth * 64 else (u, v, 0)


def indices(shape: Shape) -> list[Index]:
    """Every (channel, row, column), in C order."""
    channels, height, width = (range(n) for n in shape)
    return list(itertools.product(channels, height, width))


class Synapse(NamedTuple):
    """One connection out of a source neuron; ``weight`` includes the exponent."""

    target: Index
    weight: int


def synapses(program: Program, projection: Projection) -> dict[Index, list[Synapse]]:
    """Source neuron -> its connections, one per weight that meets a real source neuron."""
    source, target = program.nodes[projection.source].shape, program.nodes[projection.target].shape
    found: dict[Index, list[Synapse]] = {index: [] for index in indices(source)}
    unit = 2**projection.exponent
    if not isinstance(projection, Conv):
        for row, to in enumerate(indices(target)):
            for column, origin in enumerate(indices(source)):
                found[origin].append(Synapse(to, int(projection.weight[row, column]) * unit))
        return found
    r, groups = projection.shuffle, projection.groups
    out, inputs, kh, kw = projection.weight.shape
    (sy, sx), (py, px), (dy, dx) = projection.stride, projection.padding, projection.dilation
    for co, y, x in indices((out, target[1] // r, target[2] // r)):
        to = (co // (r * r), r * y + co // r % r, r * x + co % r)
        first = co // (out // groups) * inputs  # first source channel of the group that co belongs to
        for ci, i, j in indices((inputs, kh, kw)):
            origin = (first + ci, y * sy + i * dy - py, x * sx + j * dx - px)
            if origin in found:  # a tap on padding is no synapse
                found[origin].append(Synapse(to, int(projection.weight[co, ci, i, j]) * unit))
    return found


@dataclass
class Result:
    """One evaluation of one image.

    Attributes:
        values: node -> T dictionaries: messages, or the currents of a readout.
        events, stored, effective: as in :class:`spikegen.program.Counts`.
        wraps, clips: how often a current left 24 bits, a membrane its range.
        misfits: relays and readouts whose current left their width, for which nothing is defined.
    """

    values: dict[str, list[Values]] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)
    effective: dict[str, int] = field(default_factory=dict)
    wraps: int = 0
    clips: int = 0
    misfits: set[str] = field(default_factory=set)

    def array(self, program: Program, name: str) -> npt.NDArray[np.int64]:
        """Values of ``name`` as int64 [T, C, H, W]."""
        shape = program.nodes[name].shape
        return np.array([[frame[index] for index in indices(shape)] for frame in self.values[name]]).reshape(-1, *shape)


def evaluate(program: Program, frame: npt.NDArray[np.int32], step: int) -> Result:
    """Evaluate ``program`` at diffusion step ``step`` for one image [C, H, W], or [T, C, H, W] if it is streamed."""
    result = Result()
    frames = list(frame) if program.input.streamed else [frame] * program.timesteps
    result.values[program.input.name] = [
        {index: int(frame[index]) for index in indices(program.input.shape)} for frame in frames
    ]
    connections = {p.name: synapses(program, p) for p in program.projections}
    for population in program.populations:
        currents = [_current(program, population.name, connections, result, t) for t in range(program.timesteps)]
        if isinstance(population, Lif):
            spikes = _spikes(program, population, currents, step, result)
            result.values[population.name] = [
                {index: _late(population, spikes, index, t) for index in spikes[t]} for t in range(program.timesteps)
            ]
        else:
            result.values[population.name] = currents
            bits = population.bits if isinstance(population, Relay) else 23
            if any(abs(value) >= 2**bits for frame in currents for value in frame.values()):
                result.misfits.add(population.name)
    _count(program, connections, result)
    return result


def _current(
    program: Program, name: str, connections: Mapping[str, dict[Index, list[Synapse]]], result: Result, t: int
) -> Values:
    total = dict.fromkeys(indices(program.nodes[name].shape), 0)
    for projection in program.projections:
        if projection.target == name:
            gain = int(projection.gains[t]) if len(projection.gains) else 1
            for origin, message in result.values[projection.source][t].items():
                if message:
                    for target, weight in connections[projection.name][origin]:
                        total[target] += gain * weight * message
    return total


def _spikes(program: Program, population: Lif, currents: list[Values], step: int, result: Result) -> list[Values]:
    table = program.conditioning.tables.get(population.name)
    spikes: list[Values] = [{} for _ in currents]
    for index in indices(population.shape):
        mantissa = int(population.bias_mant[index[0]]) + (0 if table is None else int(table[step, index[0]]))
        bias = mantissa * 2**population.bias_exp
        u = v = 0
        for t, current in enumerate(currents):
            raw_u = current_before_wrap(u, current[index], population.du)
            raw_v = membrane_before_clip(v, wrap24(raw_u), population.dv, bias)
            result.wraps += wrap24(raw_u) != raw_u
            result.clips += clip23(raw_v) != raw_v
            u, v, spikes[t][index] = lif_step(
                u, v, current[index], vth=population.vth, du=population.du, dv=population.dv, bias=bias
            )
    return spikes


def _late(population: Lif, spikes: list[Values], index: Index, t: int) -> int:
    """The message of neuron ``index`` at timestep ``t``: its spike of so many timesteps before."""
    source = t - (int(population.delays[index]) if len(population.delays) else 0)
    return spikes[source][index] if source >= 0 else 0


def _count(program: Program, connections: Mapping[str, dict[Index, list[Synapse]]], result: Result) -> None:
    for name, node in program.nodes.items():
        if isinstance(node, Readout):
            continue
        events = [index for frame in result.values[name] for index, message in frame.items() if message]
        result.events[name] = len(events)
        for projection in program.projections:
            if projection.source == name:
                met = [synapse for index in events for synapse in connections[projection.name][index]]
                result.stored[projection.name] = len(met)
                result.effective[projection.name] = sum(synapse.weight != 0 for synapse in met)
