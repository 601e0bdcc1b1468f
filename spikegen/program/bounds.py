"""Interval bounds: proof that no sum of a Program can overflow, or the name of the population that might."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from spikegen.program.ir import Dense, Lif, Program, Projection, Relay
from spikegen.program.numerics import DECAY_UNITY, STATE_LIMIT, STATE_SHIFT, IntArray

Interval = tuple[IntArray, IntArray]  # lowest and highest value per channel, int64 [C] each


def _projection_interval(projection: Projection, source: Interval) -> Interval:
    """Bounds of the currents that ``projection`` delivers, per channel of the target, for any message within ``source``."""
    weight = projection.weight.astype(np.int64) << projection.exponent
    low, high = source
    if isinstance(projection, Dense):
        per_channel = weight.shape[1] // len(low)
        low, high = np.repeat(low, per_channel), np.repeat(high, per_channel)
        per_neuron = np.stack([np.minimum(weight * low, weight * high), np.maximum(weight * low, weight * high)])
        total = per_neuron.sum(axis=2)
        return np.atleast_1d(total[0].min()), np.atleast_1d(total[1].max())
    out, inputs, *_ = weight.shape
    per_group = out // projection.groups
    channels = (np.arange(out) // per_group)[:, None] * inputs + np.arange(inputs)
    low, high = low[channels][:, :, None, None], high[channels][:, :, None, None]
    lowest, highest = np.minimum(weight * low, weight * high), np.maximum(weight * low, weight * high)
    # A tap that falls on padding adds 0, so the worst case keeps only the taps that make it worse.
    lowest, highest = np.minimum(lowest, 0).sum(axis=(1, 2, 3)), np.maximum(highest, 0).sum(axis=(1, 2, 3))
    pixels = projection.shuffle**2
    return lowest.reshape(-1, pixels).min(axis=1), highest.reshape(-1, pixels).max(axis=1)


def current_bounds(program: Program) -> Mapping[str, Interval]:
    """Lowest and highest summed current of every population, int64 [C] each, over all possible messages."""
    messages: dict[str, Interval] = {}
    limit = np.full(program.input.shape[0], (1 << program.input.bits) - 1, dtype=np.int64)
    messages[program.input.name] = (-limit, limit)
    bounds: dict[str, Interval] = {}
    for population in program.populations:
        channels = population.shape[0]
        low, high = np.zeros(channels, dtype=np.int64), np.zeros(channels, dtype=np.int64)
        for projection in program.into(population.name):
            added = _projection_interval(projection, messages[projection.source])
            low, high = low + added[0], high + added[1]
        bounds[population.name] = (low, high)
        zeros = np.zeros(channels, dtype=np.int64)
        messages[population.name] = (low, high) if isinstance(population, Relay) else (zeros, zeros + 1)
    return bounds


def overflow_risks(program: Program) -> list[str]:
    """One line per population whose current, membrane or message could leave its width; empty if that is impossible."""
    risks = []
    for population in program.populations:
        low, high = (int(bound) for bound in _outer(current_bounds(program)[population.name]))
        if isinstance(population, Lif):
            u_low, u_high = _state_interval(population, low, high, program.timesteps)
            v_low, v_high = _membrane_interval(program, population, u_low, u_high)
            for state, lowest, highest in (("current", u_low, u_high), ("membrane", v_low, v_high)):
                if lowest <= -STATE_LIMIT or highest >= STATE_LIMIT:
                    risks.append(
                        f"{population.name}: {state} can reach {lowest}..{highest}, limit is +-{STATE_LIMIT - 1}; "
                        "use a larger LSB (lower threshold)"
                    )
        elif isinstance(population, Relay) and max(-low, high) >= 1 << population.bits:
            risks.append(f"{population.name}: message can reach {low}..{high}, {population.bits} bits hold +-{(1 << population.bits) - 1}")
        elif max(-low, high) >= STATE_LIMIT:
            risks.append(f"{population.name}: current can reach {low}..{high}, limit is +-{STATE_LIMIT - 1}")
    return risks


def _outer(interval: Interval) -> tuple[int, int]:
    return int(interval[0].min()), int(interval[1].max())


def _state_interval(population: Lif, low: int, high: int, timesteps: int) -> tuple[int, int]:
    """Bounds of ``u`` over T timesteps."""
    u_low = u_high = 0
    kept = DECAY_UNITY - (population.du + 1)
    for _ in range(timesteps):
        u_low = -(-u_low * kept >> 12) + (low << STATE_SHIFT)
        u_high = (u_high * kept >> 12) + (high << STATE_SHIFT)
    return u_low, u_high


def _membrane_interval(program: Program, population: Lif, u_low: int, u_high: int) -> tuple[int, int]:
    """Bounds of ``v`` before its reset over T timesteps and all diffusion steps."""
    mantissa = population.bias_mant.astype(np.int64)
    table = program.conditioning.tables.get(population.name)
    biases = (mantissa if table is None else mantissa + table.astype(np.int64)) << population.bias_exp
    bias_low, bias_high = int(biases.min()), int(biases.max())
    v_low = v_high = 0
    kept = DECAY_UNITY - population.dv
    for _ in range(program.timesteps):
        v_low = min(0, -(-v_low * kept >> 12) + u_low + bias_low)
        # A membrane above the threshold is reset, so the next step starts at most at the threshold.
        v_high = (min(max(v_high, 0), population.vth << STATE_SHIFT) * kept >> 12) + u_high + bias_high
    return v_low, v_high
