"""Energy models as data: each constant has a value, a source and its certainty.

There is no model of Loihi 2 per operation, because no such figure has been published. Loihi 2's energy can only be
measured, for a whole workload.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

HOROWITZ = (
    "M. Horowitz, Computing's energy problem (and what we can do about it), ISSCC 2014: 45 nm, 0.9 V, FP32 add 0.9 pJ, "
    "FP32 multiply 3.7 pJ"
)
DAVIES = (
    "M. Davies et al., Loihi: a neuromorphic manycore processor with on-chip learning, IEEE Micro 38(1), 2018, "
    "Table 2: 0.75 V, synaptic spike operation 23.6 pJ, neuron update 81 pJ active and 52 pJ inactive"
)


FP32_ADD, FP32_MAC = 0.9, 4.6  # [pJ], HOROWITZ; a MAC is 3.7 + 0.9


@dataclass(frozen=True)
class Price:
    """What one operation costs.

    Attributes:
        operation: an operation of :data:`spikegen.energy.operations.OPERATIONS`.
        low: least energy of one operation [pJ].
        high: greatest energy of one operation [pJ]; equal to ``low`` where the source gives one figure.
        meaning: what the figure stands for.
        source: where it was published.
        certainty: how it was obtained there, and how well it fits what it is used for here.
    """

    operation: str
    low: float
    high: float
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
        prices: what is billed.
        not_billed: what the model leaves out, in words.
        ann_mac: price of one multiply-accumulate of the dense ANN [pJ]; None if the model says nothing about an ANN.
    """

    name: str
    title: str
    prices: tuple[Price, ...]
    not_billed: str
    ann_mac: float | None = None

    def energy(self, counts: Mapping[str, float]) -> Energy:
        """Energy of ``counts``, operation -> how many."""
        items = {p.operation: (p.low * counts[p.operation], p.high * counts[p.operation]) for p in self.prices}
        return Energy(sum(low for low, _ in items.values()), sum(high for _, high in items.values()), items)


_ADD = Price(
    "binary_synops",
    FP32_ADD,
    FP32_ADD,
    "a binary synaptic operation is one FP32 addition (AC)",
    HOROWITZ,
    "published; an addition of the 24-bit integers that are really used is cheaper; memory access is not in it",
)


def _mac(operation: str, what: str) -> Price:
    return Price(
        operation,
        FP32_MAC,
        FP32_MAC,
        f"{what} is one FP32 multiplication and addition (MAC), 3.7 + 0.9",
        HOROWITZ,
        "published; an integer multiplication is cheaper; memory access is not in it",
    )


def _synop(operation: str, what: str, caveat: str) -> Price:
    return Price(
        operation,
        23.6,
        23.6,
        f"{what} is one synaptic spike operation (minimum)",
        DAVIES,
        f"pre-silicon circuit simulation, a minimum{caveat}",
    )


_NO_GRADED = "; Loihi 1 has no graded messages, so this part could not run there as it is"

HOROWITZ45_FP32 = EnergyModel(
    "horowitz45_fp32",
    "45 nm arithmetic, FP32 (Horowitz 2014)",
    (
        _ADD,
        _mac("graded_synops", "a graded synaptic operation"),
        _mac("analog_macs", "a synaptic operation of the input image, at each timestep,"),
    ),
    "memory access, neuron updates, bias additions, readout, host",
    ann_mac=FP32_MAC,
)

DAVIES2018_LOIHI1 = EnergyModel(
    "davies2018_loihi1",
    "Loihi 1, pre-silicon (Davies 2018)",
    (
        _synop("binary_synops", "a binary synaptic operation", ""),
        _synop("graded_synops", "a graded synaptic operation", _NO_GRADED),
        _synop("analog_macs", "a synaptic operation of the input image", _NO_GRADED),
        Price(
            "neuron_updates",
            52.0,
            81.0,
            "a neuron update: 52 pJ if every neuron were inactive, 81 pJ if every one were active",
            DAVIES,
            "pre-silicon circuit simulation; which updates are active is not counted, so both ends are given",
        ),
    ),
    "static power, spike transport between cores and chips, barrier synchronisation, input and output, host",
)

MODELS: Mapping[str, EnergyModel] = MappingProxyType({m.name: m for m in (HOROWITZ45_FP32, DAVIES2018_LOIHI1)})
