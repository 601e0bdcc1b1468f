"""Message by message comparison of two evaluations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikegen.program import Evaluation, Program, Readout


@dataclass(frozen=True)
class NodeDifference:
    """One node in one comparison.

    Attributes:
        node: its name.
        messages: messages compared (neurons x timesteps x images; currents for a readout).
        events: nonzero messages of the reference.
        differing: messages that are not equal.
    """

    node: str
    messages: int
    events: int
    differing: int


def differences(program: Program, reference: Evaluation, other: Evaluation) -> list[NodeDifference]:
    """Compare every node of two recorded evaluations of the same frames, in topological order."""
    rows = []
    for name, node in program.nodes.items():
        expected, found = (
            side.readouts[name] if isinstance(node, Readout) else side.messages[name] for side in (reference, other)
        )
        differing = int(np.count_nonzero(expected != found))
        rows.append(NodeDifference(name, expected.size, int(np.count_nonzero(expected)), differing))
    return rows
