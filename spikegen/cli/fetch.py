"""`spikegen fetch`: the shards of a finished job as the files that `spikegen sample` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from spikegen.cli._output import check_outputs, counted, error_console, print_summary, write_array

if TYPE_CHECKING:
    from spikegen.hardware.inrc import Job, ShardResult


@click.command()
@click.argument("folder", metavar="JOBDIR", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="PNG file for the grid of images.")
@click.option("--npy", type=click.Path(path_type=Path), help="Write the images as float64 [N, C, H, W] in [-1, 1].")
@click.option(
    "--tokens", type=click.Path(path_type=Path), help="Write the tokens after every step, int64 [steps, N, h, w]."
)
@click.option("--counts", type=click.Path(path_type=Path), help="Write the counts for `spikegen report`, JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def fetch(
    folder: Path, output: Path, npy: Path | None, tokens: Path | None, counts: Path | None, as_json: bool
) -> None:
    """Check and merge the results of JOBDIR: the same files as `spikegen sample` writes with the same options.

    Results on another machine are copied first. Nothing is written unless every shard is complete.
    """
    from spikegen.hardware.inrc import merge_results, open_job
    from spikegen.runtime import write_counts, write_png

    files = {"--output": output, "--npy": npy, "--tokens": tokens, "--counts": counts}
    check_outputs(str(folder), files)
    job = open_job(folder)
    pipeline = job.pipeline()
    if tokens is not None and job.manifest.sampling.generator is None:
        raise click.UsageError(f"--tokens is an option of pipelines of tokens; {pipeline.name} samples images")
    _copy(job)
    result = merge_results(job, pipeline)
    write_png(output, result.images)
    write_array(npy, result.images)
    if result.trajectory is not None:
        write_array(tokens, result.trajectory)
    if counts is not None:
        sampling = job.manifest.sampling
        run = {"solver": str(sampling.identity["solver"]).lower(), "seed": str(sampling.seed)}
        write_counts(counts, pipeline, result.networks, sampling.generator, run)
    _summarise(job, result, {option[2:]: path for option, path in files.items()}, as_json)


def _copy(job: Job) -> None:
    """Results from the machine where the job ran, if that is another one."""
    from rich.progress import Progress

    from spikegen.errors import JobError
    from spikegen.hardware.inrc.copying import pull
    from spikegen.hardware.inrc.record import load_record

    record = load_record(job)
    if record is None or record.ssh is None:
        return
    with Progress(console=error_console()) as bar:
        task = bar.add_task("copying", total=len(job.shards))
        damaged = pull(job, record.host, record.folder, lambda shards: bar.update(task, completed=shards))
    if damaged:
        raise JobError(next(iter(damaged.values())))


def _summarise(job: Job, result: ShardResult, files: Mapping[str, Path | None], as_json: bool) -> None:
    networks = counted(result.networks)
    manifest = job.manifest
    sampling = manifest.sampling
    if as_json:
        summary = {
            "pipeline": manifest.pipeline,
            "digest": manifest.pipeline_digest,
            "backend": manifest.place.backend,
            "seed": sampling.seed,
            "images": sampling.images,
            "steps": sampling.steps,
            "shards": sampling.shards,
            "generator": sampling.generator,
            "seconds": result.seconds,
            "networks": networks,
            **{name: None if path is None else str(path) for name, path in files.items()},
        }
        click.echo(json.dumps(summary, indent=1, allow_nan=False))
        return
    rows = {
        "images x steps": f"{sampling.images} x {sampling.steps} (seed {sampling.seed})",
        "shards": str(sampling.shards),
        "seconds of all shards": f"{result.seconds:.2f}",
    }
    print_summary(f"{manifest.pipeline} on {manifest.place.backend}", rows, networks, list(files.values()))
