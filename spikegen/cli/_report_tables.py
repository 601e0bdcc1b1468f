"""The tables of `spikegen report`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from rich.table import Table

from spikegen.energy import Constant, EnergyModel, GeneratorCost, Measured, NetworkTime, PipelineReport, Report
from spikegen.energy.formula import SOURCE
from spikegen.energy.latency import LEFT_OUT, streamed_timesteps
from spikegen.energy.mapped import ASSUMPTIONS
from spikegen.energy.measured import VALUES
from spikegen.energy.units import count, joules, joules_range, seconds_range


def new_table(title: str, columns: Sequence[str], text_columns: int = 1, *, whole_names: bool = False) -> Table:
    """An empty table whose columns are numbers but for the first ``text_columns``; names may be kept in one line."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        justify: Literal["left", "right"] = "left" if index < text_columns else "right"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=whole_names and index == 0)
    return table


def population_table(found: Report, role: str) -> Table:
    """Mean events of each node and synaptic operations into it, per evaluation."""
    stored: dict[str, int] = {}
    for projection in found.total.projections:
        stored[projection.target] = stored.get(projection.target, 0) + projection.stored
    columns = ("population", "type", "neurons", "events", "rate", "synops in")
    table = new_table(f"{_heading(found, role)}: per evaluation, by population", columns, 2)
    for node in found.total.nodes:
        chances = node.neurons * found.program.timesteps * found.evaluations
        sends = node.kind != "Readout"
        table.add_row(
            node.name,
            node.kind,
            count(node.neurons),
            count(node.events / found.evaluations) if sends else "",
            f"{node.events / chances:.3f}" if sends else "",
            count(stored.get(node.name, 0) / found.evaluations),
        )
    return table


def projection_table(found: Report, role: str) -> Table:
    """Mean operations of each projection, per evaluation."""
    columns = ("projection", "messages", "events", "stored", "effective", "delayed")
    table = new_table(f"{_heading(found, role)}: per evaluation, by projection", columns, 2)
    for p in found.total.projections:
        counts = (p.events, p.stored, p.effective, p.delayed)
        table.add_row(p.name, p.kind, *(count(number / found.evaluations) for number in counts))
    return table


def step_table(found: Report, role: str) -> Table:
    """Mean operations at each diffusion step, per evaluation."""
    names = ("spikes", "binary_synops", "graded_synops", "analog_macs", "bias_adds")
    table = new_table(f"{_heading(found, role)}: per evaluation, by diffusion step", ("step", *names))
    for step, part in zip(found.steps, found.per_step, strict=True):
        totals = part.totals()
        table.add_row(str(step), *(count(totals[name] / part.evaluations) for name in names))
    return table


def operations_table(found: Report, role: str) -> Table:
    """Operations of one network, per evaluation and per sample: counted, by the mapping, of the dense ANN."""
    table = new_table(
        f"{role}: operations", ("operation", "per evaluation", f"per sample (x {len(found.steps)} steps)")
    )
    per_sample = found.per_sample()
    for name, number in found.per_evaluation().items():
        table.add_row(name, count(number), count(per_sample[name]))
    table.add_section()
    table.add_row("on the cores of the mapping, estimated:", "", "")
    mapped = found.mapped_per_sample()
    for name, number in found.mapped_per_evaluation().items():
        table.add_row(name, count(number), count(mapped[name]))
    for (chip, other), messages in found.mapped.chips.items():
        cells = (count(sum(messages) / whole) for whole in (found.evaluations, found.samples))
        table.add_row(f"  messages from chip {chip} to chip {other}", *cells)
    macs = found.ann_macs()
    if macs is not None:
        table.add_section()
        table.add_row("MACs of the dense ANN, same shape", count(macs), count(macs * len(found.steps)))
    return table


def generator_table(cost: GeneratorCost) -> Table:
    """Operations of the spike generator in either place."""
    title = f"spike generator ({cost.name}): operations of one decode, mean over all code vectors"
    table = new_table(title, ("operation", "on the chip", "look-up table"))
    for name in dict.fromkeys((*cost.chip, *cost.lookup)):
        cells = (count(side[name]) if name in side else "" for side in (cost.chip, cost.lookup))
        table.add_row(name, *cells)
    return table


def formula_table(found: Report, role: str) -> Table:
    """Energy by the formula of the papers, per evaluation and per sample, and what the formula leaves out."""
    steps, energy = len(found.steps), found.formula()
    columns = ("part", "per evaluation", f"per sample (x {steps} steps)")
    table = new_table(f"{role}: energy by the formula of SDDPM and SDM", columns)
    for name, part in (
        ("driven by the image: MACs, once", energy.image),
        ("driven by spikes: rate x T x MACs as additions", energy.spikes),
        ("the formula", energy.formula),
        ("real-valued: MACs at each timestep, not in the formula", energy.real),
        ("the formula and the real-valued layers", energy.with_real),
    ):
        table.add_row(name, joules(part), joules(part * steps))
    return table


def mapping_table(found: Report, role: str) -> Table:
    """Load of the cores of each population, and messages between cores and chips, per evaluation; estimates."""
    layout = found.layout
    title = (
        f"{role}: on {layout.cores} cores of {layout.chips} {'chip' if layout.chips == 1 else 'chips'} of Loihi 2 "
        "(estimated), per timestep in the fullest core"
    )
    table = new_table(title, ("layer", "cores", "updates", "synops", "messages out", "in"))
    runs = found.evaluations * found.program.timesteps
    for load in found.mapped.layers:
        fullest = load.fullest()
        updates, synops = (
            sum(fullest.get(name, 0.0) for name in names)
            for names in (
                ("neuron_updates", "added_updates"),
                ("conv_synops", "dense_synops", "added_synops"),
            )
        )
        cells = (updates, synops, fullest.get("messages", 0.0), fullest.get("messages_in", 0.0))
        table.add_row(load.placement.layer.name, str(load.placement.cores), *(count(cell / runs) for cell in cells))
    return table


def energy_table(found: PipelineReport) -> Table:
    """Estimated energy of one sample under every model, by network and in all, next to the dense ANN."""
    networks = (f"{role} (x {len(part.steps)} steps)" for role, part in found.networks.items())
    columns = ("model", *networks, *(("all",) if len(found.networks) > 1 else ()))
    table = new_table("Estimated energy of one sample", columns, whole_names=True)
    for model in found.models.values():
        parts = [part.energy_per_sample(model) for part in found.networks.values()]
        anns = [_ann(part, model) for part in found.networks.values()]
        if len(parts) > 1:
            parts.append(found.energy_per_sample(model))
            anns.append(found.ann_energy(model))
        table.add_row(model.name, *(joules_range(energy.low, energy.high) for energy in parts))
        if any(ann is not None for ann in anns):
            table.add_row("  dense ANN, same shape", *("" if ann is None else joules(ann) for ann in anns))
            ratios = ("" if ann is None else _ratio(e.low, e.high, ann) for e, ann in zip(parts, anns, strict=True))
            table.add_row("  network / ANN", *ratios)
    return table


def _ann(part: Report, model: EnergyModel) -> float | None:
    energy = part.ann_energy(model)
    return None if energy is None else energy * len(part.steps)


def _ratio(low: float, high: float, ann: float) -> str:
    return f"{low / ann:.1%}" if low == high else f"{low / ann:.1%} to {high / ann:.1%}"


def time_table(found: PipelineReport) -> Table:
    """Estimated time under every model: of a timestep of each network, of one sample alone, of one in a stream."""
    columns = ("model", *(f"{role}: timestep" for role in found.networks), "one sample", f"of {found.samples} streamed")
    table = new_table("Estimated time", columns, whole_names=True)
    for model in found.time_models.values():
        times = [part.time(model) for part in found.networks.values()]
        samples = found.time_per_sample(model)
        table.add_row(model.name, *(seconds_range(*each) for each in (*(time.timestep for time in times), *samples)))
        table.add_row("  slowest layer", *(_slowest(time) for time in times), "", "")
    return table


def _slowest(time: NetworkTime) -> str:
    """The layer whose fullest core takes longest, at the diffusion step where that is longest."""
    return max(time.steps, key=lambda step: step.core[1]).slowest


def timesteps_lines(found: PipelineReport) -> list[str]:
    """How many timesteps a sample takes: the numbers behind :func:`time_table`."""
    lines = []
    for role, part in found.networks.items():
        own, depth, steps, images = part.program.timesteps, part.cores.depth, len(part.steps), found.samples
        alone, streamed = (streamed_timesteps(own, depth, n) for n in (1, images))
        plural = "step" if steps == 1 else "steps"
        lines.append(
            f"{role}: {steps} diffusion {plural} x {alone} timesteps for one image, x {streamed} for {images} streamed "
            f"(T = {own}, depth {depth}: N T + depth, in whole windows)"
        )
    return lines


def measured_table(found: PipelineReport, measured: Measured) -> Table:
    """What was measured on a chip, static and dynamic apart, negative values as they are."""
    table = new_table("Measured on a chip", ("figure", *measured.networks, "one sample"))
    parts = [network.per_evaluation() for network in measured.networks.values()]
    sample = measured.per_sample(found.evaluations_per_sample)
    for name, unit, title in (
        ("seconds", "s", "time of one evaluation"),
        ("total_j", "J", "energy of one evaluation"),
        ("static_j", "J", "  static"),
        ("dynamic_j", "J", "  dynamic"),
    ):
        cells = (f"{part[name]:.4g} {unit}" if name in part else "" for part in (*parts, sample))
        table.add_row(title, *cells)
    for name, meaning in VALUES["power"].items():
        powers = [network.power for network in measured.networks.values()]
        if any(power is not None and name in power.values for power in powers):
            cells = ("" if power is None else f"{power.values.get(name, math.nan):.4g} W" for power in powers)
            table.add_row(meaning.removesuffix(" [W]"), *cells, "")
    return table


def notes(found: PipelineReport) -> list[str]:
    """What the models bill and time, what they leave out, and their sources."""
    lines = []
    for model in found.models.values():
        prices = "; ".join(f"{p.operation} x {_price(p)}" for p in model.prices)
        lines.append(
            f"{model.name}, {model.title}: {prices}. Not billed: {model.not_billed}. Source: {_sources(model.prices)}."
        )
    lines.append(
        "The formula of SDDPM and SDM: 4.6 pJ x MACs driven by the image + 0.9 pJ x rate x T x MACs driven by spikes, "
        f"taps on padding counted. Source: {SOURCE}."
    )
    for timing in found.time_models.values():
        durations = "; ".join(f"{d.operation} x {_price(d)}" for d in timing.durations)
        checked = f" Compared: {timing.checked}." if timing.checked else " Compared with no measurement."
        lines.append(
            f"Time, {timing.name}, {timing.title}: {durations}. Left out: {timing.left_out}.{checked} "
            f"Source: {_sources(timing.durations)}."
        )
    lines.append("What each constant stands for: spikegen report --write-model NAME.")
    lines.append(f"Mapping: {'; '.join(ASSUMPTIONS)}. Every estimate of time leaves out: {'; '.join(LEFT_OUT)}.")
    lines.append("These are estimates. No energy per operation has been published for Loihi 2, so there is none here.")
    return lines


def _sources(constants: Sequence[Constant]) -> str:
    return "; ".join(dict.fromkeys(constant.source for constant in constants))


def _price(constant: Constant) -> str:
    low, high = constant.low, constant.high
    return f"{low:g} {constant.unit}" if low == high else f"{low:g}..{high:g} {constant.unit}"


def _heading(found: Report, role: str) -> str:
    return f"{role}, T = {found.program.timesteps}, {found.samples} samples x {len(found.steps)} steps"


ROWS = {"population": population_table, "projection": projection_table, "step": step_table, "core": mapping_table}
