"""`spikegen run`: inputs through a network that has no loop around it."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import rich_click as click

from spikegen.cli._arrays import read_inputs
from spikegen.cli._decode import choose_place
from spikegen.cli._options import backend_options, check_backend
from spikegen.cli._output import check_outputs, counted, error_console, print_summary, working, write_array
from spikegen.cli._pipeline import read_pipeline


@click.command()
@click.argument("source", metavar="PIPELINE")
@click.option(
    "--input",
    "input_file",
    type=click.Path(path_type=Path),
    required=True,
    help="Inputs: .npy [N, C, H, W], or [N, T, C, H, W] where every timestep has a frame of its own.",
)
@click.option("-n", "--inputs", "most", type=click.IntRange(min=1), help="At most this many of them; default all.")
@backend_options
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Readout, .npy float64 [N, C, H, W]."
)
@click.option(
    "--every-step",
    type=click.Path(path_type=Path),
    help="Write what is read out at every timestep, .npy float64 [N, T, C, H, W]: the spikes of a network of spikes.",
)
@click.option("--counts", type=click.Path(path_type=Path), help="Write the counts for `spikegen report`, JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def run(
    source: str,
    input_file: Path,
    most: int | None,
    backend: str,
    synapses: str | None,
    device: str | None,
    batch: int | None,
    output: Path,
    every_step: Path | None,
    counts: Path | None,
    as_json: bool,
) -> None:
    """Run the network of PIPELINE on inputs: a plain network, such as a classifier, not a generative model."""
    from spikegen.runtime import write_counts
    from spikegen.runtime.standalone import evaluate_standalone, input_shape, standalone_network

    check_backend(backend, synapses, device)
    files = {"--output": output, "--every-step": every_step, "--counts": counts}
    check_outputs(source, files, {"--input": input_file})
    errors = error_console()
    pipeline = read_pipeline(source, errors.print)
    program = standalone_network(pipeline)
    inputs = read_inputs(input_file, input_shape(program), most)
    place = choose_place(backend, synapses, device, batch, len(inputs))
    started = time.perf_counter()
    with working(errors, f"running {len(inputs)} inputs") as say, contextlib.closing(place.open(program)) as target:
        found = evaluate_standalone(
            pipeline, target, inputs, place.batch, lambda done: say(f"running: {done} of {len(inputs)} inputs are done")
        )
    seconds = time.perf_counter() - started
    write_array(output, found.outputs)
    write_array(every_step, found.every_step)
    networks = {"network": ((0, found.counts),)}
    if counts is not None:
        write_counts(counts, pipeline, networks, run={"inputs": input_file.name})
    if as_json:
        summary = {
            "pipeline": pipeline.name,
            "backend": backend,
            "inputs": len(inputs),
            "seconds": seconds,
            "networks": counted(networks),
            "output": str(output),
            "every_step": None if every_step is None else str(every_step),
            "counts": None if counts is None else str(counts),
        }
        click.echo(json.dumps(summary, indent=1, allow_nan=False))
        return
    rows = {"inputs": str(len(inputs)), "seconds": f"{seconds:.2f}"}
    print_summary(f"{pipeline.name} on {backend}", rows, counted(networks), list(files.values()))
