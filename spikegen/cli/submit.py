"""`spikegen submit`: queue the shards of a job folder that have no result."""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click


@click.command()
@click.argument("folder", metavar="JOBDIR", type=click.Path(path_type=Path))
@click.option("--ssh", metavar="USER@HOST", help="Machine with the queue, if it is not this one; remembered.")
@click.option("--remote-dir", metavar="FOLDER", help="Job folder there; default spikegen-jobs/NAME in the home.")
@click.option("--json", "as_json", is_flag=True, help="Print what was submitted as JSON.")
def submit(folder: Path, ssh: str | None, remote_dir: str | None, as_json: bool) -> None:
    """Queue every shard of JOBDIR that has no result and that nobody works on.

    The first time these are all; later those that were killed, ran out of time, lost their node or have a damaged
    result. A shard goes on after its last finished step.
    """
    from spikegen.hardware.inrc import open_job, submit_job
    from spikegen.hardware.inrc.merge import name_shards

    if remote_dir is not None and ssh is None:
        raise click.UsageError("--remote-dir names a folder on another machine: --ssh is missing")
    if remote_dir is not None and (remote_dir.startswith("-") or not remote_dir):
        raise click.UsageError(f"--remote-dir {remote_dir!r} is no folder")
    job = open_job(folder)
    submission, before = submit_job(job, ssh, remote_dir)
    if as_json:
        summary = {
            "job": None if submission is None else submission.job,
            "shards": [] if submission is None else list(submission.shards),
            "stages": {str(status.shard): status.stage.value for status in before},
        }
        click.echo(json.dumps(summary, indent=1))
    elif submission is None:
        click.echo("Nothing to submit: every shard is finished, running or waiting")
    else:
        click.echo(f"Submitted job {submission.job}: shards {name_shards(list(submission.shards))}")
        click.echo(f"Next: spikegen status {folder} --wait")
