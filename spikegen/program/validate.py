"""The rules of the IR. All violations are collected and reported at once."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Mapping

import numpy as np

from spikegen.errors import ProgramError
from spikegen.program import numerics
from spikegen.program.ir import NEURONS_MAX, Conv, Input, Lif, Node, Program, Projection, Readout, Shape
from spikegen.program.tail import SwishTail

_NAME = re.compile(r"[A-Za-z0-9_.:>\[\]-]{1,120}")
TIMESTEPS_MAX = 1024
ANN_MACS_MAX = 1 << 53
STEPS_MAX = 1 << 16
DELAY_MAX = 1024
KERNEL_MAX = 31  # of a tail
GEOMETRY_MAX = 4096  # stride, padding, dilation, groups, shuffle: far above use, below what exhausts the memory


def validate(program: Program) -> None:
    """Raise :class:`~spikegen.errors.ProgramError` with every violation, or return."""
    problems = _check_graph(program)
    if not problems:  # the rest needs a graph whose names resolve
        for node in program.nodes.values():
            problems += _check_node(program, node)
        for projection in program.projections:
            problems += _check_projection(program, projection)
        problems += _check_conditioning(program)
    if problems:
        raise ProgramError(problems)


def check_name(name: str) -> list[str]:
    """What is wrong with a name, if anything."""
    fits = isinstance(name, str) and _NAME.fullmatch(name)
    return [] if fits else [f"{name!r}: a name has 1 to 120 of the characters A-Z a-z 0-9 _ . : > [ ] -"]


def _range(where: str, what: str, value: float, low: float, high: float) -> list[str]:
    return [] if low <= value <= high else [f"{where}: {what} is {value}, allowed {low}..{high}"]


def _check_graph(program: Program) -> list[str]:
    problems = check_name(program.name)
    problems += _range("program", "timesteps", program.timesteps, 1, TIMESTEPS_MAX)
    problems += _range("program", "ann_macs", program.ann_macs, 0, ANN_MACS_MAX)
    names = [program.input.name, *(p.name for p in program.populations)]
    projections = [p.name for p in program.projections]
    problems += [line for name in names + projections for line in check_name(name)]
    for group, what in ((names, "population"), (projections, "projection")):
        repeated = sorted(name for name, times in Counter(group).items() if times > 1)
        problems += [f"{name}: two {what}s have this name" for name in repeated]
    order = {name: index for index, name in enumerate(names)}
    for projection in program.projections:
        missing = [end for end in (projection.source, projection.target) if end not in order]
        if missing:
            problems.append(f"{projection.name}: there is no population {', '.join(missing)}")
        elif projection.target == program.input.name:
            problems.append(f"{projection.name}: {projection.target} is the input, nothing leads into it")
        elif order[projection.source] >= order[projection.target]:
            problems.append(
                f"{projection.name}: {projection.source} does not come before {projection.target} (a cycle)"
            )
    problems += [
        f"{p.name}: no projection leads into it; only a Lif can do without"
        for p in program.populations
        if not isinstance(p, Lif) and not program.into(p.name)
    ]
    if not any(isinstance(p, Readout) for p in program.populations):
        problems.append("program: it has no readout")
    return problems


def _fits(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and min(shape) >= 1 and math.prod(shape) <= NEURONS_MAX


def _check_node(program: Program, node: Node) -> list[str]:
    name = node.name
    if not _fits(node.shape):
        return [f"{name}: shape is {node.shape}, it must be (channels, height, width), at most {NEURONS_MAX} neurons"]
    problems = []
    if not (math.isfinite(node.scale) and node.scale > 0):
        problems.append(f"{name}: scale is {node.scale}, it must be positive and finite")
    if isinstance(node, Lif):
        problems += _range(name, "vth", node.vth, 0, numerics.VTH_MAX)
        problems += _range(name, "du", node.du, 0, numerics.DECAY_MAX)
        problems += _range(name, "dv", node.dv, 0, numerics.DECAY_MAX)
        problems += _range(name, "bias_exp", node.bias_exp, 0, numerics.BIAS_EXP_MAX)
        problems += _check_delays(node)
        if node.bias_mant.shape != node.shape[:1]:
            problems.append(f"{name}: bias_mant must be {node.shape[0]} mantissas, one per channel")
        else:
            problems += _check_bias(name, node.bias_mant.astype(np.int64))
    elif isinstance(node, Readout):
        problems += _check_readout(program, node)
    elif isinstance(node, Input):
        problems += _check_input(node)
    else:
        problems += _range(name, "bits", node.bits, 1, numerics.GRADED_BITS_MAX)
    if not isinstance(node, Input):
        arrivals = {program.levels[p.source] + 1 + p.delay for p in program.into(name)}
        if len(arrivals) > 1:
            problems.append(f"{name}: its inputs arrive at different levels {sorted(arrivals)}; run retime")
    return problems


def _check_delays(node: Lif) -> list[str]:
    if node.delays.shape == (0,):
        return []
    if node.delays.shape != node.shape:
        return [f"{node.name}: delays have shape {node.delays.shape}, they must be {node.shape}, or none"]
    extremes = sorted({int(node.delays.min()), int(node.delays.max())})
    return [line for value in extremes for line in _range(node.name, "axonal delay", value, 0, DELAY_MAX)]


def _check_input(port: Input) -> list[str]:
    problems = _range(port.name, "bits", port.bits, 0, numerics.GRADED_BITS_MAX)
    if port.low.shape != port.shape[:1] or port.high.shape != port.shape[:1]:
        return [*problems, f"{port.name}: low and high must be {port.shape[0]} integers each, one per channel"]
    low, high = int(min(port.low.min(), port.high.min())), int(max(port.low.max(), port.high.max()))
    crossed = np.flatnonzero(port.low > port.high)
    if crossed.size:
        channel = crossed[0]
        found = f"{port.low[channel]}..{port.high[channel]}"
        problems.append(f"{port.name}: the range of channel {channel} is {found}, low must not be above high")
    if port.bits == 0 and not ((port.low == 0).all() and (port.high == 1).all()):
        problems.append(f"{port.name}: the range is {low}..{high}, binary spikes are 0..1 in every channel")
    elif 0 < port.bits <= numerics.GRADED_BITS_MAX and max(-low, high) >= 1 << port.bits:
        problems.append(f"{port.name}: the range is {low}..{high}, {port.bits} bits hold +-{(1 << port.bits) - 1}")
    return problems


def _check_readout(program: Program, node: Readout) -> list[str]:
    problems = []
    if node.weights.shape != (program.timesteps,) or not np.isfinite(node.weights).all():
        problems.append(f"{node.name}: weights must be {program.timesteps} finite numbers, one per timestep")
    wanted = (program.timesteps, node.shape[0])
    if node.bias.shape != wanted or not np.isfinite(node.bias).all():
        problems.append(f"{node.name}: bias must be {wanted} finite numbers, one per timestep and channel")
    if program.out_of(node.name):
        problems.append(f"{node.name}: a readout has no outgoing projection")
    if node.tail is not None:
        problems += [f"{node.name}: tail: {line}" for line in _check_tail(node.tail, node.shape, program.timesteps)]
    return problems


def _check_tail(tail: SwishTail, shape: Shape, timesteps: int) -> list[str]:
    channels, outputs = shape[0], tail.bias.size
    if tail.bias.ndim != 1 or not _fits((outputs, *shape[1:])):
        wanted = f"one number for each of at least 1 output channels, at most {NEURONS_MAX} outputs"
        return [f"bias has shape {tail.bias.shape}, it must be {wanted}"]
    problems = []
    for name, inputs in (("weight", channels), ("mix_weight", outputs)):
        found = getattr(tail, name).shape
        if found[:2] != (outputs, inputs) or len(found) != 4 or not all(k % 2 and k <= KERNEL_MAX for k in found[2:]):
            wanted = f"({outputs}, {inputs}, height, width) with odd height and width up to {KERNEL_MAX}"
            problems.append(f"{name} has shape {found}, it must be {wanted}")
    lengths = {"norm_scale": channels, "norm_shift": channels, "gains": timesteps, "mix_bias": outputs}
    for name, length in lengths.items():
        found = getattr(tail, name).shape
        if found != (length,):
            problems.append(f"{name} has shape {found}, it must be ({length},)")
    names = [field.name for field in dataclasses.fields(tail)]
    return problems + [
        f"{name} holds numbers that are not finite" for name in names if not np.isfinite(getattr(tail, name)).all()
    ]


def _check_bias(name: str, mantissas: numerics.IntArray) -> list[str]:
    extremes = sorted({int(mantissas.min()), int(mantissas.max())})
    low, high = numerics.BIAS_MANT_MIN, numerics.BIAS_MANT_MAX
    return [line for value in extremes for line in _range(name, "bias mantissa", value, low, high)]


def _check_projection(program: Program, projection: Projection) -> list[str]:
    name, shape = projection.name, projection.weight.shape
    source, target = program.nodes[projection.source].shape, program.nodes[projection.target].shape
    problems = _range(name, "exponent", projection.exponent, 0, numerics.WEIGHT_EXP_MAX)
    problems += _range(name, "delay", projection.delay, 0, DELAY_MAX)
    problems += _check_gains(program, projection)
    if not (_fits(source) and _fits(target)):
        return problems  # reported at the node
    if not isinstance(projection, Conv):
        if shape != (math.prod(target), math.prod(source)):
            problems.append(f"{name}: weight shape is {shape}, it must be {(math.prod(target), math.prod(source))}")
        return problems
    geometry = _check_geometry(projection)
    if geometry:
        return problems + geometry
    groups, r = projection.groups, projection.shuffle
    if shape[1] * groups != source[0] or shape[0] % groups or shape[0] % (r * r):
        problems.append(
            f"{name}: weight {shape} with {groups} groups and shuffle {r} does not fit {source[0]} source channels"
        )
    elif projection.target_shape(source) != target:
        problems.append(f"{name}: delivers {projection.target_shape(source)}, {projection.target} is {target}")
    return problems


def _check_gains(program: Program, projection: Projection) -> list[str]:
    name, gains, limit = projection.name, projection.gains.astype(np.int64), numerics.GRADED_BITS_MAX
    if gains.shape == (0,):
        return []
    if gains.shape != (program.timesteps,):
        return [f"{name}: gains must be {program.timesteps} integers, one per timestep, or none"]
    largest, highest = int(np.abs(gains).max()), (1 << limit) - 1
    if largest > highest:
        return [f"{name}: the gains reach a magnitude of {largest}, limit is {highest}"]
    if not 0 <= program.message_bits(projection.source) <= limit:
        return []  # reported at the node
    needed = program.payload_bits(projection)
    if needed <= limit:
        return []
    message = f"messages of {program.message_bits(projection.source) or 1} bits times gains up to {largest}"
    cure = "use smaller gains and larger weights, or fewer bits"
    return [f"{name}: {message} need {needed} bits, a payload has {limit}; {cure}"]


def _check_geometry(conv: Conv) -> list[str]:
    parameters: Mapping[str, tuple[int, tuple[int, ...]]] = {
        "stride": (1, conv.stride),
        "padding": (0, conv.padding),
        "dilation": (1, conv.dilation),
        "groups": (1, (conv.groups,)),
        "shuffle": (1, (conv.shuffle,)),
    }
    problems = [
        line
        for what, (lowest, values) in parameters.items()
        for value in values
        for line in _range(conv.name, what, value, lowest, GEOMETRY_MAX)
    ]
    shape = conv.weight.shape
    if len(shape) != 4 or min(shape) < 1:
        problems.append(f"{conv.name}: weight shape is {shape}, it must be (out, in / groups, height, width)")
    return problems


def _check_conditioning(program: Program) -> list[str]:
    steps = program.conditioning.steps
    problems = _range("conditioning", "steps", steps, 1, STEPS_MAX)
    for name, table in program.conditioning.tables.items():
        population = program.nodes.get(name)
        if not isinstance(population, Lif):
            problems.append(f"conditioning: {name} is not a Lif population")
        elif table.shape != (steps, population.shape[0]):
            problems.append(f"conditioning: {name} has {table.shape}, it must be {(steps, population.shape[0])}")
        elif table.size and population.bias_mant.shape == population.shape[:1]:
            problems += _check_bias(f"conditioning of {name}", population.bias_mant.astype(np.int64) + table)
    return problems
