"""The search for the scale (LSB) of one population.

Where its weights, biases and threshold lie on a grid of their own, that grid is taken
(:mod:`~spikegen.lowering.native_grid`). Else candidates for the LSB are tried; each projection takes the smallest
exponent whose 8-bit grid holds its weights; the LSB with the smallest mean squared error of the current on calibration
data wins, among those that interval bounds prove free of overflow; where they prove none, coarser ones are tried.
Large populations are compared on a sample of channels and frames (:mod:`~spikegen.lowering.currents`). Gains per
timestep become integer payloads, tried with every number of bits.
The mean error of each channel is added to its bias (bias correction, Nagel et al. 2019, arXiv 1906.04721, section 4.2).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from spikegen.errors import LoweringError
from spikegen.lowering.currents import (
    EXACT_FLOAT32,
    IntArray,
    currents,
    folded,
    is_uniform,
    rows_of,
    sample,
    weight_of,
    with_gains,
)
from spikegen.lowering.graph import FloatArray
from spikegen.lowering.native_grid import Grid, native_grids, native_threshold, unit_grid
from spikegen.lowering.nearest import nearest_conv, quantized_population
from spikegen.lowering.network import FloatNetwork, FloatPopulation
from spikegen.lowering.payloads import PAYLOAD_BITS, Payload, choices
from spikegen.program import Conv, Lif, Population
from spikegen.program.bounds import Interval, population_risks, projection_interval
from spikegen.program.numerics import (
    DECAY_MAX,
    STATE_SHIFT,
    VTH_MAX,
    WEIGHT_EXP_MAX,
    WEIGHT_MAX,
)

STEPS_PER_OCTAVE = 4
# Steps from four octaves coarser than the grid that fits the smallest projection, for networks with large fan-in, to
# one finer. Coarser still, where the weights have only few values, are those that are tried only for want of a proof,
# and taken only if the error of the current, relative to the current, is TOLERATED.
NEAR = range(4 * STEPS_PER_OCTAVE, -1 * STEPS_PER_OCTAVE - 1, -1)
FAR = range(8 * STEPS_PER_OCTAVE, 4 * STEPS_PER_OCTAVE, -1)
TOLERATED = 0.2
# The largest weights of a projection may saturate: a finer grid for the many can be worth more than the range of the
# few.
CLIPS = (1.0, 0.85, 0.7)
RELAY_WEIGHTS = (1, 2, 3, 4, 6, 8)


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
        power: mean square of the current that is wanted.
        current: the summed integer current on the calibration data, float64 [N * T, C, H, W].
        payloads: of the projections.
    """

    population: Population
    table: npt.NDArray[np.int16] | None
    projections: tuple[Conv, ...]
    interval: Interval
    error: float
    risks: list[str]
    power: float
    current: torch.Tensor
    payloads: Sequence[Payload] = ()


@dataclass(frozen=True, eq=False)
class _Proposal:
    """An LSB and exponents whose threshold and bias fit.

    Attributes:
        lsb, exponents, payloads: what defines it.
        error: mean squared error of the current in the sample, less each channel's mean.
        risky: whether a channel of the sample may overflow.
    """

    lsb: float
    exponents: tuple[int, ...]
    payloads: Sequence[Payload]
    error: float
    risky: bool


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
        self.incoming = network.incoming[population.name]
        self.weights = [weight_of(p.kernel) for p in self.incoming]
        self.signed = [bool((weight < 0).any()) for weight in self.weights]
        self.intervals, self.relay_floor = intervals, relay_floor
        self.inputs = [folded(messages[p.source]) for p in self.incoming]
        self.scales = [scales[p.source] for p in self.incoming]
        self.largest = [
            scale * float(np.abs(weight).max()) for weight, scale in zip(self.weights, self.scales, strict=True)
        ]
        self.payloads = choices([p.kernel.gains for p in self.incoming], payload_bits)
        self.clocks = network.clocks()
        self.relays = {p.name for p in network.populations if p.is_relay}
        self.uniform = [is_uniform(p) for p in self.incoming]
        self.frames = np.arange(len(self.inputs[0]))
        self.sample = sample(population, self.incoming, len(self.frames), self._reach())

    def best(self) -> Candidate:
        """The candidate without error, else that of the smallest error among those free of overflow, else the first."""
        native = self._native()
        if native is not None:
            return native
        near = [proposal for payloads in self.payloads for proposal in self._proposals(payloads, NEAR)]
        found = self._proved(near)
        if found is not None:
            return found
        far = [proposal for payloads in self.payloads for proposal in self._proposals(payloads, FAR)]
        found = self._proved(far)
        if found is not None and found.error <= TOLERATED**2 * found.power:
            return found
        for proposal in near:
            candidate = self._candidate(proposal, proved=False)
            if candidate is not None:
                return candidate
        raise LoweringError(
            f"{self.population.name}: no scale fits its weights, threshold and bias; the largest weight is "
            f"{max(self.largest):.4g}, the largest bias {float(np.abs(self.population.bias).max()):.4g}"
        )

    def _proved(self, proposals: Sequence[_Proposal]) -> Candidate | None:
        """The one of the smallest error in the sample among those that are free of overflow."""
        for proposal in sorted((p for p in proposals if not p.risky), key=lambda p: p.error):
            candidate = self._candidate(proposal, proved=True)
            if candidate is not None:
                return candidate
        return None

    def _reach(self) -> FloatArray:
        """How far the current of each channel can get, float64 [C], real; roughly for kernels of several groups."""
        reach = np.zeros(self.population.shape[0])
        for projection, weight, scale in zip(self.incoming, self.weights, self.scales, strict=True):
            low, high = self.intervals[projection.source]
            rows = np.abs(weight).sum(axis=(1, 2, 3)) * scale * max(-int(low.min()), int(high.max()))
            reach += rows.reshape(len(reach), -1).max(axis=1)
        return reach

    def _native(self) -> Candidate | None:
        """The candidate on the grid on which the population lies already, or None.

        The state of a leaky neuron is rounded: only the grid that the model counts in, if it does, is its own.
        """
        population, steps = self.population, self.network.timesteps
        payloads = next((found for found in self.payloads if all(p.error == 0.0 for p in found)), None)
        if payloads is None:
            return None
        factors = [scale * chosen.unit for scale, chosen in zip(self.scales, payloads, strict=True)]
        biases = population.bias if population.table is None else population.bias + population.table
        for grid in self._grids([w * factor for w, factor in zip(self.weights, factors, strict=True)]):
            lsb = grid.lsb
            if population.is_relay and lsb < self.relay_floor:
                break
            vth = None if population.neuron is None else native_threshold(population.neuron[0], lsb, biases)
            if population.neuron is not None and vth is None:
                continue
            projections = self._projections(lsb, grid.exponents, payloads)
            interval = self._interval(projections)
            built = quantized_population(population, lsb, population.bias, interval)
            if built is None:
                continue
            node, table = built
            if isinstance(node, Lif) and vth is not None:
                node = dataclasses.replace(node, vth=vth)
                kept = (node.bias_mant if table is None else node.bias_mant + table).astype(np.int64) << node.bias_exp
                if not np.array_equal(kept, np.rint(biases / lsb * (1 << STATE_SHIFT))):
                    continue
            if population_risks(node, interval, steps, table):
                break  # a finer LSB only has less room
            current = self._current(projections)
            power = float(current.square().mean()) * lsb**2
            return Candidate(node, table, projections, interval, 0.0, [], power, current, payloads)
        return None

    def _grids(self, weights: Sequence[FloatArray]) -> list[Grid]:
        """The grids to look at, coarsest LSB first, for these real weights."""
        neuron, unit = self.population.neuron, self.population.unit
        if neuron is None or neuron[1:] == (DECAY_MAX, 0):
            return native_grids(weights)
        grid = None if unit is None or (neuron[0] / unit) % 1.0 else unit_grid(weights, unit)
        return [] if grid is None else [grid]

    def _scales(self, largest: Sequence[float], steps: range) -> list[float]:
        """The LSBs to try, coarsest first, where the largest weights of the projections are ``largest``."""
        if not any(largest):
            raise LoweringError(f"{self.population.name}: all its weights are zero")
        pairs = [
            (p, value, uniform)
            for p, value, uniform in zip(self.incoming, largest, self.uniform, strict=True)
            # A bias, or what of a gain changes, takes whatever grid there is.
            if value > 0 and p.source not in self.clocks and p.share == 1.0
        ]
        # A relay's unit must be a whole number of units here, or the whole stream would be scaled wrongly.
        relayed = [value for p, value, uniform in pairs if p.source in self.relays and uniform]
        exact = {value / whole for value in relayed for whole in RELAY_WEIGHTS}
        fits = [value for _, value, uniform in pairs if not uniform] or [value for _, value, _ in pairs]
        # At `full` the smallest projection fills its 8 bits at exponent 1.
        full = min(fits) / (2 * WEIGHT_MAX)
        scales = {full * 2.0 ** (step / STEPS_PER_OCTAVE) for step in steps}
        if self.population.is_relay:
            # Readers with this threshold can then hold the relay's unit exactly, as the weight 1.
            unit = self._reader_threshold()
            scales = {unit / max(1, math.floor(unit / max(lsb, self.relay_floor))) for lsb in scales}
        if self.population.is_relay and exact:
            # What the relays before it add up to is in their unit; a finer one must leave the readers room too.
            exact = {lsb for lsb in exact if lsb >= self.relay_floor} or {max(exact)}
        return sorted(exact or scales, reverse=True)

    def _reader_threshold(self) -> float:
        readers = {p.target for p in self.network.projections if p.source == self.population.name}
        thresholds = [p.neuron[0] for p in self.network.populations if p.name in readers and p.neuron is not None]
        return thresholds[0] if thresholds else 1.0

    def _proposals(self, payloads: Sequence[Payload], steps: range) -> Iterator[_Proposal]:
        """Every choice of LSB and exponents that fits, coarsest LSB first; equal real weights once."""
        population = self.population
        largest = [value * chosen.unit for value, chosen in zip(self.largest, payloads, strict=True)]
        seen: set[tuple[float, ...]] = set()
        for coarse in self._scales(largest, steps):
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
                seen.add(grid)
                proposal = self._proposal(lsb, exponents, payloads)
                if proposal is not None:
                    yield proposal

    def _exponents(self, lsb: float, clip: float, largest: Sequence[float]) -> tuple[int, ...]:
        exponents = []
        for signed, value in zip(self.signed, largest, strict=True):
            fitting = math.ceil(math.log2(max(clip * value / (WEIGHT_MAX * lsb), 1e-9)) - 1e-9)
            exponents.append(max(int(signed), fitting))  # Loihi's 8-bit weights of mixed sign are even
        return tuple(exponents)

    def _proposal(self, lsb: float, exponents: tuple[int, ...], payloads: Sequence[Payload]) -> _Proposal | None:
        """The proposal with its error in the sample, or None if its threshold or bias does not fit."""
        channels, frames = self.sample.channels, self.sample.frames
        projections = self._projections(lsb, exponents, payloads, channels)
        found = self._interval(projections, channels)
        low = high = np.zeros(self.population.shape[0], dtype=np.int64)
        low, high = low.copy(), high.copy()
        low[channels], high[channels] = found
        built = quantized_population(self.population, lsb, self.population.bias, (low, high))
        if built is None:
            return None
        risky = bool(population_risks(built[0], (low, high), self.network.timesteps, built[1]))
        if risky:
            return _Proposal(lsb, exponents, payloads, math.inf, risky)
        error = self._error(lsb, projections, payloads, channels, frames)
        error -= error.mean(dim=(0, 2, 3), keepdim=True)
        return _Proposal(lsb, exponents, payloads, float(error.square_().mean(dtype=torch.float64)), risky)

    def _candidate(self, proposal: _Proposal, proved: bool) -> Candidate | None:
        """``proposal`` with its bias corrected; None if that does not fit, or is not free of overflow (``proved``)."""
        lsb, payloads, steps = proposal.lsb, proposal.payloads, self.network.timesteps
        projections = self._projections(lsb, proposal.exponents, payloads)
        interval = self._interval(projections)
        built = quantized_population(self.population, lsb, self.population.bias, interval)
        if built is None or (proved and population_risks(built[0], interval, steps, built[1])):
            return None
        error = self._error(lsb, projections, payloads, np.arange(self.population.shape[0]), self.frames)
        correction = error.mean(dim=(0, 2, 3), dtype=torch.float64).numpy()
        built = quantized_population(self.population, lsb, self.population.bias + correction, interval)
        if built is None:
            return None
        node, table = built
        risks = population_risks(node, interval, steps, table)
        if proved and risks:
            return None
        current = self._current(projections)
        power = float((lsb * current).add_(error).square_().mean())
        error -= torch.from_numpy(correction).to(error)[:, None, None]
        score = float(error.square_().mean(dtype=torch.float64))
        return Candidate(node, table, projections, interval, score, risks, power, current, payloads)

    def _projections(
        self,
        lsb: float,
        exponents: Sequence[int],
        payloads: Sequence[Payload],
        channels: IntArray | None = None,
    ) -> tuple[Conv, ...]:
        """The nearest integer projections; of some output channels only, but all of a kernel with several groups."""
        result = []
        for p, weight, scale, exponent, chosen in zip(
            self.incoming, self.weights, self.scales, exponents, payloads, strict=True
        ):
            rows = weight if channels is None or p.kernel.groups > 1 else weight[rows_of(p.kernel, channels)]
            result.append(nearest_conv(p, rows * (scale * chosen.unit / lsb), exponent, chosen))
        return tuple(result)

    def _interval(self, projections: Sequence[Conv], channels: IntArray | None = None) -> Interval:
        """Bounds of the current; of some channels only where ``projections`` are."""
        low = high = np.zeros(self.population.shape[0] if channels is None else len(channels), dtype=np.int64)
        for conv in projections:
            added = projection_interval(conv, self.intervals[conv.source])
            if channels is not None and conv.groups > 1:
                added = added[0][channels], added[1][channels]
            low, high = low + added[0], high + added[1]
        return low, high

    def _error(
        self,
        lsb: float,
        projections: Sequence[Conv],
        payloads: Sequence[Payload],
        channels: IntArray,
        frames: IntArray,
    ) -> torch.Tensor:
        """Wanted current less the current of ``projections``, in frames and channels, [F, C, H, W]; 0 where exact."""
        total = torch.zeros(())
        for p, weight, scale, conv, chosen, messages in zip(
            self.incoming, self.weights, self.scales, projections, payloads, self.inputs, strict=True
        ):
            sent = messages if len(frames) == len(messages) else messages[torch.from_numpy(frames)]
            rows = weight if len(conv.weight) == len(weight) else weight[rows_of(p.kernel, channels)]
            wanted, unit = rows * scale, lsb * (1 << conv.exponent)
            if p.kernel.gains is None:
                error = currents(p.kernel, wanted - conv.weight * unit, sent)
            else:
                error = with_gains(currents(p.kernel, wanted, sent), p.kernel.gains, frames)
                error -= with_gains(currents(p.kernel, conv.weight * unit, sent), chosen.integers, frames)
            total = error[:, channels].add_(total) if error.shape[1] != len(channels) else error.add_(total)
        return total

    def _current(self, projections: Sequence[Conv]) -> torch.Tensor:
        """The summed integer current of all projections, float64 [N * T, C, H, W], exact."""
        total = torch.zeros((), dtype=torch.float64)
        for projection, conv, sent in zip(self.incoming, projections, self.inputs, strict=True):
            reach = float(np.abs(conv.weight.astype(np.int16)).sum(axis=(1, 2, 3)).max() * sent.abs().max())
            narrow = sent if reach < EXACT_FLOAT32 else sent.double()
            current = currents(projection.kernel, conv.weight, narrow)
            scaled = with_gains(current.double().mul_(1 << conv.exponent), conv.gains, self.frames)
            total = scaled.add_(total)
        return total
