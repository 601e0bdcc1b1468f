"""The progress of a run that learns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from spikegen.cli._output import error_console

if TYPE_CHECKING:
    from spikegen.training import Progress


@contextlib.contextmanager
def loss_bar(what: str, start: int, total: int, quiet: bool) -> Iterator[Callable[[Progress], None] | None]:
    """A progress bar with the loss and the remaining time.

    Args:
        what: shown until the first loss is known.
        start: iterations that an earlier run has done.
        total: iterations in all.
        quiet: no bar; there is no callback then.
    """
    if quiet:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns: tuple[Any, ...] = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times: tuple[Any, ...] = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Bar(*columns, *times, console=error_console()) as bar:
        task = bar.add_task(what, total=total, completed=start)
        yield lambda done: bar.update(task, completed=done.iteration, description=f"loss {done.loss:.4f}")
