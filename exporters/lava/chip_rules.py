"""What the chip's network can hold, and projections in the form that it needs. No Lava here."""

from __future__ import annotations

import dataclasses
from typing import TypeGuard

import numpy as np

from spikegen.errors import ProgramError
from spikegen.hardware.loihi2 import BOARDS, Board, check_program
from spikegen.program import Conv, Program, Projection
from spikegen.program.arrays import frozen

CONV_INPUT_BITS = 16  # width of the adapter in front of convolutions in all public code, with sign
GRADED_BITS = 24  # width of any other graded message, with sign
# The design rules of what a number or a process can hold; the others are estimates of sizes.
NUMBERS = (
    *("weight_range", "threshold_bits", "decay_bits", "bias_range", "payload_bits"),
    *("delay", "reset_period", "constant_gains", "axonal_delays"),
)
WEIGHT_EXPONENT = 7  # of doubled mantissas, limit "weight_exp" of hardware.loihi2


def require_chip(program: Program, board: Board | None = None) -> None:
    """Refuse what the chip's network cannot hold, and what does not fit ``board``.

    Args:
        program: a valid Program.
        board: where it is to run, None if its size is not to be checked.

    Raises:
        ProgramError: every broken design rule of :data:`spikegen.hardware.loihi2.RULES` (without a board those of
            :data:`NUMBERS`) and every projection or input that the chip's network has no process for, each with its
            name, what is used, the limit and what to do.
    """
    largest = max(BOARDS.values(), key=lambda known: known.chips)
    problems = [
        f"{found.where or program.name}: {found.resource}: {found.used}, the limit is {found.limit} "
        f"({found.rule}); {found.hint}"
        for found in check_program(program, board or largest).violations
        if board is not None or found.rule in NUMBERS
    ]
    problems += [
        f"{projection.name}: a gain of {int(projection.gains[0])} leaves its weights no room in 8 bits; use gains of 1"
        for projection in program.projections
        if np.unique(projection.gains).size == 1 and _folded(projection) is None
    ]
    port = program.input
    if port.bits >= CONV_INPUT_BITS:
        problems.append(
            f"{port.name}: messages of {port.bits} bits and a sign, the adapter of the chip takes {CONV_INPUT_BITS} "
            "bits in all; declare fewer"
        )
    if problems:
        raise ProgramError(problems)


def for_chip(projection: Projection) -> Projection:
    """``projection`` without gains and with an exponent that the chip has, of the same values.

    Raises:
        ProgramError: there is none (:func:`require_chip` refuses such a Program).
    """
    found = _folded(projection)
    if found is None:
        raise ProgramError([f"{projection.name}: its gains or its exponent cannot be brought onto the chip"])
    return found


def _folded(projection: Projection) -> Projection | None:
    if projection.gains.size == 0 and projection.exponent <= WEIGHT_EXPONENT + 1:
        return projection
    gains = np.unique(projection.gains) if projection.gains.size else np.ones(1, dtype=np.int64)
    if gains.size != 1:
        return None
    values = (projection.weight.astype(np.int64) * int(gains[0])) << projection.exponent
    exponent = 0
    while exponent <= WEIGHT_EXPONENT and not (values >> exponent & 1).any():
        exponent += 1
    mantissas = values >> exponent
    if mantissas.min(initial=0) < -128 or mantissas.max(initial=0) > 127:
        return None
    weight = frozen(mantissas, np.int8)
    return dataclasses.replace(projection, weight=weight, exponent=exponent, gains=np.empty(0, np.int32))


def relay_delays(program: Program, synapses: str) -> dict[str, tuple[int, ...]]:
    """The delays that relays make, in rising order, for every node that has one.

    Stock convolutions have no delay synapses: what goes into one late is passed on by relays, those of a node in a
    chain, as :func:`spikegen.hardware.loihi2.network.with_delays` counts them. The other projections, and with
    ``synapses`` "sparse" all, delay in their synapses.
    """
    wanted: dict[str, set[int]] = {}
    for projection in program.projections:
        if projection.delay and is_conv(projection, synapses):
            wanted.setdefault(projection.source, set()).add(projection.delay)
    return {name: tuple(sorted(delays)) for name, delays in wanted.items()}


def is_conv(projection: Projection, synapses: str) -> TypeGuard[Conv]:
    """Whether ``projection`` is held by a ``Conv`` process, with ``synapses`` "conv" or "sparse"."""
    return synapses == "conv" and isinstance(projection, Conv)
