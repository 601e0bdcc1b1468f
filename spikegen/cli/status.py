"""`spikegen status`: how far the shards of a job are."""

from __future__ import annotations

import collections
import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from spikegen.cli._output import error_console, output_console

if TYPE_CHECKING:
    from spikegen.hardware.inrc import Job, ShardStatus


@click.command()
@click.argument("folder", metavar="JOBDIR", type=click.Path(path_type=Path))
@click.option("--wait", is_flag=True, help="Wait until no shard is waiting or running.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="Seconds between two looks at the queue.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the shards as JSON.")
def status(folder: Path, wait: bool, interval: float, as_json: bool) -> None:
    """Show how far every shard of JOBDIR is. Exit code 1 if a shard was lost or its result is damaged."""
    from spikegen.errors import JobError
    from spikegen.hardware.inrc import Stage, open_job, survey

    job = open_job(folder)
    shards = _wait(job, interval) if wait else survey(job)
    if as_json:
        found = [{**dataclasses.asdict(shard), "stage": shard.stage.value} for shard in shards]
        done = all(shard.stage is Stage.FINISHED for shard in shards)
        click.echo(json.dumps({"folder": str(folder), "done": done, "shards": found}, indent=1))
    else:
        _print(folder, shards)
    bad = [shard for shard in shards if shard.stage in {Stage.LOST, Stage.DAMAGED}]
    if bad:
        first = bad[0]
        why = ", ".join(text for text in (first.state, first.detail) if text)
        raise JobError(
            f"{folder}: {len(bad)} of {len(shards)} shards are lost or damaged; shard {first.shard}: {why}; "
            f"`spikegen submit {folder}` queues them again"
        )


def _wait(job: Job, interval: float) -> list[ShardStatus]:
    """Look at the queue until nothing moves."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from spikegen.hardware.inrc import Stage, survey

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("images"))
    with Progress(*columns, TimeElapsedColumn(), console=error_console()) as bar:
        task = bar.add_task("waiting", total=job.manifest.sampling.images)
        while True:
            shards = survey(job)
            bar.update(task, completed=sum(shard.images for shard in shards if shard.stage is Stage.FINISHED))
            active = collections.Counter(shard.stage for shard in shards)
            if not active[Stage.WAITING] + active[Stage.RUNNING]:
                return shards
            bar.update(task, description="running" if active[Stage.RUNNING] else "waiting")
            time.sleep(interval)


def _print(folder: Path, shards: list[ShardStatus]) -> None:
    from rich.table import Table

    table = Table(title=str(folder), title_justify="left")
    for heading in ("shard", "images", "stage", "job", "state", "detail"):
        table.add_column(heading, justify="right" if heading in ("shard", "images") else "left", overflow="fold")
    for shard in shards:
        row: tuple[Any, ...] = (
            shard.shard,
            shard.images,
            shard.stage.value,
            shard.job or "",
            shard.state,
            shard.detail,
        )
        table.add_row(*map(str, row))
    console = output_console()
    console.print(table)
    stages = collections.Counter(shard.stage.value for shard in shards)
    console.print(", ".join(f"{count} {stage}" for stage, count in stages.items()))
