"""The check of a Program or pipeline against a board: all violations at once, and what would fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spikegen.hardware.loihi2.boards import Board
from spikegen.hardware.loihi2.layout import Layout, place
from spikegen.hardware.loihi2.limits import Budget
from spikegen.hardware.loihi2.rules import RULES, Subject, Violation
from spikegen.program import Pipeline, Program


@dataclass(frozen=True)
class NetworkCheck:
    """One network against a board.

    Attributes:
        program: the network.
        layout: its cores.
        violations: every broken rule, in the order of :data:`~spikegen.hardware.loihi2.RULES`.
    """

    program: Program
    layout: Layout
    violations: tuple[Violation, ...]

    @property
    def fits(self) -> bool:
        """Whether no rule is broken."""
        return not self.violations


@dataclass(frozen=True)
class Check:
    """The networks of a pipeline against a board, each alone on it: they take turns.

    Attributes:
        board: the board.
        networks: role -> its check.
    """

    board: Board
    networks: Mapping[str, NetworkCheck]

    @property
    def fits(self) -> bool:
        """Whether no rule is broken in any network."""
        return all(network.fits for network in self.networks.values())

    @property
    def together(self) -> int:
        """Cores of all networks, were they loaded at the same time."""
        return sum(network.layout.cores for network in self.networks.values())


def check_program(program: Program, board: Board, budget: Budget | None = None) -> NetworkCheck:
    """Place ``program`` and apply every design rule.

    Args:
        program: a Program whose graph and shapes are valid; values outside their ranges are violations.
        board: where it is to run.
        budget: what a core and a chip hold, default Loihi 2.

    Raises:
        ProgramError: a population or projection of a type that has no place on the chip.
    """
    layout = place(program, budget)
    subject = Subject(program, layout, board)
    return NetworkCheck(program, layout, tuple(found for rule in RULES.values() for found in rule(subject)))


def check_pipeline(pipeline: Pipeline, board: Board, budget: Budget | None = None) -> Check:
    """:func:`check_program` for each network of ``pipeline``."""
    networks = {role: check_program(program, board, budget) for role, program in pipeline.networks.items()}
    return Check(board, networks)
