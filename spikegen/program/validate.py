"""The rules of the IR. All violations are collected and reported at once."""

from __future__ import annotations

import math
import re

import numpy as np

from spikegen.errors import ProgramError
from spikegen.program import numerics
from spikegen.program.ir import Conv, Input, Lif, Node, Program, Projection, Readout, neurons

_NAME = re.compile(r"[A-Za-z0-9_.:>\[\]-]{1,120}")
TIMESTEPS_MAX = 1024
NEURONS_MAX = 1 << 26


def validate(program: Program) -> None:
    """Raise :class:`~spikegen.errors.ProgramError` with every violation, or return."""
    problems = [*_check_graph(program)]
    if not problems:  # the rest needs a graph whose names resolve
        for node in program.nodes.values():
            problems += _check_node(program, node)
        for projection in program.projections:
            problems += _check_projection(program, projection)
        problems += _check_conditioning(program)
    if problems:
        raise ProgramError(problems)


def _range(where: str, what: str, value: float, low: float, high: float) -> list[str]:
    return [] if low <= value <= high else [f"{where}: {what} is {value}, allowed {low}..{high}"]


def _check_graph(program: Program) -> list[str]:
    problems = _range("program", "timesteps", program.timesteps, 1, TIMESTEPS_MAX)
    names = [program.input.name, *(p.name for p in program.populations)]
    for name in names + [p.name for p in program.projections]:
        if not _NAME.fullmatch(name):
            problems.append(f"{name!r}: a name has 1 to 120 of the characters A-Z a-z 0-9 _ . : > [ ] -")
    for group, what in ((names, "population"), ([p.name for p in program.projections], "projection")):
        problems += [f"{name}: two {what}s have this name" for name in sorted({n for n in group if group.count(n) > 1})]
    order = {name: index for index, name in enumerate(names)}
    targets = set()
    for projection in program.projections:
        if projection.source not in order or projection.target not in order:
            missing = [end for end in (projection.source, projection.target) if end not in order]
            problems.append(f"{projection.name}: there is no population {', '.join(missing)}")
        elif order[projection.source] >= order[projection.target]:
            problems.append(f"{projection.name}: {projection.source} does not come before {projection.target} (a cycle)")
        targets.add(projection.target)
    problems += [f"{p.name}: no projection leads into it" for p in program.populations if p.name not in targets]
    if not any(isinstance(p, Readout) for p in program.populations):
        problems.append("program: it has no readout")
    return problems


def _check_node(program: Program, node: Node) -> list[str]:
    name = node.name
    problems = []
    if len(node.shape) != 3 or min(node.shape) < 1 or neurons(node) > NEURONS_MAX:
        return [f"{name}: shape is {node.shape}, it must be (channels, height, width), at most {NEURONS_MAX} neurons"]
    if not (math.isfinite(node.scale) and node.scale > 0):
        problems.append(f"{name}: scale is {node.scale}, it must be positive and finite")
    if isinstance(node, Lif):
        problems += _range(name, "vth", node.vth, 0, numerics.VTH_MAX)
        problems += _range(name, "du", node.du, 0, numerics.DECAY_MAX) + _range(name, "dv", node.dv, 0, numerics.DECAY_MAX)
        problems += _range(name, "bias_exp", node.bias_exp, 0, numerics.BIAS_EXP_MAX)
        problems += _check_bias(name, node.bias_mant.astype(np.int64), node.shape[0])
    elif isinstance(node, Readout):
        if node.weights.shape != (program.timesteps,) or not np.isfinite(node.weights).all():
            problems.append(f"{name}: weights must be {program.timesteps} finite numbers, one per timestep")
        if node.bias.shape != node.shape[:1] or not np.isfinite(node.bias).all():
            problems.append(f"{name}: bias must be {node.shape[0]} finite numbers, one per channel")
        if program.out_of(name):
            problems.append(f"{name}: a readout has no outgoing projection")
    else:
        problems += _range(name, "bits", node.bits, 1, numerics.GRADED_BITS_MAX)
    if not isinstance(node, Input):
        arrivals = {program.levels[p.source] + 1 + p.delay for p in program.into(name)}
        if len(arrivals) > 1:
            problems.append(f"{name}: its inputs arrive at different levels {sorted(arrivals)}; run retime")
    return problems


def _check_bias(name: str, mantissas: np.ndarray[tuple[int, ...], np.dtype[np.int64]], channels: int) -> list[str]:
    if mantissas.shape[-1:] != (channels,):
        return [f"{name}: bias mantissas have shape {mantissas.shape}, the last axis must be {channels} (one per channel)"]
    problems = []
    for value in (int(mantissas.min()), int(mantissas.max())):
        problems += _range(name, "bias mantissa", value, numerics.BIAS_MANT_MIN, numerics.BIAS_MANT_MAX)
    return problems


def _check_projection(program: Program, projection: Projection) -> list[str]:
    name = projection.name
    source, target = program.nodes[projection.source], program.nodes[projection.target]
    problems = _range(name, "exponent", projection.exponent, 0, numerics.WEIGHT_EXP_MAX)
    problems += _range(name, "delay", projection.delay, 0, math.inf)
    shape = projection.weight.shape
    if not isinstance(projection, Conv):
        if shape != (neurons(target), neurons(source)):
            problems.append(f"{name}: weight shape is {shape}, it must be {(neurons(target), neurons(source))}")
        return problems
    geometry = [*projection.stride, *projection.dilation, projection.groups, projection.shuffle]
    if len(shape) != 4 or min(shape) < 1 or min(geometry) < 1 or min(projection.padding) < 0:
        return [*problems, f"{name}: weight shape {shape}, stride, dilation, groups and shuffle must be positive, padding at least 0"]
    groups, r = projection.groups, projection.shuffle
    if shape[1] * groups != source.shape[0] or shape[0] % groups or shape[0] % (r * r):
        problems.append(
            f"{name}: weight {shape} with {groups} groups and shuffle {r} does not fit {source.shape[0]} source channels"
        )
    elif projection.target_shape(source.shape) != target.shape:
        problems.append(f"{name}: delivers {projection.target_shape(source.shape)}, {target.name} is {target.shape}")
    return problems


def _check_conditioning(program: Program) -> list[str]:
    problems = _range("conditioning", "steps", program.conditioning.steps, 1, 1 << 16)
    for name, table in program.conditioning.tables.items():
        population = program.nodes.get(name)
        if not isinstance(population, Lif):
            problems.append(f"conditioning: {name} is not a Lif population")
        elif table.shape != (program.conditioning.steps, population.shape[0]):
            problems.append(f"conditioning: {name} has {table.shape}, it must be {(program.conditioning.steps, population.shape[0])}")
        else:
            problems += _check_bias(f"conditioning of {name}", population.bias_mant.astype(np.int64) + table, population.shape[0])
    return problems
