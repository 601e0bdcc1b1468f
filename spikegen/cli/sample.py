"""`spikegen sample`: generate images with a Program on a backend."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from spikegen.cli._program import read_program

if TYPE_CHECKING:
    from spikegen.diffusion import Solver
    from spikegen.program import Program
    from spikegen.runtime import SampleResult, Session
    from spikegen.runtime.session import Progress

# The names of the tables in spikegen.diffusion and spikegen.runtime, whose import `--help` need not wait for.
_SOLVERS, _SPACINGS = ("ddim", "ddpm"), ("leading", "trailing")
_BACKENDS, _SYNAPSES = ("simulator", "lava"), ("sparse", "conv")
_SEED = click.IntRange(0, (1 << 64) - 1)


@dataclass(frozen=True)
class _Outputs:
    """Where results go; None: not wanted."""

    output: Path
    npy: Path | None
    counts: Path | None
    state: Path | None

    def check(self, source: str) -> None:
        """Refuse what cannot be written, before the work starts."""
        from spikegen.runtime.files import check_output

        paths = [path for path in (self.output, self.npy, self.counts, self.state) if path is not None]
        for path in paths:
            check_output(path)
        names = [path.resolve() for path in (*paths, Path(source))]
        if len(set(names)) != len(names):
            raise click.UsageError("PROGRAM, --output, --npy, --counts and --state must be different files")

    def write(self, program: Program, result: SampleResult) -> None:
        """Write every result; the state of a finished run is of no more use."""
        import numpy as np

        from spikegen.runtime import write_counts, write_png
        from spikegen.runtime.files import write_output

        write_png(self.output, result.images)
        if self.npy is not None:
            buffer = io.BytesIO()
            np.save(buffer, result.images, allow_pickle=False)
            write_output(self.npy, buffer.getvalue())
        if self.counts is not None:
            write_counts(self.counts, program, result.counts)
        if self.state is not None:
            self.state.unlink(missing_ok=True)


@click.command()
@click.argument("source", metavar="PROGRAM")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="PNG file for the grid of images.")
@click.option("-n", "--images", type=click.IntRange(min=1), default=16, show_default=True, help="Number of images.")
@click.option("--steps", type=click.IntRange(min=1), default=20, show_default=True, help="Steps of the solver.")
@click.option("--solver", type=click.Choice(_SOLVERS), default="ddim", show_default=True, help="Solver.")
@click.option("--eta", type=click.FloatRange(0.0, 1.0), help="Noise of ddim: 0 none (default), 1 as much as ddpm.")
@click.option(
    "--spacing", type=click.Choice(_SPACINGS), default="leading", show_default=True, help="Choice of the timesteps."
)
@click.option("--seed", type=_SEED, metavar="INTEGER", default=0, show_default=True, help="Same seed, same images.")
@click.option(
    "--backend", type=click.Choice(_BACKENDS), default="simulator", show_default=True, help="Where the network runs."
)
@click.option("--synapses", type=click.Choice(_SYNAPSES), help="How Lava holds the synapses; default sparse.")
@click.option("--batch", type=click.IntRange(min=1), help="Images per evaluation; changes no result.")
@click.option("--npy", type=click.Path(path_type=Path), help="Write the images as float64 [N, C, H, W] in [-1, 1].")
@click.option("--counts", type=click.Path(path_type=Path), help="Write the counts for `spikegen report`, JSON.")
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="Save the run here after every step, go on from it if it exists, remove it at the end.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--quiet", is_flag=True, help="No progress bar and no summary.")
def sample(
    source: str,
    output: Path,
    images: int,
    steps: int,
    solver: str,
    eta: float | None,
    spacing: str,
    seed: int,
    backend: str,
    synapses: str | None,
    batch: int | None,
    npy: Path | None,
    counts: Path | None,
    state: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Generate images with PROGRAM: a file that `spikegen export` wrote, or a model by name (digits-unet)."""
    from rich.console import Console

    from spikegen.runtime import Session, open_target
    from spikegen.runtime.backends import default_batch
    from spikegen.runtime.images import check_channels

    if synapses is not None and backend != "lava":
        raise click.UsageError(f"--synapses is an option of the backend lava, not of {backend}")
    batch = default_batch(backend, images) if batch is None else min(batch, images)
    outputs = _Outputs(output, npy, counts, state)
    outputs.check(source)
    errors = Console(stderr=True, highlight=False)
    program = read_program(source, None if quiet else errors.print)
    check_channels(program.input.shape[0])
    chosen = _solver(program, solver, steps, eta, spacing)
    with contextlib.closing(open_target(backend, program, images=batch, synapses=synapses or "sparse")) as target:
        session = Session(program, target, chosen, steps=steps, seed=seed, images=images, batch=batch, state_file=state)
        before, started = session.completed, time.perf_counter()
        with _progress(session, None if quiet else errors) as progress:
            result = session.run(progress)
        seconds = time.perf_counter() - started
    outputs.write(program, result)
    if quiet:
        return
    summary = _summary(program, result, seconds, (len(result.counts) - before) * images)
    settings = {"backend": backend, "solver": solver, "steps": steps, "seed": seed, "images": images}
    files = {"output": output, "npy": npy, "counts": counts}
    if as_json:
        written = {name: None if path is None else str(path) for name, path in files.items()}
        click.echo(json.dumps({**settings, **summary, **written}, indent=1, allow_nan=False))
    else:
        _print_summary(settings, summary, [str(path) for path in files.values() if path is not None])


def _solver(program: Program, name: str, steps: int, eta: float | None, spacing: str) -> Solver:
    """The solver for the Program's noise schedule; what it refuses is an error of the command line."""
    from spikegen.diffusion import make_solver
    from spikegen.errors import ConfigError

    host, train_steps = program.host, program.conditioning.steps
    try:
        solver = make_solver(
            name, host.beta_schedule, train_steps, clip_sample=host.clip_sample, spacing=spacing, eta=eta
        )
        solver.set_timesteps(steps)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    return solver


@contextlib.contextmanager
def _progress(session: Session, console: Any) -> Iterator[Progress | None]:
    """A progress bar with the remaining time, or None if there is no console to show it on."""
    if console is None:
        yield None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("evaluations"))
    total = len(session.timesteps) * session.images
    with Progress(*columns, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("sampling", total=total, completed=session.completed * session.images)
        yield lambda done, _: bar.update(task, completed=done)


def _summary(program: Program, result: SampleResult, seconds: float, evaluations: int) -> Mapping[str, Any]:
    """Figures of the run: time of the ``evaluations`` of this very process, counts of all."""
    from spikegen.program.storage import digest

    total = result.counts[0][1]
    for _, counts in result.counts[1:]:
        total = total + counts
    return {
        "program": program.name,
        "digest": digest(program),
        "timesteps": [step for step, _ in result.counts],
        "evaluations": total.images,
        "seconds": seconds,
        "seconds_per_evaluation": seconds / evaluations if evaluations else None,
        "events_per_evaluation": sum(total.events.values()) / total.images,
        "stored_per_evaluation": sum(total.stored.values()) / total.images,
        "effective_per_evaluation": sum(total.effective.values()) / total.images,
    }


def _print_summary(settings: Mapping[str, Any], summary: Mapping[str, Any], files: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    each = summary["seconds_per_evaluation"]
    table = Table(title=f"{summary['program']} on {settings['backend']}", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    rows = {
        "images x steps": f"{settings['images']} x {settings['steps']} ({settings['solver']}, seed {settings['seed']})",
        "network evaluations": f"{summary['evaluations']:,}",
        "seconds": f"{summary['seconds']:.2f}",
        "seconds per evaluation": "" if each is None else f"{each:.4f}",
        "events per evaluation": f"{summary['events_per_evaluation']:,.0f}",
        "synaptic operations per evaluation": f"{summary['stored_per_evaluation']:,.0f}",
        "  through nonzero weights": f"{summary['effective_per_evaluation']:,.0f}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"Wrote {', '.join(files)}", soft_wrap=True, markup=False)
