"""The tables of the page, made from the report's JSON data: each number keeps its value beside its text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from spikegen.energy.units import count, joules

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
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    folded: bool = False

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


def energy(low: float | None, high: float | None = None) -> Cell:
    """A cell with an energy [pJ] or a range of energies; empty for None."""
    if low is None:
        return Cell()
    ends = (low,) if high is None or high == low else (low, high)
    return Cell(numbers=tuple((joules(end), end) for end in ends))


def operations(network: Document, role: str) -> Table:
    """Every kind of operation per evaluation and per sample, next to the dense ANN."""
    steps = len(network["diffusion_steps"])
    rows = [
        (words(name), number(value), number(network["per_sample"][name]))
        for name, value in network["per_evaluation"].items()
    ]
    macs = network["ann_macs_per_evaluation"]
    if macs is not None:
        rows.append((words("MACs of the dense ANN, same shape"), number(macs), number(macs * steps)))
    columns = ("operation", "per evaluation", f"per sample ({_steps(steps)})")
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


def energies(document: Document) -> Table:
    """Energy of one sample under every model, by network and in all, next to the dense ANN."""
    networks: Mapping[str, Document] = document["networks"]
    several = len(networks) > 1
    rows = []
    for name, model in document["models"].items():
        parts = [network["energy"][name] for network in networks.values()]
        if several:
            parts.append(document["energy"][name])
        ranges = ((part["per_sample"]["low_pj"], part["per_sample"]["high_pj"]) for part in parts)
        rows.append((words(model["title"]), *(energy(*ends) for ends in ranges)))
        anns = [part["ann_per_sample_pj"] for part in parts]
        if any(ann is not None for ann in anns):
            rows.append((words("— dense ANN of the same shape"), *map(energy, anns)))
            rows.append((words("— network / ANN"), *(_ratio(part) for part in parts)))
    heads = (f"{role} ({_steps(len(network['diffusion_steps']))})" for role, network in networks.items())
    columns = ("model", *heads, *(("all",) if several else ()))
    return Table("energy", "Estimated energy of one sample", columns, tuple(rows))


def _ratio(part: Document) -> Cell:
    ann = part["ann_per_sample_pj"]
    return percent(part["per_sample"]["low_pj"] / ann) if ann else Cell()


def prices(document: Document) -> Table:
    """What each model bills, with its sources."""
    rows = []
    for model in document["models"].values():
        for price in model["prices"]:
            ends = (price["low"],) if price["low"] == price["high"] else (price["low"], price["high"])
            cost = Cell(numbers=tuple((f"{end:g} pJ", end) for end in ends))
            facts = (price["meaning"], price["source"], price["certainty"])
            rows.append((words(model["title"]), words(price["operation"]), cost, *map(words, facts)))
    columns = ("model", "operation", "price", "meaning", "source", "certainty")
    left_out = "; ".join(f"{model['title']}: {model['not_billed']}" for model in document["models"].values())
    note = f"Not billed: {left_out}."
    return Table("prices", "Prices and their sources", columns, tuple(rows), note, folded=True)


FORMULA = {
    "image_pj": "driven by the image: MACs, once",
    "spikes_pj": "driven by spikes: rate x T x MACs as additions",
    "formula_pj": "the formula",
    "real_pj": "real-valued: MACs at each timestep, not in the formula",
    "with_real_pj": "the formula and the real-valued layers",
}


def formula(network: Document, role: str) -> Table:
    """Energy by the formula of the papers."""
    found = network["formula"]
    rows = tuple(
        (words(title), energy(found["per_evaluation"][part]), energy(found["per_sample"][part]))
        for part, title in FORMULA.items()
    )
    columns = ("part", "per evaluation", f"per sample ({_steps(len(network['diffusion_steps']))})")
    title = f"{role}: energy by the papers' formula"
    return Table(f"{role}-formula", title, columns, rows, f"Source: {found['source']}.", folded=True)


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
    rows = tuple((words(name), words(text)) for name, text in document["definitions"].items())
    return Table("definitions", "What is counted", ("operation", "definition"), rows, folded=True)


def pairs(name: str, title: str, items: Iterable[tuple[str, str]]) -> Table:
    """Keys and values."""
    rows: Sequence[tuple[Cell, ...]] = [(words(key), words(value)) for key, value in items]
    return Table(name, title, ("", ""), tuple(rows))


def _steps(number_of_steps: int) -> str:
    return "1 step" if number_of_steps == 1 else f"x {number_of_steps} steps"
