"""Interval bounds: proof that no sum of a Program can overflow, or the name of the population that might."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from spikegen.program.ir import Dense, Input, Lif, Node, Population, Program, Projection, Relay
from spikegen.program.numerics import DECAY_UNITY, GRADED_BITS_MAX, STATE_LIMIT, STATE_SHIFT, IntArray

Interval = tuple[IntArray, IntArray]  # lowest and highest value per channel, int64 [C] each

_SATURATED = 1 << 40  # bounds saturate far outside of every width, where sums and products of them still fit int64


def projection_interval(projection: Projection, source: Interval) -> Interval:
    """Bounds of the currents that ``projection`` delivers for messages within ``source``, per channel of the target.

    They hold at every timestep: with gains, for the one whose gain is worst.
    """
    weight = projection.weight
    low, high = _payloads(projection, source)
    if isinstance(projection, Dense):
        weight = weight.astype(np.int64)
        per_channel = weight.shape[1] // len(low)
        low, high = np.repeat(low, per_channel), np.repeat(high, per_channel)
        lowest = np.minimum(weight * low, weight * high).sum(axis=1).min(keepdims=True)
        highest = np.maximum(weight * low, weight * high).sum(axis=1).max(keepdims=True)
    else:
        # A tap that falls on padding adds 0, so the worst case keeps only the taps that make it worse.
        low, high = (side.reshape(projection.groups, -1, 1) for side in (np.minimum(low, 0), np.maximum(high, 0)))
        negative, positive = (side.reshape(projection.groups, -1, weight.shape[1]) for side in _tap_sums(weight))
        lowest = (positive @ low + negative @ high).ravel()
        highest = (positive @ high + negative @ low).ravel()
        pixels = projection.shuffle**2
        lowest, highest = lowest.reshape(-1, pixels).min(axis=1), highest.reshape(-1, pixels).max(axis=1)
    return _saturated(lowest) << projection.exponent, _saturated(highest) << projection.exponent


def _tap_sums(weight: npt.NDArray[np.int8]) -> tuple[IntArray, IntArray]:
    """Negative and positive weights of [O, I, kh, kw] summed over the taps, int64 [O, I] each."""
    negative, positive = (np.zeros(weight.shape[:2], dtype=np.int32) for _ in range(2))
    for tap in np.moveaxis(
        weight.reshape(*weight.shape[:2], -1), 2, 0
    ):  # a sum over a short axis takes 4 times as long
        negative += np.minimum(tap, 0)
        positive += np.maximum(tap, 0)
    return negative.astype(np.int64), positive.astype(np.int64)


def _payloads(projection: Projection, source: Interval) -> Interval:
    """Bounds of what ``projection`` is sent: the messages times their gain, over all timesteps."""
    if not projection.gains.size:
        return source
    widest = (1 << GRADED_BITS_MAX) - 1  # ``validate``: the declared bits of the message times the gain have no more
    ends = np.stack(source)[:, None] * projection.gains.astype(np.int64)[:, None]  # [2, T, C]
    return np.maximum(ends.min(axis=(0, 1)), -widest), np.minimum(ends.max(axis=(0, 1)), widest)


def message_interval(node: Node, current: Interval | None = None) -> Interval:
    """Bounds of the messages that ``node`` sends, per channel.

    Args:
        node: any node.
        current: bounds of its summed current; an input has none.
    """
    if isinstance(node, Input):
        return node.low.astype(np.int64), node.high.astype(np.int64)
    if isinstance(node, Relay) and current is not None:
        widest = (1 << GRADED_BITS_MAX) - 1  # no message has more bits; a current that has is a risk of the relay
        return np.maximum(current[0], -widest), np.minimum(current[1], widest)
    return np.zeros(node.shape[0], dtype=np.int64), np.ones(node.shape[0], dtype=np.int64)


def _saturated(bound: IntArray) -> IntArray:
    clipped: IntArray = np.clip(bound, -_SATURATED, _SATURATED)
    return clipped


def current_bounds(program: Program) -> Mapping[str, Interval]:
    """Lowest and highest summed current of every population, int64 [C] each, over all possible messages."""
    messages = {program.input.name: message_interval(program.input)}
    bounds: dict[str, Interval] = {}
    for population in program.populations:
        low = high = np.zeros(population.shape[0], dtype=np.int64)
        for projection in program.into(population.name):
            added = projection_interval(projection, messages[projection.source])
            low, high = _saturated(low + added[0]), _saturated(high + added[1])
        bounds[population.name] = (low, high)
        messages[population.name] = message_interval(population, bounds[population.name])
    return bounds


def overflow_risks(program: Program) -> list[str]:
    """One line per current, membrane or message that could leave its width; empty if that is impossible."""
    bounds = current_bounds(program)
    risks = []
    for population in program.populations:
        table = program.conditioning.tables.get(population.name)
        risks += population_risks(population, bounds[population.name], program.timesteps, table)
    return risks


def population_risks(
    population: Population, current: Interval, timesteps: int, table: npt.NDArray[np.int16] | None = None
) -> list[str]:
    """The same for one population, from the bounds of its current.

    Args:
        population: any population.
        current: bounds of its summed current, int64 [C] each.
        timesteps: T.
        table: its conditioning, int16 [K, C], if it has one.
    """
    if isinstance(population, Lif):
        reached = _lif_intervals(population, current, timesteps, table)
        limit, cure = STATE_LIMIT - 1, "use a larger LSB (a lower threshold)"
    elif isinstance(population, Relay):
        reached, limit = {"message": current}, (1 << population.bits) - 1
        cure = "declare more bits or use a larger LSB"
    else:
        reached, limit, cure = {"current": current}, STATE_LIMIT - 1, "use a larger LSB"
    return [
        f"{population.name}: {what} can reach {low.min()}..{high.max()}, limit is +-{limit}; {cure}"
        for what, (low, high) in reached.items()
        if low.min() < -limit or high.max() > limit
    ]


def _lif_intervals(
    population: Lif, current: Interval, timesteps: int, table: npt.NDArray[np.int16] | None
) -> dict[str, Interval]:
    """Bounds of ``u`` and of ``v`` before its reset, over T timesteps and all diffusion steps (they only grow)."""
    mantissa = population.bias_mant.astype(np.int64)[None]
    biases = (mantissa if table is None else mantissa + table) << population.bias_exp
    bias_low, bias_high = biases.min(axis=0), biases.max(axis=0)
    a_low, a_high = np.minimum(current[0], 0) << STATE_SHIFT, np.maximum(current[1], 0) << STATE_SHIFT
    u_low = u_high = v_low = v_high = np.zeros_like(a_low)
    u_kept, v_kept = DECAY_UNITY - (population.du + 1), DECAY_UNITY - population.dv
    for _ in range(timesteps):
        u_low = _saturated(-(-u_low * u_kept >> 12) + a_low)
        u_high = _saturated((u_high * u_kept >> 12) + a_high)
        # A reset membrane is 0, so the lower bound never rises above that.
        v_low = _saturated(np.minimum(0, -(-v_low * v_kept >> 12) + u_low + bias_low))
        # A membrane above the threshold is reset, so the next step starts at most at the threshold.
        v_high = (np.clip(v_high, 0, population.vth << STATE_SHIFT) * v_kept >> 12) + u_high + bias_high
    return {"current": (u_low, u_high), "membrane": (v_low, v_high)}
