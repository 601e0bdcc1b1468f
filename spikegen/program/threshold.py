"""Threshold guidance: all thresholds of a trained network scaled by one factor (SDM, arXiv 2408.16467).

A threshold is an integer, so a small change must find a finer grid or it is none. The state of a population that does
not leak has no unit of its own: its weights, bias and threshold times ``2^k`` fire alike, and where the bounds leave
room for it, the threshold has ``k`` more bits to be changed in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from spikegen.errors import ConfigError
from spikegen.program.bounds import Interval, current_bounds, population_risks
from spikegen.program.ir import Lif, Program
from spikegen.program.numerics import BIAS_EXP_MAX, DECAY_MAX, VTH_MAX, WEIGHT_EXP_MAX
from spikegen.program.pipeline import ImageDiffusion, Pipeline

# What a threshold becomes may miss what was asked for by this share of the change.
TOLERANCE = 0.5
_GRID = 1e-4  # of the factors that a refusal names
_WIDEST = 0.5  # how far from 1 it looks for them
_NAMED = 5  # populations that a refusal names


def scale_thresholds(program: Program, factor: float) -> Program:
    """``program`` with the threshold of every Lif population times ``factor``, on a finer grid where there is room.

    Populations that nothing leads into keep their threshold: they are clocks. With ``factor`` 1 nothing changes.

    Args:
        program: a valid Program.
        factor: > 0; SDM tries 0.997 to 1.003.

    Raises:
        ConfigError: ``factor`` is out of range, or the threshold of a population would miss its change by more than
            half of it; the message names the nearest factors that are possible.
    """
    if not 1 - _WIDEST <= factor <= 1 + _WIDEST:
        raise ConfigError(f"the threshold scale is {factor}, allowed {1 - _WIDEST}..{1 + _WIDEST}")
    if factor == 1.0:
        return program
    bits = _all_bits(program, factor)
    finest = {lif.name: lif.vth << bits[lif.name] for lif in _neurons(program)}
    missed = {name: vth for name, vth in finest.items() if not _possible(vth, factor)}
    if missed:
        raise ConfigError(_refusal(finest, missed, factor))
    populations = tuple(
        dataclasses.replace(
            p,
            vth=round(finest[p.name] * factor),
            bias_exp=p.bias_exp + bits[p.name],
            scale=p.scale / (1 << bits[p.name]),
        )
        if isinstance(p, Lif) and p.name in bits
        else p
        for p in program.populations
    )
    projections = tuple(
        dataclasses.replace(p, exponent=p.exponent + bits.get(p.target, 0)) for p in program.projections
    )
    report = {**program.report, "threshold_scale": factor}
    return dataclasses.replace(program, populations=populations, projections=projections, report=report)


def nearest_scales(program: Program, factor: float) -> list[float]:
    """The nearest factors below and above ``factor`` that :func:`scale_thresholds` takes, as far as there are any."""
    bits = _all_bits(program, factor)
    return _nearest({lif.name: lif.vth << bits[lif.name] for lif in _neurons(program)}, factor)


def guided(pipeline: Pipeline, factor: float) -> Pipeline:
    """``pipeline`` whose denoiser has its thresholds scaled (:func:`scale_thresholds`).

    The measured power of its predicted noise is dropped: it is that of the network before.

    Raises:
        ConfigError: the pipeline has no denoiser, or its thresholds cannot be scaled by ``factor``.
    """
    if factor == 1.0:
        return pipeline
    denoiser = scale_thresholds(pipeline.network("denoiser"), factor)
    provenance = {**pipeline.provenance, "threshold_scale": str(factor)}
    host = pipeline.host
    if isinstance(host, ImageDiffusion):
        host = dataclasses.replace(host, noise_power=np.empty(0))
    networks = {**pipeline.networks, "denoiser": denoiser}
    return dataclasses.replace(pipeline, host=host, networks=networks, provenance=provenance)


def _neurons(program: Program) -> Iterator[Lif]:
    return (p for p in program.populations if isinstance(p, Lif) and program.into(p.name))


def _all_bits(program: Program, factor: float) -> dict[str, int]:
    bounds = current_bounds(program)
    return {lif.name: _bits(program, lif, bounds[lif.name], factor) for lif in _neurons(program)}


def _possible(vth: int, factor: float) -> bool:
    """Whether an integer is near enough to ``factor vth``; ``factor`` is not 1."""
    return abs(round(vth * factor) - vth * factor) <= TOLERANCE * vth * abs(factor - 1)


def _bits(program: Program, lif: Lif, current: Interval, factor: float) -> int:
    """The fewest bits that the state must be finer by, or as many as there is room for."""
    bits = 0
    while not _possible(lif.vth << bits, factor) and _has_room(program, lif, current, bits + 1):
        bits += 1
    return bits


def _has_room(program: Program, lif: Lif, current: Interval, bits: int) -> bool:
    """Whether ``lif`` fires alike with a state of ``bits`` more, and no bound is left."""
    if lif.du != DECAY_MAX or lif.dv != 0:  # a finer state that leaks is rounded otherwise
        return False
    if lif.bias_exp + bits > BIAS_EXP_MAX or lif.vth << bits > VTH_MAX // 2:  # half: the factor comes on top
        return False
    if any(p.exponent + bits > WEIGHT_EXP_MAX for p in program.into(lif.name)):
        return False
    finer = dataclasses.replace(lif, vth=lif.vth << bits, bias_exp=lif.bias_exp + bits)
    table = program.conditioning.tables.get(lif.name)
    return not population_risks(finer, (current[0] << bits, current[1] << bits), program.timesteps, table)


def _refusal(finest: Mapping[str, int], missed: Mapping[str, int], factor: float) -> str:
    rows = [
        f"{name}: threshold {vth} times {factor} is {vth * factor:.2f}, the nearest integer is "
        f"{round(vth * factor)} (a scale of {round(vth * factor) / vth:.4f})"
        for name, vth in sorted(missed.items(), key=lambda item: item[1])
    ]
    more = [f"and {len(rows) - _NAMED} more populations"] if len(rows) > _NAMED else []
    possible = [f"{value:.4f}" for value in _nearest(finest, factor)]
    advice = f"the nearest possible scales are {' and '.join(possible)}" if possible else "no scale is possible"
    lines = "\n  - ".join([*rows[:_NAMED], *more])
    return f"the thresholds are too coarse for a scale of {factor}; {advice}:\n  - {lines}"


def _nearest(finest: Mapping[str, int], factor: float) -> list[float]:
    """The nearest factor below and above ``factor`` that is possible for all thresholds, on a grid."""
    found = []
    for direction in (-1, 1):
        start = round(factor / _GRID)
        for step in range(1, round(2 * _WIDEST / _GRID) + 1):
            candidate = (start + direction * step) * _GRID
            if not 1 - _WIDEST <= candidate <= 1 + _WIDEST:
                break
            if round(candidate / _GRID) != round(1 / _GRID) and all(
                _possible(vth, candidate) for vth in finest.values()
            ):
                found.append(candidate)
                break
    return found
