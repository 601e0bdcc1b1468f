"""What the instrumentation of a Program watches. Pure bookkeeping, no Lava."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spikegen.exporters.lava.schedule import Schedule
from spikegen.exporters.lava.synapses import flat_order
from spikegen.program import Program, Readout
from spikegen.program.counting import tap_rows

POINTS_MAX = 32  # nodes that one Tap process can watch


@dataclass(frozen=True)
class TapPoint:
    """One node that a Tap watches.

    Attributes:
        node: its name.
        shape: shape of its messages, Lava's (W, H, C).
        late: steps from the start of a run until the host sees its first message.
        rows: int64 [K, neurons], multiplied with the number of events of each neuron (flat order of ``shape``).
    """

    node: str
    shape: tuple[int, ...]
    late: int
    rows: npt.NDArray[np.int64]


TapPlan = tuple[TapPoint, ...]  # the nodes that one Tap process watches, at most POINTS_MAX


def tap_plans(program: Program, schedule: Schedule) -> tuple[TapPlan, ...]:
    """Plans that together watch every node that sends messages (all but readouts).

    The messages of the input are taken where the host sends them.
    """
    points = [
        TapPoint(
            name,
            node.shape[::-1],
            0 if name == program.input.name else schedule.seen(program.levels[name]),
            np.ascontiguousarray(tap_rows(program, name)[:, flat_order(node.shape)]),
        )
        for name, node in program.nodes.items()
        if not isinstance(node, Readout)
    ]
    return tuple(tuple(points[i : i + POINTS_MAX]) for i in range(0, len(points), POINTS_MAX))
