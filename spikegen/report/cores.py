"""The mapping picture: the cores of the chips, coloured by population, filled as far as their fullest resource is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from spikegen.energy.units import count
from spikegen.report.tables import Cell, Document, Table, number, percent, words

COLUMNS = 12  # cores in a row of the picture, which is no map of the chip
CHIPS_MAX = 64  # chips in the picture
CELL, CORE = 40, 36  # units of the picture: pitch and side of a core
KINDS = {"population": "cores", "delay": "delays", "partial sum": "sums"}  # role of a core -> heading
_HUES = (250, -40)  # of the first and the last population: blue, green, yellow, red


@dataclass(frozen=True)
class Core:
    """One core in the picture.

    Attributes:
        x, y: upper left corner.
        label: number of its population in the legend.
        hue: degrees.
        role: "population", "delay" or "partial sum".
        fill: height of its filled part, 0..CORE.
        title: what it holds, in words.
    """

    x: int
    y: int
    label: int
    hue: int
    role: str
    fill: float
    title: str


@dataclass(frozen=True)
class Chip:
    """One chip in the picture.

    Attributes:
        index: 0, 1, ...
        cores: those that hold something.
        idle: (x, y) of the others.
        height: of the picture; its width is COLUMNS * CELL.
    """

    index: int
    cores: tuple[Core, ...]
    idle: tuple[tuple[int, int], ...]
    height: int


@dataclass(frozen=True)
class Cores:
    """The mapping of one network.

    Attributes:
        role: of the network.
        summary: a sentence.
        fits: no rule is broken.
        chips: to be drawn.
        note: what is not drawn, or "".
        alt: the picture in words.
        roles: of the cores.
        legend: the populations.
        violations: the broken rules, or None.
    """

    role: str
    summary: str
    fits: bool
    chips: tuple[Chip, ...]
    note: str
    alt: str
    roles: frozenset[str]
    legend: Table
    violations: Table | None


def cores(role: str, network: Document, board: Document) -> Cores:
    """The picture, legend and violations of one network.

    Args:
        role: of the network.
        network: its entry in what ``spikegen check --json`` prints.
        board: the board there.
    """
    populations = list(dict.fromkeys(placement["population"] for placement in network["placements"]))
    hues = {name: _hue(index, len(populations)) for index, name in enumerate(populations)}
    per_chip = network["cores_available"] // board["chips"]
    chips, drawn = network["chips"], min(network["chips"], CHIPS_MAX)
    found = list(_cores(network["placements"], populations, hues, per_chip))
    parts = ", ".join(f"{count(n)} for {kind}s" for kind, n in network["cores_by_role"].items() if n)
    summary = (
        f"{count(network['cores'])} of {count(network['cores_available'])} cores of {board['title']} ({parts}), "
        f"{_chips(chips)}."
    )
    fullest = max((max(p["shares"].values()) for p in network["placements"]), default=0.0)
    return Cores(
        role,
        summary,
        network["fits"],
        tuple(_chip(index, found[index * per_chip : (index + 1) * per_chip], per_chip) for index in range(drawn)),
        f"The picture shows {CHIPS_MAX} of {chips} chips." if chips > drawn else "",
        f"Cores of the {role}, coloured by population: {summary} The fullest core uses {fullest:.0%} of a resource.",
        frozenset(placement["role"] for placement in network["placements"]),
        _legend(role, network["placements"], hues),
        _violations(role, network["violations"]) if network["violations"] else None,
    )


def _hue(index: int, populations: int) -> int:
    first, last = _HUES
    return round(first + (last - first) * index / max(populations - 1, 1)) % 360


def _cores(
    placements: Sequence[Document], populations: Sequence[str], hues: dict[str, int], per_chip: int
) -> Iterator[Core]:
    labels = {name: index + 1 for index, name in enumerate(populations)}
    place = 0
    for placement in placements:
        share = placement["shares"][placement["bottleneck"]]
        resource = placement["bottleneck"].replace("_", " ")
        title = f"{placement['layer']}: {resource} {share:.0%}"
        name, role = placement["population"], placement["role"]
        for _ in range(placement["cores"]):
            y, x = divmod(place % per_chip, COLUMNS)
            fill = round(CORE * min(share, 1.0), 1)
            yield Core(x * CELL, y * CELL, labels[name], hues[name], role, fill, title)
            place += 1


def _chip(index: int, found: Sequence[Core], per_chip: int) -> Chip:
    places = (divmod(place, COLUMNS) for place in range(len(found), per_chip))
    idle = tuple((x * CELL, y * CELL) for y, x in places)
    return Chip(index, tuple(found), idle, -(-per_chip // COLUMNS) * CELL)


def _legend(role: str, placements: Sequence[Document], hues: dict[str, int]) -> Table:
    groups: dict[str, list[Document]] = {name: [] for name in hues}
    for placement in placements:
        groups[placement["population"]].append(placement)
    used = {placement["role"] for placement in placements}
    kinds = [kind for kind in KINDS if kind == "population" or kind in used]
    rows = []
    for index, (name, group) in enumerate(groups.items()):
        own = [placement for placement in group if placement["role"] == "population"]
        full = own[0] if own else group[0]  # an input has delays only
        share = full["shares"][full["bottleneck"]]
        counts = (sum(placement["cores"] for placement in group if placement["role"] == kind) for kind in kinds)
        rows.append(
            (
                Cell(name, swatch=(str(index + 1), hues[name])),
                *(number(cores) if cores else Cell() for cores in counts),
                words("\N{NO-BREAK SPACE}x\N{NO-BREAK SPACE}".join(map(str, full["tile"]))),
                words(full["bottleneck"].replace("_", " ")),
                percent(share, min(share, 1.0)),
            )
        )
    columns = ("population", *(KINDS[kind] for kind in kinds), "tile", "full by", "share")
    note = "Tile and share are those of the fullest core of a population."
    return Table(f"{role}-cores", "Cores by population", columns, tuple(rows), note)


def _violations(role: str, violations: Sequence[Document]) -> Table:
    rows = tuple(
        (
            words(found["rule"]),
            words(found["where"]),
            words(found["resource"]),
            number(found["used"]),
            number(found["limit"]),
            words(found["hint"]),
        )
        for found in violations
    )
    columns = ("rule", "where", "resource", "used", "limit", "what to do")
    return Table(f"{role}-violations", "Broken rules", columns, rows, wide=True)


def _chips(chips: int) -> str:
    return "1 chip" if chips == 1 else f"{chips} chips"
