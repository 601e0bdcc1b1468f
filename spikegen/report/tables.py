"""The tables of the page, made from the report's JSON data: each number keeps its value beside its text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from spikegen.energy.units import count

Document: TypeAlias = Mapping[str, Any]
SYNOPS = ("binary_synops", "graded_synops", "analog_macs")


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: its text, if it holds no number.
        numbers: (text, value) of its numbers; two are a range.
        share: 0..1, length of a bar behind the number; None: no bar.
        swatch: (label, hue in degrees) of a key to a picture, or None.
    """

    text: str = ""
    numbers: tuple[tuple[str, float], ...] = ()
    share: float | None = None
    swatch: tuple[str, int] | None = None


@dataclass(frozen=True)
class Table:
    """A table; ``name`` is its id in the page.

    Attributes:
        name: id.
        title: caption.
        columns: headings.
        rows: as many cells each as there are columns.
        note: a sentence below it, or "".
        folded: shown when it is asked for.
        wide: sentences in its cells need room.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    folded: bool = False
    wide: bool = False

    @property
    def right(self) -> tuple[bool, ...]:
        """For each column whether it holds numbers."""
        return tuple(any(row[index].numbers for row in self.rows) for index in range(len(self.columns)))


def words(text: str) -> Cell:
    """A cell of text."""
    return Cell(text)


def number(value: float, share: float | None = None) -> Cell:
    """A cell with a count."""
    return Cell(numbers=((count(value), value),), share=share)


def percent(value: float, share: float | None = None) -> Cell:
    """A cell with a fraction, shown in percent."""
    return Cell(numbers=((f"{value:.1%}", value),), share=share)


def operations(network: Document, role: str) -> Table:
    """Every kind of operation per evaluation and per sample, next to the dense ANN."""
    rows = [
        (words(name), number(value), number(network["per_sample"][name]))
        for name, value in network["per_evaluation"].items()
    ]
    macs = network["ann_macs_per_evaluation"]
    if macs is not None:
        rows.append(
            (words("MACs of the dense ANN, same shape"), number(macs), number(macs * len(network["diffusion_steps"])))
        )
    columns = ("operation", "per evaluation", per_sample_heading(network))
    return Table(f"{role}-operations", "Operations", columns, tuple(rows))


def rates(network: Document) -> dict[str, float]:
    """Nonzero messages per neuron and timestep of each node that sends, 0..1."""
    chances = network["program"]["timesteps"] * network["evaluations"]
    return {
        node["name"]: node["events"] / (node["neurons"] * chances)
        for node in network["nodes"]
        if node["kind"] != "Readout"
    }


def synops_into(network: Document) -> dict[str, dict[str, float]]:
    """Node -> kind of projection -> mean synaptic operations into it per evaluation, zero weights included."""
    found: dict[str, dict[str, float]] = {node["name"]: {} for node in network["nodes"]}
    for projection in network["projections"]:
        kinds = found[projection["target"]]
        kinds[projection["kind"]] = kinds.get(projection["kind"], 0.0) + projection["stored"] / network["evaluations"]
    return found


def populations(network: Document, role: str) -> Table:
    """Events, firing rates and synaptic operations of each node."""
    rate, into = rates(network), synops_into(network)
    most = max((sum(kinds.values()) for kinds in into.values()), default=0) or 1
    rows = []
    for node in network["nodes"]:
        name, synops = node["name"], sum(into[node["name"]].values())
        sends = (
            (number(node["events"] / network["evaluations"]), percent(rate[name])) if name in rate else (Cell(),) * 2
        )
        rows.append((words(name), words(node["kind"]), number(node["neurons"]), *sends, number(synops, synops / most)))
    columns = ("population", "type", "neurons", "events", "firing rate", "synaptic operations in")
    note = "A firing rate is the number of nonzero messages per neuron and timestep."
    return Table(f"{role}-populations", "By population, per evaluation", columns, tuple(rows), note, folded=True)


def projections(network: Document, role: str) -> Table:
    """Operations of each projection."""
    most = max((projection["stored"] for projection in network["projections"]), default=0) or 1
    rows = tuple(
        (
            words(projection["name"]),
            words(projection["kind"]),
            number(projection["events"] / network["evaluations"]),
            number(projection["stored"] / network["evaluations"], projection["stored"] / most),
            number(projection["effective"] / network["evaluations"]),
            number(projection["delayed"] / network["evaluations"]),
        )
        for projection in network["projections"]
    )
    columns = ("projection", "messages", "events", "synaptic operations", "through nonzero weights", "delayed")
    return Table(f"{role}-projections", "By projection, per evaluation", columns, rows, folded=True)


def steps(network: Document, role: str) -> Table:
    """Operations at each diffusion step."""
    names = ("spikes", *SYNOPS, "bias_adds")
    rows = tuple(
        (number(step["step"]), *(number(step["total"][name] / step["evaluations"]) for name in names))
        for step in network["steps"]
    )
    columns = ("diffusion step", *names)
    return Table(f"{role}-steps", "By diffusion step, per evaluation", columns, rows, folded=True)


def generator(cost: Document) -> Table:
    """The spike generator of a token decoder, on the chip or as a look-up table."""
    sides: tuple[Document, ...] = (cost["chip"], cost["lookup"])
    rows = tuple(
        (words(name), *(number(side[name]) if name in side else Cell() for side in sides))
        for name in dict.fromkeys((*cost["chip"], *cost["lookup"]))
    )
    title = f"Spike generator ({cost['name']}): operations of one decode, mean over all code vectors"
    return Table("generator", title, ("operation", "on the chip", "look-up table"), rows, folded=True)


def definitions(document: Document) -> Table:
    """What each operation is."""
    found = {**document["definitions"], **document["mapped_definitions"]}
    rows = tuple((words(name), words(text.replace("`", ""))) for name, text in found.items())
    return Table("definitions", "What is counted", ("operation", "definition"), rows, folded=True)


def pairs(name: str, title: str, items: Iterable[tuple[str, str]]) -> Table:
    """Keys and values."""
    rows: Sequence[tuple[Cell, ...]] = [(words(key), words(value)) for key, value in items]
    return Table(name, title, ("", ""), tuple(rows))


def per_sample_heading(network: Document) -> str:
    """Heading of a column of figures of one sample, which say how many evaluations they are of."""
    steps = len(network["diffusion_steps"])
    return "per sample (1 step)" if steps == 1 else f"per sample (x {steps} steps)"
