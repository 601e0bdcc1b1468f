"""Pass: real-valued parameters to integers, one scale (LSB) per population, chosen on calibration data.

For each population in topological order, its integer inputs are known, so the current it should receive (real weights
on those inputs) is known too; :mod:`~spikegen.lowering.scale_search` finds the LSB that comes nearest to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from spikegen.errors import LoweringError
from spikegen.lowering.calibrate import Calibration
from spikegen.lowering.input_format import InputFormat
from spikegen.lowering.nearest import quantized_population
from spikegen.lowering.network import FloatNetwork, FloatPopulation, FloatProjection
from spikegen.lowering.payloads import PAYLOAD_BITS
from spikegen.lowering.relay_room import relay_floor
from spikegen.lowering.scale_search import Candidate, ScaleSearch
from spikegen.program import Conditioning, Conv, Lif, Population, Program, Relay
from spikegen.program.bounds import message_interval
from spikegen.program.numerics import delayed, lif_step

Messages = npt.NDArray[np.int32]


def quantize(
    network: FloatNetwork,
    data: Calibration,
    input_format: InputFormat,
    name: str,
    ann_macs: int = 0,
    payload_bits: int = PAYLOAD_BITS,
) -> Program:
    """The integer Program of ``network`` (delays still 0) with a quantisation report.

    Args:
        network: populations and kernels with real weights.
        data: calibration inputs and their steps.
        input_format: quantisation of the input.
        name: of the Program.
        ann_macs: multiply-accumulates of the dense network of the same shape.
        payload_bits: the most bits of the gain of a timestep.

    Raises:
        LoweringError: a population for which no scale fits.
    """
    port = input_format.port(network.input_shape)
    frames = port.quantize(data.images)
    if not port.streamed:
        frames = np.repeat(frames[:, None], network.timesteps, axis=1)
    messages: dict[str, Messages] = {"input": frames}
    del frames
    last_reader = {p.source: p.target for p in network.projections}  # projections are in the order of their targets
    scales = {"input": port.scale}
    intervals = {"input": message_interval(port)}
    floor = relay_floor(network, port)
    populations: list[Population] = []
    projections: list[Conv] = []
    tables: dict[str, npt.NDArray[np.int16]] = {}
    rows: list[dict[str, Any]] = []
    risks: list[str] = []
    clocks = network.clocks()
    for population in network.populations:
        if population.name in clocks:
            best = _clock(population, len(data.steps) * network.timesteps)
        else:
            best = ScaleSearch(network, population, messages, scales, intervals, floor, payload_bits).best()
        populations.append(best.population)
        projections += best.projections
        if best.table is not None:
            tables[population.name] = best.table
        scales[population.name] = best.population.scale if isinstance(best.population, Relay) else 1.0
        intervals[population.name] = message_interval(best.population, best.interval)
        if population.name in last_reader:
            messages[population.name] = _messages(best, network.timesteps, data.steps)
        for heard in [node for node in messages if last_reader[node] == population.name]:
            del messages[heard]  # nothing else reads them
        risks += best.risks
        rows.append(_report_row(best, network.incoming.get(population.name, ())))
    return Program(
        name,
        network.timesteps,
        port,
        tuple(populations),
        tuple(projections),
        Conditioning(network.steps, tables),
        ann_macs,
        report={"quantisation": rows, "overflow_risks": risks},
    )


def _clock(population: FloatPopulation, frames: int) -> Candidate:
    """A clock, whose threshold and biases are whole numbers already."""
    nothing = np.zeros(population.shape[0], dtype=np.int64)
    built = quantized_population(population, 1.0, population.bias, (nothing, nothing))
    if built is None:
        raise LoweringError(f"{population.name}: its threshold or bias does not fit a Lif")
    current = torch.zeros((frames, *population.shape), dtype=torch.float64)
    return Candidate(built[0], None, (), (nothing, nothing), 0.0, [], 0.0, current)


def _messages(best: Candidate, timesteps: int, steps: npt.NDArray[np.int64]) -> Messages:
    """Messages of the quantised population on the calibration data, int32 [N, T, C, H, W]."""
    node = best.population
    current = best.current.unflatten(0, (-1, timesteps)).numpy()
    if not isinstance(node, Lif):
        relayed: Messages = current.astype(np.int32)
        return relayed
    spikes = np.empty(current.shape, dtype=np.int32)
    mantissa = node.bias_mant.astype(np.int64)[None]
    if best.table is not None:
        mantissa = mantissa + best.table[steps]
    bias = (mantissa << node.bias_exp)[:, :, None, None]
    u = v = np.zeros_like(current[:, 0], dtype=np.int64)
    for t in range(timesteps):
        u, v, spikes[:, t] = lif_step(
            u, v, current[:, t].astype(np.int64), vth=node.vth, du=node.du, dv=node.dv, bias=bias
        )
    return delayed(spikes, node.delays)


def _report_row(best: Candidate, incoming: Sequence[FloatProjection]) -> dict[str, Any]:
    node = best.population
    row: dict[str, Any] = {
        "population": node.name,
        "kind": type(node).__name__,
        "lsb": node.scale,
        "current_min": int(best.interval[0].min()),
        "current_max": int(best.interval[1].max()),
        "exponents": {conv.name: conv.exponent for conv in best.projections},
        "relative_error": math.sqrt(best.error / best.power) if best.power > 0 else 0.0,
        "overflow": "possible" if best.risks else "impossible",
    }
    if isinstance(node, Lif):
        row["vth"] = node.vth
    if any(chosen.bits or chosen.error for chosen in best.payloads):  # 0 bits: all gains are rounded to one number
        row["payload_bits"] = max(chosen.bits for chosen in best.payloads)
        row["gain_error"] = max(p.share * found.error for p, found in zip(incoming, best.payloads, strict=True))
    return row
