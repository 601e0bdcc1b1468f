"""What the instrumentation of a Program watches. Pure bookkeeping, no Lava."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spikegen.exporters.lava.packing import unpack, words_for
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
        level: its level, the number of steps from the start of a run to the start of its window.
        bits: 0 for binary messages, else the magnitude bits of graded ones.
        rows: int64 [K, neurons], multiplied with the number of events of each neuron (flat order of ``shape``).
    """

    node: str
    shape: tuple[int, ...]
    level: int
    bits: int
    rows: npt.NDArray[np.int64]

    @property
    def words(self) -> int:
        """Packed words of one step."""
        return words_for(self.rows.shape[1], self.bits)


@dataclass(frozen=True)
class TapPlan:
    """The nodes that one Tap process watches, and where their values lie in its Vars.

    Attributes:
        points: at most ``POINTS_MAX`` nodes.
        steps: steps that can be recorded of every node.
    """

    points: tuple[TapPoint, ...]
    steps: int

    @property
    def totals_shape(self) -> tuple[int]:
        """Shape of the products of all points, one after the other."""
        return (sum(len(point.rows) for point in self.points),)

    @property
    def words_shape(self) -> tuple[int, int]:
        """Shape of the recorded words: steps, packed words of all points side by side."""
        return (self.steps, sum(point.words for point in self.points))

    def split_totals(self, totals: npt.NDArray[np.int64]) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
        """Node and its products, from ``totals`` int64 [totals_shape]."""
        ends = np.cumsum([len(point.rows) for point in self.points])
        for point, part in zip(self.points, np.split(totals, ends[:-1]), strict=True):
            yield point.node, part

    def split_messages(
        self, words: npt.NDArray[np.int64], program: Program, images: int
    ) -> Iterator[tuple[str, npt.NDArray[np.int32]]]:
        """Node and its messages int32 [images, T, C, H, W], from ``words`` int64 [words_shape]."""
        ends = np.cumsum([point.words for point in self.points])
        for point, part in zip(self.points, np.split(words, ends[:-1], axis=1), strict=True):
            steps = unpack(part[: images * program.timesteps], point.rows.shape[1], point.bits)
            whc = steps.reshape(images, program.timesteps, *point.shape)
            yield point.node, np.ascontiguousarray(whc.transpose(0, 1, 4, 3, 2))


def tap_plans(program: Program, steps: int) -> tuple[TapPlan, ...]:
    """Plans that together watch every node that sends messages (all but readouts); ``steps`` as in :class:`TapPlan`."""
    points = [
        TapPoint(
            name,
            node.shape[::-1],
            program.levels[name],
            program.message_bits(name),
            np.ascontiguousarray(tap_rows(program, name)[:, flat_order(node.shape)]),
        )
        for name, node in program.nodes.items()
        if not isinstance(node, Readout)
    ]
    return tuple(TapPlan(tuple(points[i : i + POINTS_MAX]), steps) for i in range(0, len(points), POINTS_MAX))
