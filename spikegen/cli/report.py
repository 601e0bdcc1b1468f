"""`spikegen report`: operations and energy of a sampling run."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from spikegen.cli._options import SEED
from spikegen.cli._output import check_outputs
from spikegen.cli._page import describe_mapping, open_page, write_page
from spikegen.cli._pipeline import read_pipeline
from spikegen.cli._solver import choose_solver

if TYPE_CHECKING:
    from rich.table import Table

    from spikegen.diffusion import Solver
    from spikegen.energy import EnergyModel, GeneratorCost, PipelineReport, Report
    from spikegen.program import Pipeline, Program
    from spikegen.runtime.counts import StepCounts

_PREFIXES = ("p", "n", "µ", "m", "")
_IMAGES, _STEPS = 4, 5  # the small run


@click.command()
@click.argument("source", metavar="PIPELINE")
@click.option(
    "--counts",
    "counts_file",
    type=click.Path(path_type=Path),
    help="What `sample --counts` or `reconstruct --counts` wrote. Without it a small run on the simulator is counted.",
)
@click.option(
    "--by",
    type=click.Choice(["population", "projection", "step"]),
    default="population",
    show_default=True,
    help="Rows of the first tables.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path, allow_dash=True), help="Write JSON, - for stdout.")
@click.option("--html", type=click.Path(path_type=Path), help="Write one HTML page with pictures, for any browser.")
@click.option(
    "--samples", type=click.Path(path_type=Path), help="Images to show on it: a PNG file or `sample --npy`'s array."
)
@click.option("--board", help="Add the mapping on the cores of this board; --html shows it, default oheogulch.")
@click.option("-n", "--images", type=click.IntRange(min=1), help="Images of that small run, default 4.")
@click.option("--steps", type=click.IntRange(min=1), help="Solver steps of that small run, default 5.")
@click.option("--seed", type=SEED, metavar="INTEGER", help="Seed of that small run, default 0.")
def report(
    source: str,
    counts_file: Path | None,
    by: str,
    json_file: Path | None,
    html: Path | None,
    samples: Path | None,
    board: str | None,
    images: int | None,
    steps: int | None,
    seed: int | None,
) -> None:
    """Count operations per evaluation and per sample, and estimate their energy.

    Energy is an estimate from published constants of other chips, each named with its source; it is no measurement.
    """
    from rich.console import Console

    from spikegen.energy import build_pipeline_report
    from spikegen.runtime.files import write_output

    small_run = {"-n": images, "--steps": steps, "--seed": seed}
    given = [option for option, value in small_run.items() if value is not None]
    if counts_file is not None and given:
        raise click.UsageError(f"{', '.join(given)} choose the run that is counted; --counts names one already")
    to_stdout = str(json_file) == "-"
    outputs = {"--json": None if to_stdout else json_file, "--html": html}
    check_outputs(source, outputs, {"--counts": counts_file, "--samples": samples})
    console = Console(stderr=to_stdout, highlight=False, markup=False)  # names may hold brackets
    pipeline = read_pipeline(source, console.print)
    picture = open_page(html, samples, pipeline)
    mapping = describe_mapping(pipeline, board or "oheogulch") if board or html else None
    counts: Counted
    programs: dict[str, Program] = {}
    if counts_file is None:
        solver = choose_solver(pipeline, None, steps, _STEPS, {})
        n, s = images or _IMAGES, seed or 0
        console.print(f"No --counts: counting {n} images x {len(solver.timesteps)} steps, seed {s}, on the simulator.")
        counts = _small_run(pipeline, solver, n, s)
        run: Mapping[str, str] = {"solver": solver.identity()["solver"].lower(), "seed": str(s)}
    else:
        counts, programs, run = _recorded(pipeline, counts_file)
    found = build_pipeline_report(pipeline, counts, programs)
    cost = _generator_cost(pipeline)
    document = {
        **found.to_dict(),
        "provenance": dict(pipeline.provenance),
        "run": dict(run),
        "generator": None if cost is None else dataclasses.asdict(cost),
        "mapping": mapping,
    }
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    if html is not None:
        write_page(html, document, picture)
    if to_stdout:
        click.echo(text, nl=False)
        return
    for role, part in found.networks.items():
        console.print(_ROWS[by](part, role))
        console.print(operations_table(part, role))
        console.print(formula_table(part, role))
    if cost is not None:
        console.print(generator_table(cost))
    console.print(energy_table(found))
    for line in notes():
        console.print(line)
    if json_file is not None:
        write_output(json_file, text.encode())


Counted = dict[str, "tuple[StepCounts, ...]"]


def _recorded(pipeline: Pipeline, path: Path) -> tuple[Counted, dict[str, Program], Mapping[str, str]]:
    """The counts of a file, the Programs that ran in place of the pipeline's, and how the samples were made."""
    from spikegen.runtime import lookup_decoder, read_counts

    record = read_counts(path, pipeline)
    lookup = record.generator == "lookup"
    return dict(record.networks), {"decoder": lookup_decoder(pipeline).program} if lookup else {}, record.run


def _small_run(pipeline: Pipeline, solver: Solver, images: int, seed: int) -> Counted:
    from spikegen.runtime import Session, decode_tokens
    from spikegen.simulator import Simulator

    with Simulator(pipeline.network("denoiser")) as simulator:
        result = Session(pipeline, simulator, solver, steps=len(solver.timesteps), seed=seed, images=images).run()
    counts: Counted = {"denoiser": result.counts}
    if "decoder" in pipeline.networks:
        with Simulator(pipeline.network("decoder")) as simulator:
            counts["decoder"] = ((0, decode_tokens(pipeline, simulator, result.sample).counts),)
    return counts


def _generator_cost(pipeline: Pipeline) -> GeneratorCost | None:
    """What the spike generator of a token decoder costs in either place, on every code vector; None: no such."""
    import numpy as np

    from spikegen.energy import generator_cost
    from spikegen.errors import ConfigError
    from spikegen.program import TokenDiffusion
    from spikegen.runtime import decode_tokens, lookup_decoder
    from spikegen.simulator import Simulator

    if not isinstance(pipeline.host, TokenDiffusion):
        return None
    try:
        lookup = lookup_decoder(pipeline)
    except ConfigError:  # its decoder begins otherwise
        return None
    decoder = pipeline.network("decoder")
    codes, (height, width) = len(pipeline.host.codebook), decoder.input.shape[1:]
    grids = -(-codes // (height * width))  # as few as hold every code vector
    tokens = (np.arange(grids * height * width) % codes).reshape(grids, height, width)
    chip = decode_tokens(pipeline, Simulator(decoder), tokens).counts
    table = decode_tokens(pipeline, Simulator(lookup.program), tokens, lookup=lookup).counts
    return generator_cost(decoder, chip, lookup.program, table)


def joules(picojoules: float) -> str:
    """An energy with a readable prefix: 1234.5 pJ is ``1.23 nJ``."""
    index = 0 if picojoules <= 0 else min(max(int(math.log10(picojoules) // 3), 0), len(_PREFIXES) - 1)
    return f"{picojoules / 1000**index:.3g} {_PREFIXES[index]}J"


def _range(low: float, high: float) -> str:
    return joules(low) if low == high else f"{joules(low)} to {joules(high)}"


def _number(count: float) -> str:
    return f"{count:,.0f}" if count >= 100 or count == int(count) else f"{count:.3g}"


def _table(title: str, columns: Sequence[str], text_columns: int = 1) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < text_columns else "right", overflow="fold")
    return table


def population_table(found: Report, role: str) -> Table:
    """Mean events of each node and synaptic operations into it, per evaluation."""
    stored: dict[str, int] = {}
    for projection in found.total.projections:
        stored[projection.target] = stored.get(projection.target, 0) + projection.stored
    columns = ("population", "type", "neurons", "events", "rate", "synops in")
    table = _table(f"{_heading(found, role)}: per evaluation, by population", columns, 2)
    for node in found.total.nodes:
        chances = node.neurons * found.program.timesteps * found.evaluations
        sends = node.kind != "Readout"
        table.add_row(
            node.name,
            node.kind,
            _number(node.neurons),
            _number(node.events / found.evaluations) if sends else "",
            f"{node.events / chances:.3f}" if sends else "",
            _number(stored.get(node.name, 0) / found.evaluations),
        )
    return table


def projection_table(found: Report, role: str) -> Table:
    """Mean operations of each projection, per evaluation."""
    columns = ("projection", "messages", "events", "stored", "effective", "delayed")
    table = _table(f"{_heading(found, role)}: per evaluation, by projection", columns, 2)
    for p in found.total.projections:
        counts = (p.events, p.stored, p.effective, p.delayed)
        table.add_row(p.name, p.kind, *(_number(count / found.evaluations) for count in counts))
    return table


def step_table(found: Report, role: str) -> Table:
    """Mean operations at each diffusion step, per evaluation."""
    names = ("spikes", "binary_synops", "graded_synops", "analog_macs", "bias_adds")
    table = _table(f"{_heading(found, role)}: per evaluation, by diffusion step", ("step", *names))
    for step, part in zip(found.steps, found.per_step, strict=True):
        totals = part.totals()
        table.add_row(str(step), *(_number(totals[name] / part.evaluations) for name in names))
    return table


def operations_table(found: Report, role: str) -> Table:
    """Every kind of operation of one network, per evaluation and per sample, next to the dense ANN."""
    table = _table(f"{role}: operations", ("operation", "per evaluation", f"per sample (x {len(found.steps)} steps)"))
    per_sample = found.per_sample()
    for name, count in found.per_evaluation().items():
        table.add_row(name, _number(count), _number(per_sample[name]))
    macs = found.ann_macs()
    if macs is not None:
        table.add_section()
        table.add_row("MACs of the dense ANN, same shape", _number(macs), _number(macs * len(found.steps)))
    return table


def generator_table(cost: GeneratorCost) -> Table:
    """Operations of the spike generator in either place."""
    title = f"spike generator ({cost.name}): operations of one decode, mean over all code vectors"
    table = _table(title, ("operation", "on the chip", "look-up table"))
    for name in dict.fromkeys((*cost.chip, *cost.lookup)):
        cells = (_number(side[name]) if name in side else "" for side in (cost.chip, cost.lookup))
        table.add_row(name, *cells)
    return table


def formula_table(found: Report, role: str) -> Table:
    """Energy by the formula of the papers, per evaluation and per sample, and what the formula leaves out."""
    steps, energy = len(found.steps), found.formula()
    columns = ("part", "per evaluation", f"per sample (x {steps} steps)")
    table = _table(f"{role}: energy by the formula of SDDPM and SDM", columns)
    for name, part in (
        ("driven by the image: MACs, once", energy.image),
        ("driven by spikes: rate x T x MACs as additions", energy.spikes),
        ("the formula", energy.formula),
        ("real-valued: MACs at each timestep, not in the formula", energy.real),
        ("the formula and the real-valued layers", energy.with_real),
    ):
        table.add_row(name, joules(part), joules(part * steps))
    return table


def energy_table(found: PipelineReport) -> Table:
    """Estimated energy of one sample under every model, by network and in all, next to the dense ANN."""
    from spikegen.energy import MODELS

    networks = (f"{role} (x {len(part.steps)} steps)" for role, part in found.networks.items())
    columns = ("model", *networks, *(("all",) if len(found.networks) > 1 else ()))
    table = _table("Estimated energy of one sample", columns)
    for model in MODELS.values():
        parts = [part.energy_per_sample(model) for part in found.networks.values()]
        anns = [_ann(part, model) for part in found.networks.values()]
        if len(parts) > 1:
            parts.append(found.energy_per_sample(model))
            anns.append(found.ann_energy(model))
        table.add_row(model.name, *(_range(energy.low, energy.high) for energy in parts))
        if any(ann is not None for ann in anns):
            table.add_row("  dense ANN, same shape", *("" if ann is None else joules(ann) for ann in anns))
            ratios = ("" if ann is None else f"{e.low / ann:.1%}" for e, ann in zip(parts, anns, strict=True))
            table.add_row("  network / ANN", *ratios)
    return table


def _ann(part: Report, model: EnergyModel) -> float | None:
    energy = part.ann_energy(model)
    return None if energy is None else energy * len(part.steps)


def notes() -> list[str]:
    """What the energy models bill, and their sources."""
    from spikegen.energy import MODELS
    from spikegen.energy.formula import SOURCE

    lines = []
    for model in MODELS.values():
        prices = "; ".join(f"{p.operation} x {_price(p.low, p.high)} pJ" for p in model.prices)
        sources = "; ".join(dict.fromkeys(price.source for price in model.prices))
        lines.append(f"{model.name}: {prices}. Not billed: {model.not_billed}. Source: {sources}.")
    lines.append(
        "The formula of SDDPM and SDM: 4.6 pJ x MACs driven by the image + 0.9 pJ x rate x T x MACs driven by spikes, "
        f"taps on padding counted. Source: {SOURCE}."
    )
    lines.append("These are estimates. No energy per operation has been published for Loihi 2, so there is none here.")
    return lines


def _price(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g}..{high:g}"


def _heading(found: Report, role: str) -> str:
    return f"{role}, T = {found.program.timesteps}, {found.samples} samples x {len(found.steps)} steps"


_ROWS = {"population": population_table, "projection": projection_table, "step": step_table}
