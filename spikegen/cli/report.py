"""`spikegen report`: operations and energy of a sampling run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from spikegen.cli._options import SEED
from spikegen.cli._output import check_outputs
from spikegen.cli._page import describe_board, open_page, write_page
from spikegen.cli._pipeline import read_pipeline
from spikegen.cli._solver import choose_solver

if TYPE_CHECKING:
    from rich.console import Console

    from spikegen.energy import EnergyModel, GeneratorCost, Measured, TimeModel
    from spikegen.program import Pipeline, Program
    from spikegen.runtime.counts import StepCounts

_MODELS = ("davies2018_loihi1", "horowitz45_fp32", "horowitz45_int8", "loihi2_n3b3", "sanafe_loihi1")  # built in
_IMAGES, _STEPS = 4, 5  # the small run


def _write_model(ctx: click.Context, _: click.Parameter, name: str | None) -> None:
    """Print a built-in model and end, as ``--help`` does: no PIPELINE is needed."""
    if name is not None and not ctx.resilient_parsing:
        from spikegen.energy import template

        click.echo(template(name), nl=False)
        ctx.exit()


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
    type=click.Choice(["population", "projection", "step", "core"]),
    default="population",
    show_default=True,
    help="Rows of the first tables.",
)
@click.option(
    "--energy-model",
    "model_files",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Add the model of this file, TOML; may be given several times.",
)
@click.option(
    "--write-model",
    type=click.Choice(_MODELS),
    is_eager=True,
    expose_value=False,
    callback=_write_model,
    help="Print a built-in model as such a file, to be edited, and end.",
)
@click.option(
    "--measured",
    "measurements",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Add what `sample --profile` measured on a chip: its folder, or files of it.",
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
    model_files: tuple[Path, ...],
    measurements: tuple[Path, ...],
    json_file: Path | None,
    html: Path | None,
    samples: Path | None,
    board: str | None,
    images: int | None,
    steps: int | None,
    seed: int | None,
) -> None:
    """Count operations per evaluation and per sample, and estimate energy, traffic between cores, and time.

    Energy and time are estimates from published constants, each named with its source, and from an estimated mapping
    onto cores; they are no measurement. No energy per operation has been published for Loihi 2.
    """
    from rich.console import Console

    from spikegen.cli import _report_tables as tables
    from spikegen.energy import build_pipeline_report
    from spikegen.runtime.files import write_output

    small_run = {"-n": images, "--steps": steps, "--seed": seed}
    given = [option for option, value in small_run.items() if value is not None]
    if counts_file is not None and given:
        raise click.UsageError(f"{', '.join(given)} choose the run that is counted; --counts names one already")
    to_stdout = str(json_file) == "-"
    outputs = {"--json": None if to_stdout else json_file, "--html": html}
    check_outputs(source, outputs, {"--counts": counts_file, "--samples": samples})
    models, time_models = _models(model_files)
    console = Console(stderr=to_stdout, highlight=False, markup=False)  # names may hold brackets
    pipeline = read_pipeline(source, console.print)
    measured = _measured(measurements, pipeline)
    picture = open_page(html, samples, pipeline)
    check = describe_board(pipeline, board or "oheogulch") if board or html else None
    counts: Counted
    programs: dict[str, Program] = {}
    if counts_file is None:
        counts, run = _small_run(pipeline, images or _IMAGES, steps, seed or 0, console)
    else:
        counts, programs, run = _recorded(pipeline, counts_file)
    found = build_pipeline_report(pipeline, counts, programs, models, time_models, measured)
    cost = _generator_cost(pipeline)
    document = {
        **found.to_dict(),
        "provenance": dict(pipeline.provenance),
        "run": dict(run),
        "generator": None if cost is None else dataclasses.asdict(cost),
        "check": check,
    }
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    if html is not None:
        write_page(html, document, picture)
    if to_stdout:
        click.echo(text, nl=False)
        return
    for role, part in found.networks.items():
        console.print(tables.ROWS[by](part, role))
        console.print(tables.operations_table(part, role))
        console.print(tables.formula_table(part, role))
    if cost is not None:
        console.print(tables.generator_table(cost))
    console.print(tables.energy_table(found))
    console.print(tables.time_table(found))
    if measured is not None:
        console.print(tables.measured_table(found, measured))
    for line in (*tables.timesteps_lines(found), *tables.notes(found)):
        console.print(line)
    if json_file is not None:
        write_output(json_file, text.encode())


Counted = dict[str, "tuple[StepCounts, ...]"]


def _models(files: tuple[Path, ...]) -> tuple[dict[str, EnergyModel], dict[str, TimeModel]]:
    """The built-in models, and those of ``files``."""
    from spikegen.energy import MODELS, TIME_MODELS, read_model
    from spikegen.errors import ConfigError

    models, time_models = dict(MODELS), dict(TIME_MODELS)
    for path in files:
        file = read_model(path)
        if file.name in models or file.name in time_models:
            raise ConfigError(f"{path}: name: there is a model {file.name!r} already; give yours another name")
        if file.energy is not None:
            models[file.name] = file.energy
        if file.time is not None:
            time_models[file.name] = file.time
    return models, time_models


def _measured(files: tuple[Path, ...], pipeline: Pipeline) -> Measured | None:
    from spikegen.energy import read_measurements

    return read_measurements(files, pipeline) if files else None


def _recorded(pipeline: Pipeline, path: Path) -> tuple[Counted, dict[str, Program], Mapping[str, str]]:
    """The counts of a file, the Programs that ran in place of the pipeline's, and how the samples were made."""
    from spikegen.runtime import lookup_decoder, read_counts

    record = read_counts(path, pipeline)
    lookup = record.generator == "lookup"
    return dict(record.networks), {"decoder": lookup_decoder(pipeline).program} if lookup else {}, record.run


def _small_run(
    pipeline: Pipeline, images: int, steps: int | None, seed: int, console: Console
) -> tuple[Counted, Mapping[str, str]]:
    """Counts of a run on the simulator, and how it was made; a network without a loop runs on random inputs."""
    from spikegen.program import Standalone
    from spikegen.runtime import Session, decode_tokens
    from spikegen.runtime.standalone import evaluate_standalone, random_inputs, standalone_network
    from spikegen.simulator import Simulator

    if isinstance(pipeline.host, Standalone):
        if steps is not None:
            raise click.UsageError("--steps are those of a solver; a network without a loop has none")
        program = standalone_network(pipeline)
        console.print(f"No --counts: counting {images} random inputs, seed {seed}, on the simulator (`spikegen run`).")
        with Simulator(program) as simulator:
            found = evaluate_standalone(pipeline, simulator, random_inputs(program, images, seed), images)
        return {"network": ((0, found.counts),)}, {"inputs": "random", "seed": str(seed)}
    solver = choose_solver(pipeline, None, steps, _STEPS, {})
    console.print(
        f"No --counts: counting {images} images x {len(solver.timesteps)} steps, seed {seed}, on the simulator."
    )
    with Simulator(pipeline.network("denoiser")) as simulator:
        result = Session(pipeline, simulator, solver, steps=len(solver.timesteps), seed=seed, images=images).run()
    counts: Counted = {"denoiser": result.counts}
    if "decoder" in pipeline.networks:
        with Simulator(pipeline.network("decoder")) as simulator:
            counts["decoder"] = ((0, decode_tokens(pipeline, simulator, result.sample).counts),)
    return counts, {"solver": solver.identity()["solver"].lower(), "seed": str(seed)}


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
