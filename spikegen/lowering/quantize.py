"""Pass: real-valued parameters to integers, one scale (LSB) per population, chosen on calibration data.

For each population in topological order, its integer inputs are known, so the current it should receive (real weights
on those inputs) is known too. Candidates for the LSB are tried; each projection takes the smallest exponent whose 8-bit
grid holds its weights; the LSB with the smallest mean squared error of the current wins, among those that interval
bounds prove free of overflow. The mean error of each channel is added to its bias (bias correction, Nagel et al. 2019,
arXiv 1906.04721, section 4.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from spikegen.errors import LoweringError
from spikegen.lowering.calibrate import Calibration
from spikegen.lowering.graph import FloatArray
from spikegen.lowering.kernels import Kernel, dense_weight
from spikegen.lowering.network import FloatNetwork, FloatPopulation, FloatProjection
from spikegen.program import Conditioning, Conv, Host, Input, Lif, Population, Program, Readout, Relay
from spikegen.program.bounds import Interval, message_interval, population_risks, projection_interval
from spikegen.program.numerics import (
    BIAS_EXP_MAX,
    BIAS_MANT_MAX,
    GRADED_BITS_MAX,
    STATE_SHIFT,
    VTH_MAX,
    WEIGHT_EXP_MAX,
    WEIGHT_MAX,
    WEIGHT_MIN,
    lif_step,
    quantize_input,
)

IntArray = npt.NDArray[np.int64]
STEPS_PER_OCTAVE = 4
# From one octave finer than the grid that fits the smallest projection to four coarser, for networks with large fan-in.
OCTAVES_FINER, OCTAVES_COARSER = 1, 4
# The largest weights of a projection may saturate: a finer grid for the many can be worth more than the range of the
# few.
CLIPS = (1.0, 0.85, 0.7)
# A reader adds a relay's message for T timesteps to a membrane of 2^17 units of current; this share leaves room for its
# bias and its other inputs.
RELAY_SHARE = 0.5
# Where a convolution reads a relay, its weights need the room: then messages are as short as those of the input.
RELAY_WEIGHTED_MAX = (1 << 7) - 1
RELAY_WEIGHTS = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True)
class InputFormat:
    """How the host quantises the image: magnitude bits, and the largest real value they hold."""

    bits: int = 7
    largest: float = 4.0

    @property
    def scale(self) -> float:
        """Real value of one unit of message."""
        return self.largest / ((1 << self.bits) - 1)


@dataclass(frozen=True, eq=False)
class _Candidate:
    population: Population
    table: npt.NDArray[np.int16] | None
    projections: tuple[Conv, ...]
    interval: Interval
    error: float
    risks: list[str]


def quantize(network: FloatNetwork, data: Calibration, input_format: InputFormat, name: str, host: Host) -> Program:
    """The integer Program of ``network`` (delays still 0) with a quantisation report.

    Raises:
        LoweringError: a population for which no scale fits.
    """
    port = Input("input", network.input_shape, input_format.bits, input_format.scale)
    frames = quantize_input(data.images, port.scale, port.bits).astype(np.int64)
    messages: dict[str, IntArray] = {"input": np.repeat(frames[:, None], network.timesteps, axis=1)}
    scales = {"input": port.scale}
    intervals = {"input": message_interval(port)}
    relay_floor = _relay_floor(network, input_format)
    populations: list[Population] = []
    projections: list[Conv] = []
    tables: dict[str, npt.NDArray[np.int16]] = {}
    rows: list[dict[str, Any]] = []
    risks: list[str] = []
    for population in network.populations:
        incoming = [p for p in network.projections if p.target == population.name]
        search = _Search(network, population, incoming, messages, scales, intervals, relay_floor)
        best = search.best()
        current = search.integer_current(best.projections)
        populations.append(best.population)
        projections += best.projections
        if best.table is not None:
            tables[population.name] = best.table
        scales[population.name] = best.population.scale if isinstance(best.population, Relay) else 1.0
        intervals[population.name] = message_interval(best.population, best.interval)
        messages[population.name] = _messages(best, current, data.steps)
        risks += best.risks
        rows.append(_report_row(best, search.power))
    return Program(
        name,
        network.timesteps,
        port,
        tuple(populations),
        tuple(projections),
        Conditioning(network.steps, tables),
        host,
        report={"quantisation": rows, "overflow_risks": risks},
    )


class _Search:
    """The search for the scale of one population."""

    def __init__(
        self,
        network: FloatNetwork,
        population: FloatPopulation,
        incoming: Sequence[FloatProjection],
        messages: dict[str, IntArray],
        scales: dict[str, float],
        intervals: dict[str, Interval],
        relay_floor: float,
    ) -> None:
        self.network, self.population, self.incoming = network, population, incoming
        self.intervals, self.relay_floor = intervals, relay_floor
        self.inputs = [_folded(messages[p.source]) for p in incoming]
        self.gains = [scales[p.source] for p in incoming]
        self.largest = [
            gain * float(np.abs(_weight(p.kernel)).max()) for p, gain in zip(incoming, self.gains, strict=True)
        ]
        relays = {p.name for p in network.populations if p.is_relay}
        self.relayed = [
            largest for p, largest in zip(incoming, self.largest, strict=True) if p.source in relays and _is_uniform(p)
        ]
        self.wanted = sum(
            (
                gain * _currents(p.kernel, _weight(p.kernel), sent)
                for p, gain, sent in zip(incoming, self.gains, self.inputs, strict=True)
            ),
            start=torch.zeros(()),
        )
        self.power = float(self.wanted.square().mean())

    def best(self) -> _Candidate:
        """The candidate with the smallest error among those proved free of overflow, else the coarsest one."""
        best: _Candidate | None = None
        for lsb in self._scales():
            for clip in CLIPS:
                candidate = self._candidate(lsb, clip, best)
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

    def _scales(self) -> list[float]:
        """The LSBs to try, coarsest first."""
        if not any(self.largest):
            raise LoweringError(f"{self.population.name}: all its weights are zero")
        # A relay's unit must be a whole number of units here, or the whole stream would be scaled wrongly.
        exact = {gain / whole for gain in self.relayed for whole in RELAY_WEIGHTS}
        pairs = [(p, value) for p, value in zip(self.incoming, self.largest, strict=True) if value > 0]
        fits = [value for p, value in pairs if not _is_uniform(p)] or [value for _, value in pairs]
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

    def integer_current(self, projections: Sequence[Conv]) -> IntArray:
        """Summed integer current int64 [N, T, C, H, W]."""
        by_time = self._current(projections).unflatten(0, (-1, self.network.timesteps))
        current: IntArray = by_time.numpy().astype(np.int64)
        return current

    def _candidate(self, lsb: float, clip: float, best: _Candidate | None) -> _Candidate | None:
        population = self.population
        if population.neuron is not None:  # the threshold must be a whole number of units
            vth = round(population.neuron[0] / lsb)
            if not 1 <= vth <= VTH_MAX:
                return None
            lsb = population.neuron[0] / vth
        projections = []
        for projection, gain, largest in zip(self.incoming, self.gains, self.largest, strict=True):
            real = _weight(projection.kernel) * (gain / lsb)
            # Loihi's 8-bit weights of mixed sign are even; those of one sign are not.
            smallest = 0 if (real >= 0).all() else 1
            exponent = max(smallest, math.ceil(math.log2(max(clip * largest / (WEIGHT_MAX * lsb), 1e-9)) - 1e-9))
            if exponent > WEIGHT_EXP_MAX:
                return None
            weight = np.clip(np.rint(real / (1 << exponent)), WEIGHT_MIN, WEIGHT_MAX)
            projections.append(_conv(projection, weight, exponent))
        low = high = np.zeros(population.shape[0], dtype=np.int64)
        for conv in projections:
            added = projection_interval(conv, self.intervals[conv.source])
            low, high = low + added[0], high + added[1]
        built = _population(population, lsb, population.bias, (low, high))
        if built is None or (
            best is not None and population_risks(built[0], (low, high), self.network.timesteps, built[1])
        ):
            return None  # does not fit, or is no proof although there is a candidate: spare the currents
        error = self.wanted - lsb * self._current(projections)
        correction = error.mean(dim=(0, 2, 3)).numpy()
        built = _population(population, lsb, population.bias + correction, (low, high))
        if built is None:
            return None
        node, table = built
        score = float((error - torch.from_numpy(correction)[:, None, None]).square().mean())
        risks = population_risks(node, (low, high), self.network.timesteps, table)
        return _Candidate(node, table, tuple(projections), (low, high), score, risks)

    def _current(self, projections: Sequence[Conv]) -> torch.Tensor:
        parts = []
        for projection, conv, sent in zip(self.incoming, projections, self.inputs, strict=True):
            weight = torch.from_numpy(conv.weight.astype(np.float64) * (1 << conv.exponent))
            parts.append(_currents(projection.kernel, weight, sent))
        return torch.stack(parts).sum(dim=0)


def _relay_floor(network: FloatNetwork, input_format: InputFormat) -> float:
    """The smallest LSB a relay may have: its largest possible message must leave the membranes of its readers room.

    One value for all relays, since a relay that reads another one cannot be coarser than it.
    """
    reach = {"input": np.full(network.input_shape[0], input_format.largest)}
    weighted = {p.source for p in network.projections if not _is_uniform(p)}
    largest = coarse = 0.0
    for population in network.populations:
        total = np.zeros(population.shape[0])
        for projection in network.projections:
            if projection.target == population.name:
                kernel = projection.kernel
                weight = np.abs(dense_weight(_weight(kernel), kernel.groups)).sum(axis=(2, 3))
                total = total + (weight @ reach[projection.source]).reshape(-1, kernel.shuffle**2).max(axis=1)
        reach[population.name] = total if population.is_relay else np.ones(population.shape[0])
        if population.is_relay:
            largest = max(largest, float(total.max()))
            if population.name in weighted:
                coarse = max(coarse, float(total.max()) / RELAY_WEIGHTED_MAX)
    return max(coarse, largest * network.timesteps / (RELAY_SHARE * (1 << 17)))


def _is_uniform(projection: FloatProjection) -> bool:
    """All nonzero weights are equal: the identity, possibly upsampled."""
    nonzero = (
        projection.kernel.weight[projection.kernel.weight != 0] if projection.kernel.weight is not None else np.ones(1)
    )
    return bool(nonzero.size and (nonzero == nonzero[0]).all())


def _weight(kernel: Kernel) -> FloatArray:
    if kernel.weight is None:
        raise LoweringError("a projection has no weight")
    return kernel.weight


def _folded(messages: IntArray) -> torch.Tensor:
    return torch.from_numpy(messages.reshape(-1, *messages.shape[2:]).astype(np.float64))


def _currents(kernel: Kernel, weight: FloatArray | torch.Tensor, messages: torch.Tensor) -> torch.Tensor:
    """``kernel`` with ``weight`` on messages [B, C, H, W] in float64 (exact for integers below 2^53)."""
    currents = functional.conv2d(
        messages, torch.as_tensor(weight), None, kernel.stride, kernel.padding, kernel.dilation, kernel.groups
    )
    return functional.pixel_shuffle(currents, kernel.shuffle)


def _conv(projection: FloatProjection, weight: FloatArray, exponent: int) -> Conv:
    k = projection.kernel
    return Conv(
        projection.name,
        projection.source,
        projection.target,
        weight.astype(np.int8),
        exponent,
        k.stride,
        k.padding,
        k.dilation,
        k.groups,
        k.shuffle,
    )


def _population(
    population: FloatPopulation, lsb: float, bias: FloatArray, interval: Interval
) -> tuple[Population, npt.NDArray[np.int16] | None] | None:
    """The integer population for a given LSB, or None if something does not fit."""
    name, shape = population.name, population.shape
    if population.weights is not None:
        return Readout(name, shape, population.weights, bias, lsb), None
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


def _messages(best: _Candidate, current: IntArray, steps: IntArray) -> IntArray:
    """Messages of the quantised population on the calibration data, int64 [N, T, C, H, W]."""
    node = best.population
    if not isinstance(node, Lif):
        return current
    mantissa = node.bias_mant.astype(np.int64)[None]
    if best.table is not None:
        mantissa = mantissa + best.table[steps]
    bias = (mantissa << node.bias_exp)[:, :, None, None]
    u = v = np.zeros_like(current[:, 0])
    spikes = np.empty_like(current)
    for t in range(current.shape[1]):
        u, v, spikes[:, t] = lif_step(u, v, current[:, t], vth=node.vth, du=node.du, dv=node.dv, bias=bias)
    return spikes


def _report_row(best: _Candidate, power: float) -> dict[str, Any]:
    node = best.population
    row: dict[str, Any] = {
        "population": node.name,
        "kind": type(node).__name__,
        "lsb": node.scale,
        "current_min": int(best.interval[0].min()),
        "current_max": int(best.interval[1].max()),
        "exponents": {conv.name: conv.exponent for conv in best.projections},
        "relative_error": math.sqrt(best.error / power) if power > 0 else 0.0,
        "overflow": "possible" if best.risks else "impossible",
    }
    if isinstance(node, Lif):
        row["vth"] = node.vth
    return row
