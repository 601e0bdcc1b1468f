"""Gains per timestep as the payload of spikes: small integers and a unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spikegen.lowering.graph import FloatArray

PAYLOAD_BITS = 4  # the most that are tried: every bit of a payload is one less for the weights


@dataclass(frozen=True, eq=False)
class Payload:
    """``unit * integers[t]`` stands for the gain of timestep t.

    Attributes:
        integers: int32 [T]; empty for 1 at every timestep.
        unit: the weights of the projection are scaled by it.
        error: ``|gains - unit * integers| / |gains|`` (L2 norms).
    """

    integers: npt.NDArray[np.int32]
    unit: float
    error: float

    @property
    def bits(self) -> int:
        """Magnitude bits of the largest integer; 0 without gains."""
        return int(np.abs(self.integers).max(initial=0)).bit_length()

    @property
    def largest(self) -> float:
        """The largest gain that it stands for, by magnitude."""
        return self.unit * int(np.abs(self.integers).max(initial=1))


def payload(gains: FloatArray | None, bits: int) -> Payload:
    """The integers of at most ``bits`` bits that come nearest to ``gains`` (float64 [T]), the smallest of equally near.

    For every whole M below ``2^bits`` the largest gain becomes M, the others are rounded, and the unit is that of the
    smallest squared error.
    """
    none = np.empty(0, dtype=np.int32)
    if gains is None:
        return Payload(none, 1.0, 0.0)
    size = float(np.linalg.norm(gains))
    if size == 0.0:
        return Payload(np.zeros(len(gains), dtype=np.int32), 1.0, 0.0)
    best: Payload | None = None
    for whole in range(1, 1 << bits):
        integers = np.rint(gains / np.abs(gains).max() * whole)
        unit = float(gains @ integers / (integers @ integers))
        error = float(np.linalg.norm(gains - unit * integers)) / size
        if best is None or error < best.error - 1e-12:
            best = Payload(none if (integers == 1).all() else integers.astype(np.int32), unit, error)
    return best or Payload(none, 1.0, 0.0)


def choices(gains: Sequence[FloatArray | None], bits: int) -> list[list[Payload]]:
    """The payloads of several projections into one population, of 1 .. ``bits`` bits, fewest first, without repeats."""
    found: list[list[Payload]] = []
    seen: set[tuple[bytes, ...]] = set()
    for limit in range(1, bits + 1):
        payloads = [payload(values, limit) for values in gains]
        key = tuple(chosen.integers.tobytes() for chosen in payloads)
        if key not in seen:
            seen.add(key)
            found.append(payloads)
    return found
