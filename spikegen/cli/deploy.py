"""`spikegen deploy`: write a job folder for an INRC host, or for any Slurm. Needs neither torch nor Lava."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from spikegen.cli._decode import check_generator
from spikegen.cli._options import BACKENDS, IMAGE_STEPS, SYNAPSES, check_backend, sampling_options
from spikegen.cli._output import error_console
from spikegen.cli._pipeline import read_pipeline
from spikegen.cli._solver import choose_solver

if TYPE_CHECKING:
    from spikegen.hardware.inrc import Job
    from spikegen.hardware.loihi2 import NetworkCheck
    from spikegen.program import Pipeline

_HARDWARE = "loihi2"
# Names of spikegen.hardware.inrc.partitions, whose import `--help` need not wait for.
_GENERATIONS = ("N2A2", "N3B2", "N3B3", "N3C1", "N3D1")
_HOST_BINARY = "nxcore/bin/nx_driver_server"
_SHOWN = 5  # violations that an error names


@click.command()
@click.argument("source", metavar="PIPELINE")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Job folder; must be new.")
@click.option("--partition", help="Slurm partition of the boards, such as oheogulch or kp.")
@click.option("--board", help="Slurm node of the board, such as ncl-ext-og-01; default any of the partition.")
@click.option("--queue", help="Slurm partition for the scripts, if they shall not run in that of the boards.")
@click.option("--host", help="Address of a host on the local network, in place of boards that Slurm lends.")
@click.option("--host-binary", default=_HOST_BINARY, show_default=True, help="Driver on that host.")
@click.option("--loihi-gen", type=click.Choice(_GENERATIONS), help="Chip stepping; default N3B3, for kp N3C1.")
@click.option("--limits", help="Board to check against, such as oheogulch; default that of the partition.")
@click.option("--force", is_flag=True, help="Write the job although the check finds broken limits.")
@click.option("--shards", type=click.IntRange(min=1), default=1, show_default=True, help="Tasks of the job array.")
@sampling_options
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    default=_HARDWARE,
    show_default=True,
    help="Where the networks run; all but loihi2 run on CPUs and show that the way there and back works.",
)
@click.option("--synapses", type=click.Choice(SYNAPSES), help="How the backend holds the synapses.")
@click.option("--batch", type=click.IntRange(min=1), help="Images per evaluation; changes no result.")
@click.option("--time-limit", metavar="TIME", help="Of a shard, as sbatch takes it: minutes or HH:MM:SS.")
@click.option("--python", default="python3", show_default=True, help="Interpreter with spikegen on that machine.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def deploy(
    source: str,
    output: Path,
    partition: str | None,
    board: str | None,
    queue: str | None,
    host: str | None,
    host_binary: str,
    loihi_gen: str | None,
    limits: str | None,
    force: bool,
    images: int,
    shards: int,
    steps: int | None,
    solver: str | None,
    eta: float | None,
    variance: str | None,
    spacing: str | None,
    threshold_scale: float,
    temperature: float | None,
    generator: str | None,
    seed: int,
    backend: str,
    synapses: str | None,
    batch: int | None,
    time_limit: str | None,
    python: str,
    as_json: bool,
) -> None:
    """Write a job folder that samples PIPELINE on a host with Slurm: `spikegen submit`, `status` and `fetch` drive it.

    For Loihi 2 the pipeline is checked against the limits of the board first. The images are those of `spikegen sample`
    with the same options, whatever the number of shards.
    """
    from spikegen.errors import ConfigError
    from spikegen.hardware.inrc import Place, Sampling, find_generation, find_limits, write_job
    from spikegen.program import TokenDiffusion
    from spikegen.program.threshold import guided

    check_backend(backend, synapses, None)
    if host is not None and (board is not None or queue is not None):
        raise click.UsageError("--host is a board without Slurm: it takes neither --board nor --queue")
    generation = loihi_gen or find_generation(partition)
    try:
        place = Place(
            backend, synapses, batch, partition, queue, board, generation, host, host_binary, time_limit, python
        )
        checked_board = (limits or find_limits(partition, board)) if backend == _HARDWARE else limits
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    pipeline = guided(read_pipeline(source, error_console().print), threshold_scale)
    of_tokens = isinstance(pipeline.host, TokenDiffusion)
    if generator is not None and not of_tokens:
        raise click.UsageError(f"--generator is an option of pipelines of tokens; {pipeline.name} samples images")
    options = {"eta": eta, "variance": variance, "spacing": spacing, "temperature": temperature}
    chosen = choose_solver(pipeline, solver, steps, None if of_tokens else IMAGE_STEPS, options)
    generator = check_generator(pipeline, generator) if of_tokens else None
    try:
        sampling = Sampling(
            images,
            len(chosen.timesteps),
            seed,
            shards,
            solver,
            {name: value for name, value in options.items() if value is not None},
            json.loads(json.dumps(dict(chosen.identity()))),
            generator,
        )
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    check = None if checked_board is None else _check(pipeline, checked_board, generator, force=force)
    _report(write_job(output, pipeline, sampling, place, check), output, as_json)


def _check(pipeline: Pipeline, name: str, generator: str | None, *, force: bool) -> dict[str, Any]:
    """The networks that sampling runs against the limits of a board; JobError if one is broken and not forced."""
    import dataclasses

    from spikegen.errors import JobError
    from spikegen.hardware.loihi2 import check_program, find_board
    from spikegen.program import TokenDiffusion
    from spikegen.runtime import lookup_decoder

    board = find_board(name)
    programs = {"denoiser": pipeline.network("denoiser")}
    if isinstance(pipeline.host, TokenDiffusion):
        lookup = generator == "lookup"
        programs["decoder"] = lookup_decoder(pipeline).program if lookup else pipeline.network("decoder")
    found: Mapping[str, NetworkCheck] = {role: check_program(program, board) for role, program in programs.items()}
    broken = [
        f"{role}: {violation.rule}: {violation.where + ': ' if violation.where else ''}{violation.resource} "
        f"{violation.used:,}, limit {violation.limit:,}; {violation.hint}"
        for role, network in found.items()
        for violation in network.violations
    ]
    if broken and not force:
        more = [f"and {len(broken) - _SHOWN} more"] if len(broken) > _SHOWN else []
        lines = "\n  - ".join(["", *broken[:_SHOWN], *more])
        raise JobError(
            f"{pipeline.name} does not fit {board.title}; `spikegen check --board {board.name} --fix` says what would, "
            f"--force writes the job all the same:{lines}"
        )
    return {
        "board": board.name,
        "fits": not broken,
        "networks": {
            role: {
                "cores": network.layout.cores,
                "chips": network.layout.chips,
                "violations": [dataclasses.asdict(violation) for violation in network.violations],
            }
            for role, network in found.items()
        },
    }


def _report(job: Job, output: Path, as_json: bool) -> None:
    manifest = job.manifest
    sampling, place, check = manifest.sampling, manifest.place, manifest.check
    if as_json:
        click.echo(json.dumps({"output": str(output), **json.loads(manifest.encode())}, indent=1))
        return
    each = len(sampling.range_of(sampling.shards - 1))
    click.echo(
        f"{manifest.pipeline}: {sampling.images} images x {sampling.steps} steps, seed {sampling.seed}, "
        f"{sampling.shards} shards of at most {each}, on {place.backend}"
    )
    for role, network in (check["networks"] if check else {}).items():
        verdict = "fits" if not network["violations"] else f"{len(network['violations'])} broken limits"
        click.echo(
            f"{role}: {network['cores']} cores, {network['chips']} chips of {check and check['board']}: {verdict}"
        )
    click.echo(f"Wrote {output}")
    click.echo(f"Next: spikegen submit {output}" if place.host is None else f"Next: bash job.sh in {output}")
