"""The tables of what is estimated from the counts: energy, time, loads of cores, messages; and of what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from spikegen.energy.units import joules, seconds
from spikegen.report.tables import Cell, Document, Table, number, per_sample_heading, percent, words

FORMULA = {
    "image_pj": "driven by the image: MACs, once",
    "spikes_pj": "driven by spikes: rate x T x MACs as additions",
    "formula_pj": "the formula",
    "real_pj": "real-valued: MACs at each timestep, not in the formula",
    "with_real_pj": "the formula and the real-valued layers",
}
MEASURED = {
    "seconds": ("time of one evaluation", "s"),
    "total_j": ("energy of one evaluation", "J"),
    "static_j": ("— static", "J"),
    "dynamic_j": ("— dynamic", "J"),
}
_UPDATES = ("neuron_updates", "added_updates")
_SYNOPS = ("conv_synops", "dense_synops", "added_synops")


def energies(document: Document) -> Table:
    """Energy of one sample under every model, by network and in all, next to the dense ANN."""
    networks: Mapping[str, Document] = document["networks"]
    several = len(networks) > 1
    rows = []
    for name, model in document["models"].items():
        parts = [network["energy"][name] for network in networks.values()]
        if several:
            parts.append(document["energy"][name])
        rows.append((words(model["title"]), *(_energy(part["per_sample"]) for part in parts)))
        anns = [part["ann_per_sample_pj"] for part in parts]
        if any(ann is not None for ann in anns):
            cells = (Cell() if ann is None else Cell(numbers=((joules(ann), ann),)) for ann in anns)
            rows.append((words("— dense ANN of the same shape"), *cells))
            rows.append((words("— network / ANN"), *map(_ratio, parts)))
    columns = ("model", *_heads(networks), *(("all",) if several else ()))
    return Table("energy", "Estimated energy of one sample", columns, tuple(rows))


def _heads(networks: Mapping[str, Document]) -> Iterable[str]:
    return (f"{role} (x {len(network['diffusion_steps'])})" for role, network in networks.items())


def _range(low: float, high: float, text: Callable[[float], str]) -> Cell:
    """Both ends, or the lower one if they read the same."""
    ends = (low,) if text(low) == text(high) else (low, high)
    return Cell(numbers=tuple((text(end), end) for end in ends))


def _energy(found: Document) -> Cell:
    return _range(found["low_pj"], found["high_pj"], joules)


def _time(found: Document) -> Cell:
    return _range(found["low"], found["high"], seconds)


def _ratio(part: Document) -> Cell:
    ann, found = part["ann_per_sample_pj"], part["per_sample"]
    if not ann:
        return Cell()
    return _range(found["low_pj"] / ann, found["high_pj"] / ann, "{:.1%}".format)


def shares(document: Document) -> Table:
    """What each kind of operation costs under each model, and its part of the whole (of the upper ends)."""
    rows = []
    for name, model in document["models"].items():
        found = document["energy"][name]["per_sample"]
        for operation, item in found["items"].items():
            if item["high_pj"]:
                share = item["high_pj"] / found["high_pj"]
                rows.append((words(model["title"]), words(operation), _energy(item), percent(share, share)))
    columns = ("model", "operation", "energy of one sample", "share")
    return Table("energy-shares", "What the energy is made of", columns, tuple(rows), folded=True)


def prices(document: Document) -> Table:
    """What each energy model bills, with its sources."""
    note = "; ".join(f"{model['title']}: {model['not_billed']}" for model in document["models"].values())
    models = ((model["title"], model["prices"]) for model in document["models"].values())
    return _constants("prices", "Prices and their sources", "price", models, f"Not billed: {note}.")


def durations(document: Document) -> Table:
    """What each time model times, with its sources."""
    notes = []
    for model in document["time_models"].values():
        checked = model["checked"] or "with no measurement"
        notes.append(f"{model['title']}: left out: {model['left_out']}. Compared: {checked}.")
    notes.append(f"Every estimate leaves out: {'; '.join(document['assumptions']['time_leaves_out'])}.")
    models = ((model["title"], model["durations"]) for model in document["time_models"].values())
    return _constants("durations", "Durations and their sources", "duration", models, " ".join(notes))


def _constants(name: str, title: str, what: str, models: Iterable[tuple[str, Iterable[Document]]], note: str) -> Table:
    rows = []
    for model, constants in models:
        source = ""
        for constant in constants:
            value = _range(constant["low"], constant["high"], f"{{:g}} {constant['unit']}".format)
            facts = (constant["meaning"], _again(constant["source"], source), constant["certainty"])
            source = constant["source"]
            rows.append((words(model), words(constant["operation"]), value, *map(words, facts)))
    columns = ("model", "operation", what, "meaning", "source", "certainty")
    return Table(name, title, columns, tuple(rows), note, folded=True, wide=True)


def _again(text: str, above: str) -> str:
    return "as above" if text == above else text


def formula(network: Document, role: str) -> Table:
    """Energy by the formula of the papers."""
    found = network["formula"]
    rows = tuple(
        (
            words(title),
            *(
                Cell(numbers=((joules(found[per][part]), found[per][part]),))
                for per in ("per_evaluation", "per_sample")
            ),
        )
        for part, title in FORMULA.items()
    )
    columns = ("part", "per evaluation", per_sample_heading(network))
    title = f"{role}: energy by the formula of SDDPM and SDM"
    return Table(f"{role}-formula", title, columns, rows, f"Source: {found['source']}.", folded=True)


def times(document: Document) -> Table:
    """Time of one timestep of each network, of one sample alone, and of one in a stream of all, under each model."""
    networks: Mapping[str, Document] = document["networks"]
    rows = []
    for name, model in document["time_models"].items():
        timesteps = (_time(network["time"][name]["timestep_ns"]) for network in networks.values())
        found = document["time"][name]
        samples = (_time(found["sample_alone_ns"]), _time(found["sample_streamed_ns"]))
        rows.append((words(model["title"]), *timesteps, *samples))
    heads = (f"timestep of the {role}" for role in networks)
    columns = ("model", *heads, "one sample alone", f"one of {document['samples']:,} streamed")
    notes = []
    for role, network in networks.items():
        any_model = next(iter(network["time"].values()), None)
        if any_model is not None:
            notes.append(
                f"{role}: {len(network['diffusion_steps'])} x {any_model['timesteps_alone']:,} timesteps for one image "
                f"alone, x {any_model['timesteps_streamed']:,} for all streamed."
            )
    return Table("time", "Estimated time of one sample", columns, tuple(rows), " ".join(notes))


def on_cores(network: Document, role: str) -> Table:
    """What the mapping adds, and messages between cores and chips."""
    found = network["mapping"]
    rows = [
        (words(name), number(value), number(found["per_sample"][name]))
        for name, value in found["per_evaluation"].items()
    ]
    steps = len(network["diffusion_steps"])
    for pair in found["chip_messages_per_evaluation"]:
        messages = pair["binary"] + pair["graded"]
        title = f"messages from chip {pair['from']} to chip {pair['to']}"
        rows.append((words(title), number(messages), number(messages * steps)))
    columns = ("operation", "per evaluation", per_sample_heading(network))
    return Table(f"{role}-mapped", "On the cores, estimated", columns, tuple(rows), folded=True)


def loads(network: Document, role: str) -> Table:
    """Load of the fullest core of each layer of the mapping."""
    found = []
    for layer in network["mapping"]["layers"]:
        load = layer["fullest_core_per_timestep"]
        updates, synops = (sum(load[name] for name in names) for names in (_UPDATES, _SYNOPS))
        found.append((layer, updates, synops, load["messages"], load["messages_in"]))
    most = max((synops for _, _, synops, *_ in found), default=0.0) or 1.0
    rows = tuple(
        (
            words(layer["layer"]),
            number(layer["cores"]),
            number(updates),
            number(synops, synops / most),
            *map(number, messages),
        )
        for layer, updates, synops, *messages in found
    )
    columns = ("layer", "cores", "neuron updates", "synaptic operations", "messages out", "messages in")
    title = "Load of the fullest core of each layer per timestep, estimated"
    return Table(f"{role}-loads", title, columns, rows, folded=True)


def measured(document: Document) -> Table | None:
    """What was measured on a chip, static and dynamic apart, negative values as they are; None if nothing was."""
    found = document["measured"]
    if found is None:
        return None
    parts = [*(network["per_evaluation"] for network in found["networks"].values()), found["per_sample"]]
    rows = [
        (words(title), *(_plain(part.get(name), unit) for part in parts)) for name, (title, unit) in MEASURED.items()
    ]
    for kind, unit in (("time", "s"), ("power", "W")):
        for name, meaning in found["definitions"][kind].items():
            values = [(network[kind] or {"values": {}})["values"].get(name) for network in found["networks"].values()]
            if any(value is not None for value in values):
                rows.append((words(meaning), *(_plain(value, unit) for value in values), Cell()))
    machines = dict.fromkeys(
        f"{key}: {value}"
        for network in found["networks"].values()
        for kind in ("time", "power")
        for key, value in (network[kind] or {"machine": {}})["machine"].items()
    )
    columns = ("", *found["networks"], "one sample")
    return Table("measured", "Measured on a chip", columns, tuple(rows), ", ".join(machines))


def _plain(value: float | None, unit: str) -> Cell:
    return Cell() if value is None else Cell(numbers=((f"{value:.4g} {unit}", value),))
