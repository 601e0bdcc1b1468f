"""What NIR cannot say: where a network would mean something else it is refused, the rest is told."""

from __future__ import annotations

import math

import numpy as np

from spikegen.exporters.nir.shapes import covers, is_flat
from spikegen.program import Conv, Dense, Lif, Program, Projection, Readout
from spikegen.program.numerics import DECAY_MAX


def refusals(program: Program) -> list[str]:
    """Every reason why a NIR graph of ``program`` would mean something else, by node; empty if there is none."""
    problems = [problem for population in program.populations for problem in _population(program, population.name)]
    return problems + [problem for projection in program.projections for problem in _projection(program, projection)]


def _population(program: Program, name: str) -> list[str]:
    node = program.nodes[name]
    if isinstance(node, Readout):
        changes = (node.bias != node.bias[0]).any()
        return [f"{name}: its bias differs between timesteps"] if changes else []
    if not isinstance(node, Lif):
        return []
    problems = []
    table = program.conditioning.tables.get(name)
    if table is not None and (table != table[0]).any():
        problems.append(f"{name}: its bias depends on the diffusion step (conditioning)")
    if not program.into(name):
        problems.append(f"{name}: it hears nothing and fires by its bias alone; a NIR node has an input")
    if node.du != DECAY_MAX and node.dv == 0:
        problems.append(f"{name}: its current decays and its membrane does not; CubaLIF leaks")
    return problems


def _projection(program: Program, projection: Projection) -> list[str]:
    problems = []
    gains = projection.gains
    if gains.size and (gains != gains[0]).any():
        problems.append(f"{projection.name}: its gain differs between timesteps (TSM)")
    if isinstance(projection, Conv) and projection.shuffle > 1:
        problems.append(f"{projection.name}: it shuffles sub-pixels (a transposed convolution or an upsampling)")
    source, target = program.nodes[projection.source], program.nodes[projection.target]
    if isinstance(projection, Conv) and not problems and _cannot_be_a_list(program, projection):
        problems.append(
            f"{projection.name}: it is a convolution, and {source.name} or {target.name} is a list of neurons in NIR, "
            "since a Dense or a kernel of the size of the image leads into it; NIR has no way back to an image"
        )
    return problems


def _cannot_be_a_list(program: Program, conv: Conv) -> bool:
    whole = covers(conv, program.nodes[conv.source].shape)
    if is_flat(program, conv.target):
        return not whole
    return is_flat(program, conv.source)


def losses(program: Program) -> list[str]:
    """What the NIR graph of ``program`` leaves out, one sentence each."""
    port = program.input
    text = "spikes 0 and 1" if not port.bits else f"whole multiples of {port.scale:g}, {port.bits} bits and a sign"
    lost = [
        f"input: it is rounded to {text}, and clipped; NIR takes any number",
        "arithmetic: integers of 24 bits, decays rounded toward zero; NIR has real numbers",
        f"window: states start at 0 and end after T = {program.timesteps} timesteps; NIR has no end",
    ]
    if len(program.nodes) > 2:
        lost.append(
            "levels: the delays of projections, which align frames on Lava, are left out; axonal delays are Delay"
        )
    for readout in program.readouts():
        if readout.tail is not None:
            lost.append(f"{readout.name}: the layers of the host behind it are left out")
        even = np.ptp(readout.weights) == 0
        lost.append(f"{readout.name}: the host's {'sum' if even else 'weighted sum'} over time is left out")
    pushed = [
        p.name
        for p in program.populations
        if isinstance(p, Lif) and p.du != DECAY_MAX and program.bias_mant(p, 0).any()
    ]
    if pushed:
        lost.append(
            f"{', '.join(pushed)}: a bias past the decay of the current becomes a v_leak; the membrane starts at 0, "
            "which a framework that starts at v_leak (Norse) does not know"
        )
    uneven = [
        p.name
        for p in program.projections
        if not isinstance(p, Dense) and p.weight.shape[2] != p.weight.shape[3] and math.prod(p.weight.shape[2:]) > 1
    ]
    if uneven:
        lost.append(f"{', '.join(uneven)}: kernels that are not square; nir.read needs type_check=False for them")
    return lost
