"""The search for the scale (LSB) of one population.

Candidates for the LSB are tried; each projection takes the smallest exponent whose 8-bit grid holds its weights; the
LSB with the smallest mean squared error of the current on calibration data wins, among those that interval bounds prove
free of overflow. Gains per timestep become integer payloads, tried with every number of bits.
The mean error of each channel is added to its bias (bias correction, Nagel et al. 2019, arXiv 1906.04721, section 4.2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from spikegen.errors import LoweringError
from spikegen.lowering.graph import FloatArray
from spikegen.lowering.kernels import Kernel
from spikegen.lowering.network import FloatNetwork, FloatPopulation, FloatProjection
from spikegen.lowering.payloads import PAYLOAD_BITS, Payload, choices
from spikegen.program import Conv, Lif, Population, Readout, Relay
from spikegen.program.bounds import Interval, population_risks, projection_interval
from spikegen.program.numerics import (
    BIAS_EXP_MAX,
    BIAS_MANT_MAX,
    GRADED_BITS_MAX,
    STATE_SHIFT,
    VTH_MAX,
    WEIGHT_EXP_MAX,
    WEIGHT_MAX,
    WEIGHT_MIN,
)

STEPS_PER_OCTAVE = 4
# From one octave finer than the grid that fits the smallest projection to four coarser, for networks with large fan-in.
OCTAVES_FINER, OCTAVES_COARSER = 1, 4
# The largest weights of a projection may saturate: a finer grid for the many can be worth more than the range of the
# few.
CLIPS = (1.0, 0.85, 0.7)
RELAY_WEIGHTS = (1, 2, 3, 4, 6, 8)
_EXACT_FLOAT32 = 1 << 24  # integers and their sums below this are exact in float32, which is several times as fast


@dataclass(frozen=True, eq=False)
class Candidate:
    """A population with its projections, quantised.

    Attributes:
        population: its scale is the LSB.
        table: conditioning, int16 [K, C], if there is any.
        projections: into it.
        interval: bounds of its current.
        error: mean squared error of the current, bias correction included.
        risks: what may overflow.
        current: the summed integer current on the calibration data, float64 [N * T, C, H, W].
        payloads: of the projections.
    """

    population: Population
    table: npt.NDArray[np.int16] | None
    projections: tuple[Conv, ...]
    interval: Interval
    error: float
    risks: list[str]
    current: torch.Tensor
    payloads: Sequence[Payload] = ()


@dataclass(frozen=True, eq=False)
class _Proposal:
    """Weights for one LSB whose threshold and bias fit, and whether bounds prove it (before bias correction)."""

    lsb: float
    projections: tuple[Conv, ...]
    interval: Interval
    proved: bool
    payloads: Sequence[Payload]


class ScaleSearch:
    """The search for the scale of one population.

    Args:
        network: all of it.
        population: the one to quantise.
        messages: node -> integer messages on the calibration data, [N, T, C, H, W].
        scales: node -> real value of one unit of its messages.
        intervals: node -> bounds of its messages.
        relay_floor: the smallest LSB a relay may have.
        payload_bits: the most bits of a gain.
    """

    def __init__(
        self,
        network: FloatNetwork,
        population: FloatPopulation,
        messages: Mapping[str, npt.NDArray[np.int32]],
        scales: Mapping[str, float],
        intervals: Mapping[str, Interval],
        relay_floor: float,
        payload_bits: int = PAYLOAD_BITS,
    ) -> None:
        self.network, self.population = network, population
        self.incoming = [p for p in network.projections if p.target == population.name]
        self.intervals, self.relay_floor = intervals, relay_floor
        self.inputs = [_folded(messages[p.source]) for p in self.incoming]
        self.scales = [scales[p.source] for p in self.incoming]
        self.largest = [
            scale * float(np.abs(weight_of(p.kernel)).max())
            for p, scale in zip(self.incoming, self.scales, strict=True)
        ]
        self.payloads = choices([p.kernel.gains for p in self.incoming], payload_bits)
        self.clocks = network.clocks()
        self.relays = {p.name for p in network.populations if p.is_relay}
        self.wanted = sum(
            (
                _with_gains(_currents(p.kernel, weight_of(p.kernel), sent.double()).mul_(scale), p.kernel.gains)
                for p, scale, sent in zip(self.incoming, self.scales, self.inputs, strict=True)
            ),
            start=torch.zeros(()),
        )
        self.power = float(self.wanted.square().mean())

    def best(self) -> Candidate:
        """The candidate with the smallest error among those proved free of overflow, else the coarsest one."""
        proposals = [proposal for payloads in self.payloads for proposal in self._proposals(payloads)]
        best: Candidate | None = None
        for proposal in [p for p in proposals if p.proved] or proposals[:1]:
            candidate = self._candidate(proposal)
            if candidate is None:
                continue
            if best is None or (not candidate.risks and (best.risks or candidate.error < best.error)):
                best = candidate
        if best is None:
            raise LoweringError(
                f"{self.population.name}: no scale fits its weights, threshold and bias; the largest weight is "
                f"{max(self.largest):.4g}, the largest bias {float(np.abs(self.population.bias).max()):.4g}"
            )
        return best

    def _scales(self, largest: Sequence[float]) -> list[float]:
        """The LSBs to try, coarsest first, where the largest weights of the projections are ``largest``."""
        if not any(largest):
            raise LoweringError(f"{self.population.name}: all its weights are zero")
        pairs = [
            (p, value)
            for p, value in zip(self.incoming, largest, strict=True)
            if value > 0 and p.source not in self.clocks  # a bias takes whatever grid there is
        ]
        plain = {value for p, value in pairs if is_uniform(p) and (weight_of(p.kernel) >= 0).all()}
        if self.population.weights is not None and plain == {value for _, value in pairs} and len(plain) == 1:
            return list(plain)  # a readout of messages as they are: the weight 1
        # A relay's unit must be a whole number of units here, or the whole stream would be scaled wrongly.
        relayed = [value for p, value in pairs if p.source in self.relays and is_uniform(p)]
        exact = {value / whole for value in relayed for whole in RELAY_WEIGHTS}
        fits = [value for p, value in pairs if not is_uniform(p)] or [value for _, value in pairs]
        steps = range(OCTAVES_COARSER * STEPS_PER_OCTAVE, -OCTAVES_FINER * STEPS_PER_OCTAVE - 1, -1)
        # At `full` the smallest projection fills its 8 bits at exponent 1.
        full = min(fits) / (2 * WEIGHT_MAX)
        scales = {full * 2.0 ** (step / STEPS_PER_OCTAVE) for step in steps}
        if self.population.is_relay:
            # Readers with this threshold can then hold the relay's unit exactly, as the weight 1.
            unit = self._reader_threshold()
            scales = {unit / max(1, math.floor(unit / max(lsb, self.relay_floor))) for lsb in scales}
        return sorted(exact or scales, reverse=True)

    def _reader_threshold(self) -> float:
        readers = {p.target for p in self.network.projections if p.source == self.population.name}
        thresholds = [p.neuron[0] for p in self.network.populations if p.name in readers and p.neuron is not None]
        return thresholds[0] if thresholds else 1.0

    def _proposals(self, payloads: Sequence[Payload]) -> Iterator[_Proposal]:
        """Every choice of LSB and exponents that fits, coarsest LSB first; equal real weights once."""
        population = self.population
        largest = [value * chosen.unit for value, chosen in zip(self.largest, payloads, strict=True)]
        seen: set[tuple[float, ...]] = set()
        for coarse in self._scales(largest):
            lsb = coarse
            if population.neuron is not None:  # the threshold must be a whole number of units
                vth = round(population.neuron[0] / coarse)
                if not 1 <= vth <= VTH_MAX:
                    continue
                lsb = population.neuron[0] / vth
            for clip in CLIPS:
                exponents = self._exponents(lsb, clip, largest)
                grid = tuple(lsb * (1 << exponent) for exponent in exponents)
                if max(exponents) > WEIGHT_EXP_MAX or grid in seen:
                    continue  # a finer LSB with the same real weights only has less room
                projections = tuple(
                    _conv(p, weight_of(p.kernel) * (scale * chosen.unit / lsb), exponent, chosen)
                    for p, scale, exponent, chosen in zip(self.incoming, self.scales, exponents, payloads, strict=True)
                )
                interval = self._interval(projections)
                built = quantized_population(population, lsb, population.bias, interval)
                if built is None:
                    continue
                proved = not population_risks(built[0], interval, self.network.timesteps, built[1])
                if proved:
                    seen.add(grid)
                yield _Proposal(lsb, projections, interval, proved, payloads)

    def _exponents(self, lsb: float, clip: float, largest: Sequence[float]) -> list[int]:
        exponents = []
        for projection, value in zip(self.incoming, largest, strict=True):
            # Loihi's 8-bit weights of mixed sign are even; those of one sign are not.
            smallest = 0 if (weight_of(projection.kernel) >= 0).all() else 1
            fitting = math.ceil(math.log2(max(clip * value / (WEIGHT_MAX * lsb), 1e-9)) - 1e-9)
            exponents.append(max(smallest, fitting))
        return exponents

    def _interval(self, projections: Sequence[Conv]) -> Interval:
        low = high = np.zeros(self.population.shape[0], dtype=np.int64)
        for conv in projections:
            added = projection_interval(conv, self.intervals[conv.source])
            low, high = low + added[0], high + added[1]
        return low, high

    def _candidate(self, proposal: _Proposal) -> Candidate | None:
        """``proposal`` with its bias corrected and its error, or None if the corrected bias does not fit."""
        current = self._current(proposal.projections)
        error = (proposal.lsb * current).neg_().add_(self.wanted)  # in place: these are the largest arrays of an export
        correction = error.mean(dim=(0, 2, 3)).numpy()
        bias = self.population.bias + correction
        built = quantized_population(self.population, proposal.lsb, bias, proposal.interval)
        if built is None:
            return None
        node, table = built
        score = float(error.sub_(torch.from_numpy(correction)[:, None, None]).square_().mean())
        risks = population_risks(node, proposal.interval, self.network.timesteps, table)
        return Candidate(node, table, proposal.projections, proposal.interval, score, risks, current, proposal.payloads)

    def _current(self, projections: Sequence[Conv]) -> torch.Tensor:
        """The summed integer current of all projections, float64 [N * T, C, H, W], exact."""
        total = torch.zeros((), dtype=torch.float64)
        for projection, conv, sent in zip(self.incoming, projections, self.inputs, strict=True):
            mantissas = conv.weight.astype(np.float64)
            reach = float(np.abs(mantissas).sum(axis=(1, 2, 3)).max() * sent.abs().max())
            narrow = sent if reach < _EXACT_FLOAT32 else sent.double()
            current = _currents(projection.kernel, torch.from_numpy(mantissas).to(narrow), narrow)
            scaled = _with_gains(current.double().mul_(1 << conv.exponent), conv.gains)
            total = scaled.add_(total)
        return total


def is_uniform(projection: FloatProjection) -> bool:
    """All nonzero weights are equal at every timestep: the identity, possibly upsampled."""
    weight = weight_of(projection.kernel)
    nonzero = weight[weight != 0]
    return bool(projection.kernel.gains is None and nonzero.size and (nonzero == nonzero[0]).all())


def weight_of(kernel: Kernel) -> FloatArray:
    """The weight of a kernel that has one."""
    if kernel.weight is None:
        raise LoweringError("a projection has no weight")
    return kernel.weight


def _folded(messages: npt.NDArray[np.int32]) -> torch.Tensor:
    """Messages [N * T, C, H, W] in float32 where that is exact, else in float64."""
    exact = max(-int(messages.min()), int(messages.max())) < _EXACT_FLOAT32
    return torch.from_numpy(messages.reshape(-1, *messages.shape[2:]).astype(np.float32 if exact else np.float64))


def _currents(kernel: Kernel, weight: FloatArray | torch.Tensor, messages: torch.Tensor) -> torch.Tensor:
    """``kernel`` with ``weight`` on messages [B, C, H, W], both of one floating type."""
    currents = functional.conv2d(
        messages, torch.as_tensor(weight), None, kernel.stride, kernel.padding, kernel.dilation, kernel.groups
    )
    return currents if kernel.shuffle == 1 else functional.pixel_shuffle(currents, kernel.shuffle)


def _with_gains(currents: torch.Tensor, gains: npt.NDArray[Any] | None) -> torch.Tensor:
    """``currents`` [N * T, ...] times the gain of each timestep, in place; None or empty: as they are."""
    if gains is not None and gains.size:
        by_time = currents.unflatten(0, (-1, len(gains)))
        by_time.mul_(torch.from_numpy(gains.astype(np.float64)).reshape(-1, 1, 1, 1))
    return currents


def _conv(projection: FloatProjection, units: FloatArray, exponent: int, payload: Payload) -> Conv:
    """The projection whose weight is nearest to ``units``, in units of the LSB."""
    k = projection.kernel
    weight = np.clip(np.rint(units / (1 << exponent)), WEIGHT_MIN, WEIGHT_MAX).astype(np.int8)
    return Conv(
        projection.name,
        projection.source,
        projection.target,
        weight,
        exponent,
        k.stride,
        k.padding,
        k.dilation,
        k.groups,
        k.shuffle,
        gains=payload.integers,
    )


def quantized_population(
    population: FloatPopulation, lsb: float, bias: FloatArray, interval: Interval
) -> tuple[Population, npt.NDArray[np.int16] | None] | None:
    """The integer population for a given LSB, or None if something does not fit."""
    name, shape = population.name, population.shape
    if population.weights is not None:
        return Readout(name, shape, population.weights, bias, lsb, population.tail), None
    if population.neuron is None:
        bits = max(1, int(max(-interval[0].min(), interval[1].max())).bit_length())
        return (Relay(name, shape, bits, lsb), None) if bits <= GRADED_BITS_MAX else None
    threshold, du, dv = population.neuron
    total = bias if population.table is None else bias + population.table
    units = np.concatenate([np.atleast_2d(total), bias[None]]) / lsb * (1 << STATE_SHIFT)
    exponent = 0
    while np.abs(np.rint(units / (1 << exponent))).max() > BIAS_MANT_MAX:
        exponent += 1
        if exponent > BIAS_EXP_MAX:
            return None
    mantissas = np.rint(units / (1 << exponent)).astype(np.int64)
    node = Lif(
        name,
        shape,
        round(threshold / lsb),
        du,
        dv,
        mantissas[-1],
        exponent,
        lsb,
        population.origin,
        population.origin_start,
    )
    table = None if population.table is None else (mantissas[:-1] - mantissas[-1]).astype(np.int16)
    return node, table
