"""What would fit: other boards, cuts between chips, timesteps, widths, relays. Estimates, nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from spikegen.hardware.loihi2.boards import Board, smallest_board
from spikegen.hardware.loihi2.check import NetworkCheck
from spikegen.hardware.loihi2.layout import Layout, place_network
from spikegen.hardware.loihi2.network import Network, Role
from spikegen.hardware.loihi2.variants import narrowed, relayed
from spikegen.program import Readout

WIDTHS = (0.75, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.0625)
ALSO_CURED = frozenset({"fan_in", "core_resources", "board_cores"})  # rules that fewer cores can satisfy


@dataclass(frozen=True)
class Proposal:
    """One change.

    Attributes:
        change: what to change.
        effect: what that would give.
        fits: whether the cores would then fit (for another board: that one) without more changes; rules that are not
            about cores may still be broken.
    """

    change: str
    effect: str
    fits: bool


def propose(check: NetworkCheck, board: Board) -> tuple[Proposal, ...]:
    """Changes that would help the network to fit ``board``, the failed ones too; empty if it fits already.

    Violations that have one obvious cure say so in their hint and are not repeated here.
    """
    found: list[Proposal] = []
    rules = {violation.rule for violation in check.violations}
    if "reset_period" in rules:
        found += _timesteps(check.program.timesteps)
    if rules & ALSO_CURED:
        found += _board(check.layout, board)
        found += _relays(check.layout, board)
        found += _widths(check, board)
    return tuple(found)


def _timesteps(steps: int) -> Iterator[Proposal]:
    below = 1 << (steps.bit_length() - 1)
    for period in (below, 2 * below):
        effect = f"resets at every {period} timesteps; {period / steps:.2g} times the time of an evaluation"
        yield Proposal(f"T = {period} in place of {steps}", effect, fits=True)


def _board(layout: Layout, board: Board) -> Iterator[Proposal]:
    enough = board if layout.chips <= board.chips else smallest_board(layout.chips)
    if layout.oversized:
        summed = layout.cores_by_role()[Role.PARTIAL]
        note = f", {summed} of them for partial sums that the Program does not have yet"
    else:
        note = ""
    effect = f"{_size(layout)}{note}"
    if enough is None:
        yield Proposal("another board", f"{effect}: no board is large enough", fits=False)
        return
    if layout.chips > 1:
        effect += f"; cuts between chips before {', '.join(_cuts(layout))}"
    change = f"--board {enough.name} ({enough.title}, {enough.chips} chips)"
    yield Proposal(change, effect, fits=not layout.oversized)


def _cuts(layout: Layout, most: int = 8) -> list[str]:
    """The population that begins (or goes on) at the start of each further chip; not all of very many."""
    found = []
    for chip in range(1, layout.chips):
        core = chip * layout.budget.cores_per_chip
        inside = next(p for p in layout.placements if p.first <= core < p.first + p.cores)
        found.append(inside.layer.name)
    return found if len(found) <= most else [*found[:most], f"... {len(found) - most} more"]


def _estimate(change: str, network: Network, layout: Layout, board: Board) -> Proposal:
    other = place_network(network, layout.budget)
    enough = smallest_board(other.chips)
    fits = other.cores <= board.chips * layout.budget.cores_per_chip and not other.oversized
    effect = f"{_size(other)} in place of {_size(layout)}"
    if other.oversized:
        effect += f", {len(other.oversized)} layers would still need partial sums"
    if not fits and enough:
        effect += f": {enough.title}"
    return Proposal(change, effect, fits)


def _size(layout: Layout) -> str:
    return f"{layout.cores} cores on {layout.chips} chip{'' if layout.chips == 1 else 's'}"


def _relays(layout: Layout, board: Board) -> Iterator[Proposal]:
    network = relayed(layout.original)
    if len(network.layers) > len(layout.original.layers):
        yield _estimate("relays in place of composed kernels (8-bit weights may be too coarse)", network, layout, board)


def _widths(check: NetworkCheck, board: Board) -> Iterator[Proposal]:
    """The largest width that fits as it is, and the largest that fits with relays."""
    layout, program = check.layout, check.program
    fixed = frozenset(p.name for p in program.populations if isinstance(p, Readout) and p.tail is None)
    ways: tuple[tuple[str, Callable[[Network], Network]], ...] = (("", lambda n: n), (" and relays", relayed))
    for name, way in ways:
        for factor in WIDTHS:
            network = way(narrowed(layout.original, factor, fixed))
            proposal = _estimate(f"{factor:g} of the channels{name}", network, layout, board)
            if proposal.fits:
                yield proposal
                break
        else:
            yield proposal
