"""Energy and time models as data: each constant has a value, a unit, a source and its certainty.

The models that come with spikegen are files of the format that :mod:`spikegen.energy.model_file` reads, in
:mod:`spikegen.energy.builtin`. There is no energy model of Loihi 2 per operation, because no such figure has been
published. Loihi 2's energy can only be measured, for a whole workload.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Constant:
    """What one operation costs.

    Attributes:
        operation: what it is multiplied with: a key of :data:`spikegen.energy.OPERATIONS` or of
            :data:`spikegen.energy.MAPPED`.
        low: least cost of one operation.
        high: greatest cost of one operation; equal to ``low`` where the source gives one figure.
        unit: "pJ" or "ns".
        meaning: what the figure stands for.
        source: where it was published.
        certainty: how it was obtained there, and how well it fits what it is used for here.
    """

    operation: str
    low: float
    high: float
    unit: str
    meaning: str
    source: str
    certainty: str


@dataclass(frozen=True)
class Energy:
    """Energy of a number of operations under one model.

    Attributes:
        low: least energy [pJ].
        high: greatest energy [pJ].
        items: operation -> (low, high) [pJ].
    """

    low: float
    high: float
    items: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class EnergyModel:
    """A list of prices. Operations without a price are not billed.

    Attributes:
        name: identifier.
        title: one line for a table.
        prices: what is billed [pJ].
        not_billed: what the model leaves out, in words.
        ann: price of one multiply-accumulate of the dense ANN [pJ]; None if the model says nothing about an ANN.
    """

    name: str
    title: str
    prices: tuple[Constant, ...]
    not_billed: str
    ann: Constant | None = None

    @property
    def ann_mac(self) -> float | None:
        """Price of one multiply-accumulate of the dense ANN [pJ], the lower end; None if there is none."""
        return None if self.ann is None else self.ann.low

    def energy(self, counts: Mapping[str, float]) -> Energy:
        """Energy of ``counts``, operation -> how many."""
        items = {p.operation: (p.low * counts[p.operation], p.high * counts[p.operation]) for p in self.prices}
        return Energy(sum(low for low, _ in items.values()), sum(high for _, high in items.values()), items)


@dataclass(frozen=True)
class TimeModel:
    """Durations of operations in one core, on the links between chips, and of the synchronisation of a timestep.

    Attributes:
        name: identifier.
        title: one line for a table.
        durations: what takes time [ns].
        left_out: what the model leaves out or assumes, in words.
        checked: comparison with a published measurement, in words; "" if there is none.
    """

    name: str
    title: str
    durations: tuple[Constant, ...]
    left_out: str
    checked: str = ""

    def time(self, counts: Mapping[str, float]) -> tuple[float, float]:
        """Least and greatest time of ``counts``, operation -> how many, one after another [ns]; others take none."""
        used = [(d, counts[d.operation]) for d in self.durations if d.operation in counts]
        return sum(d.low * count for d, count in used), sum(d.high * count for d, count in used)
