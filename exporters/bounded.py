"""Work on files of strangers in a process of its own, with a limit of time and memory.

Libraries in C or C++ allocate what a file declares, or loop on a damaged one, and no check in Python comes before that.
"""

from __future__ import annotations

import importlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import spikegen
from spikegen.errors import ExchangeError

SECONDS_MAX = 60
MEMORY_MAX = 1 << 33  # addresses: the interpreter, the library, and a few times the arrays of the largest file
REFUSED = 3  # exit status of a process whose work raised an ExchangeError


def run_bounded(
    work: Callable[..., object], path: Path, *others: Path, doing: str = "reading", seconds: float | None = None
) -> None:
    """Call ``work(path, *others)`` in a process of its own; what it returns is lost.

    Args:
        work: a function of a module.
        path: the file that the messages are about.
        others: more paths.
        doing: what the work does to the file, for messages.
        seconds: limit of its time; None: :data:`SECONDS_MAX`.

    Raises:
        ExchangeError: as of ``work``; or it took too long, or its process died.
    """
    seconds = SECONDS_MAX if seconds is None else seconds
    places = [os.environ.get("PYTHONPATH", ""), str(Path(spikegen.__file__).parents[1])]
    try:
        result = subprocess.run(  # noqa: S603 - our own module, no shell
            [sys.executable, "-m", __name__, work.__module__, work.__name__, str(path), *map(str, others)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(place for place in places if place)},
        )
    except subprocess.TimeoutExpired as error:
        raise ExchangeError(f"{path}: damaged: {doing} it took more than {seconds:g} seconds") from error
    if result.returncode == REFUSED:
        raise ExchangeError(result.stdout.decode("utf8", "replace"))
    if result.returncode != 0:
        raise ExchangeError(f"{path}: damaged: the process {doing} it ended with {result.returncode}")


def main(module: str, function: str, *paths: str) -> int:
    """Do the work within the limit of memory; the exit status says whether it could be done."""
    work = getattr(importlib.import_module(module), function)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    try:
        work(*map(Path, paths))
    except ExchangeError as error:
        sys.stdout.buffer.write(str(error).encode("utf8", "replace"))
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
