"""The float network that composing yields: populations and projections as in a Program, parameters still real."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from spikegen.lowering.graph import FloatArray, Shape
from spikegen.lowering.kernels import Kernel, mean_fan_out
from spikegen.program.tail import SwishTail


@dataclass(frozen=True, eq=False)
class FloatPopulation:
    """A population before quantisation.

    Attributes:
        name, shape: as in the Program.
        bias: float64 [C], real bias per timestep (0 for a relay); of a readout also [T, C].
        table: float64 [K, C] added at diffusion step k, or None.
        neuron: (threshold, du, dv) of a Lif; None for a relay or readout.
        weights: float64 [T] of a readout; None otherwise.
        origin, origin_start: the source layer and the first of its channels (Lif).
        tail: further layers of the host behind a readout, or None.
        unit: real value of one unit of current that the model's neuron counts in (Lif), or None.
        delays: axonal delays of a Lif, int32 [C, H, W], or empty.
    """

    name: str
    shape: Shape
    bias: FloatArray
    table: FloatArray | None = None
    neuron: tuple[float, int, int] | None = None
    weights: FloatArray | None = None
    origin: str = ""
    origin_start: int = 0
    tail: SwishTail | None = None
    unit: float | None = None
    delays: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))

    @property
    def is_relay(self) -> bool:
        """Stateless graded relay."""
        return self.neuron is None and self.weights is None


@dataclass(frozen=True, eq=False)
class FloatProjection:
    """A kernel from node ``source`` to population ``target``.

    Attributes:
        name, source, target: as in the Program.
        kernel: real weights.
        share: below 1, its gains are a part of others (:mod:`~spikegen.lowering.split_gains`), and this is the ratio of
            their L2 norms.
    """

    name: str
    source: str
    target: str
    kernel: Kernel
    share: float = 1.0


@dataclass(frozen=True, eq=False)
class FloatNetwork:
    """Populations in topological order and the projections between them."""

    timesteps: int
    steps: int
    input_shape: Shape
    populations: tuple[FloatPopulation, ...]
    projections: tuple[FloatProjection, ...]

    @cached_property
    def incoming(self) -> Mapping[str, Sequence[FloatProjection]]:
        """Population -> the projections into it, in their order; a clock is no key."""
        found: dict[str, list[FloatProjection]] = {}
        for projection in self.projections:
            found.setdefault(projection.target, []).append(projection)
        return found

    def shapes(self) -> Mapping[str, Shape]:
        """Shape of every node."""
        return {"input": self.input_shape, **{p.name: p.shape for p in self.populations}}

    def clocks(self) -> frozenset[str]:
        """Populations that nothing leads into (:mod:`~spikegen.lowering.clock`); their unit of current is 1."""
        return frozenset(p.name for p in self.populations) - self.incoming.keys()

    def operations(self, rates: Mapping[str, float]) -> float:
        """Estimated synaptic operations of one evaluation, plus one update per relay neuron and timestep.

        Args:
            rates: origin of a Lif -> mean spikes per neuron and timestep. Graded nodes send at every timestep.
        """
        shapes = self.shapes()
        by_name = {p.name: p for p in self.populations}
        total = 0.0
        for projection in self.projections:
            source = by_name.get(projection.source)
            rate = 1.0 if source is None or source.is_relay else rates.get(source.origin, 0.5)
            shape = shapes[projection.source]
            fan_out = mean_fan_out(projection.kernel, shapes[projection.target], shape)
            total += rate * math.prod(shape) * fan_out
        total += sum(math.prod(p.shape) for p in self.populations if p.is_relay)
        return total * self.timesteps


def zero_bias(shape: Shape) -> FloatArray:
    """A bias of zeros, float64 [C]."""
    return np.zeros(shape[0])
