"""Systems with Loihi 2 chips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from spikegen.errors import ConfigError
from spikegen.hardware.loihi2.limits import Certainty


@dataclass(frozen=True)
class Board:
    """A system.

    Attributes:
        name: as on the command line.
        title: as Intel writes it.
        chips: Loihi 2 chips.
        source: of the number of chips.
        certainty: how it is known.
    """

    name: str
    title: str
    chips: int
    source: str
    certainty: Certainty


_LAVA = "lava-nc 0.10.0, lava/magma/core/resources.py"
_YOLO = "lava-dl (commit d825ac5), lava/lib/dl/slayer/object_detection/models/yolo_kp.py"

BOARDS: Mapping[str, Board] = MappingProxyType(
    {
        board.name: board
        for board in (
            Board("oheogulch", "Oheo Gulch", 1, f"{_LAVA}: single Loihi 2 chip", Certainty.READ),
            Board(
                "kapohopoint",
                "Kapoho Point",
                8,
                f"{_YOLO}: 8 chip Loihi form factor (resources.py of lava-nc still says four)",
                Certainty.READ,
            ),
            Board("vpx", "VPX", 16, "lava-dl (commit d825ac5), notebooks of yolo_kp: 13 of 16 chips", Certainty.READ),
            Board("aliapoint", "Alia Point", 32, "arXiv 2503.18002, which used 24 of them", Certainty.QUOTED),
            Board("halapoint", "Hala Point", 1152, "Intel, press release of April 2024", Certainty.QUOTED),
        )
    }
)


def find_board(name: str) -> Board:
    """The board ``name``.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in BOARDS:
        known = ", ".join(f"{board.name} ({board.chips})" for board in BOARDS.values())
        raise ConfigError(f"there is no board {name!r}; boards and their chips: {known}")
    return BOARDS[name]


def smallest_board(chips: int) -> Board | None:
    """The board with the fewest chips that are at least ``chips``; None if no board has so many."""
    enough = [board for board in BOARDS.values() if board.chips >= chips]
    return min(enough, key=lambda board: board.chips, default=None)
