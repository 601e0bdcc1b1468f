"""Result files, progress and the summary of a run."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from rich.console import Console

    from spikegen.runtime.counts import StepCounts

WIDE = 200  # columns of what goes to a file or a pipe
_NONE: Mapping[str, Path | None] = {}


def check_outputs(source: str, files: Mapping[str, Path | None], inputs: Mapping[str, Path | None] = _NONE) -> None:
    """Refuse what cannot be written, before the work starts.

    Args:
        source: the argument of the command, which no file may replace.
        files: option -> path of what is written, None: not wanted.
        inputs: option -> path of what is read besides, None: not given.
    """
    from spikegen.runtime.files import check_output

    for path in files.values():
        if path is not None:
            check_output(path)
    names = [path.resolve() for path in (Path(source), *inputs.values(), *files.values()) if path is not None]
    if len(set(names)) != len(names):
        raise click.UsageError(f"{', '.join(('PIPELINE', *inputs, *files))} must be different files")


def error_console() -> Console:
    """Where notes and progress go. Names are printed as they are: no markup."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False)


def output_console() -> Console:
    """Where results go. Tables keep their lines whole where there is no terminal that gives a width."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)  # names may hold brackets
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    return console


@contextlib.contextmanager
def working(console: Console, text: str) -> Iterator[Callable[[str], None]]:
    """A line that says what is being done, while it is done."""
    from rich.text import Text

    with console.status(Text(text)) as status:
        yield lambda now: status.update(Text(now))


def write_array(path: Path | None, array: npt.NDArray[np.generic]) -> None:
    """Write ``array`` as .npy, if a path is given."""
    import numpy as np

    from spikegen.runtime.files import write_output

    if path is not None:
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        write_output(path, buffer.getvalue())


@contextlib.contextmanager
def progress_bar(console: Any, title: str, total: int, done: int = 0) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar of evaluations with the remaining time, or None if there is no console to show it on."""
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
    with Progress(*columns, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(title, total=total, completed=done)
        yield lambda completed, _: bar.update(task, completed=completed)


def counted(networks: Mapping[str, Sequence[StepCounts]]) -> dict[str, dict[str, float]]:
    """Role -> evaluations, and means per evaluation of events and synaptic operations."""
    rows = {}
    for role, steps in networks.items():
        total = steps[0][1]
        for _, counts in steps[1:]:
            total = total + counts
        rows[role] = {
            "evaluations": total.images,
            "events_per_evaluation": sum(total.events.values()) / total.images,
            "stored_per_evaluation": sum(total.stored.values()) / total.images,
            "effective_per_evaluation": sum(total.effective.values()) / total.images,
        }
    return rows


def print_summary(
    title: str, rows: Mapping[str, str], networks: Mapping[str, Mapping[str, float]], files: Sequence[Path | None]
) -> None:
    """The figures of a run as a table, and the files it wrote."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in rows.items():
        table.add_row(name, value)
    for role, figures in networks.items():
        table.add_section()
        table.add_row(f"{role}: evaluations", f"{figures['evaluations']:,.0f}")
        table.add_row("  events per evaluation", f"{figures['events_per_evaluation']:,.0f}")
        table.add_row("  synaptic operations per evaluation", f"{figures['stored_per_evaluation']:,.0f}")
        table.add_row("    through nonzero weights", f"{figures['effective_per_evaluation']:,.0f}")
    console = output_console()
    console.print(table)
    console.print(f"Wrote {', '.join(str(path) for path in files if path is not None)}", soft_wrap=True)
