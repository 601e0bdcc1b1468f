"""Images and lists: NIR flattens, and has no way back."""

from __future__ import annotations

from spikegen.program import Dense, Program, Projection
from spikegen.program.ir import Shape


def covers(projection: Projection, source: Shape) -> bool:
    """Whether a projection reads the whole image of shape ``source`` as one list: what Linear and Affine do."""
    if isinstance(projection, Dense):
        return True
    plain = projection.padding == (0, 0) and projection.shuffle == 1
    return plain and projection.weight.shape[2:] == source[1:]


def is_flat(program: Program, name: str) -> bool:
    """Whether the values of a node are a list (N,) in NIR, not (C, H, W)."""
    node = program.nodes[name]
    into = program.into(name)
    if any(isinstance(projection, Dense) for projection in into):
        return True
    near = program.out_of(name) if name == program.input.name else into
    return node.shape[1:] == (1, 1) and all(covers(p, program.nodes[p.source].shape) for p in near)
