"""The check of a NIR file in a process of its own.

The names in a NIR file are texts of variable length, which HDF5 reads from a heap. A damaged heap can keep HDF5 in an
endless loop, or make it ask for any amount of memory, and no check in Python comes before that. So a strange file is
read here first, with a limit of time and memory; what passes is read again by whoever wants it.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import spikegen
from spikegen.errors import ExchangeError
from spikegen.exporters.nir.structure import NirGraph, read_structure

SECONDS_MAX = 60
MEMORY_MAX = 1 << 33  # addresses: the interpreter, h5py, and twice the arrays of the largest file
_REFUSED = 3


def read_checked(path: str | os.PathLike[str]) -> NirGraph:
    """The content of a NIR file that anyone may have written.

    Raises:
        ExchangeError: as of :func:`~spikegen.exporters.nir.structure.read_structure`, or reading it took too long.
    """
    path = Path(path)
    places = [os.environ.get("PYTHONPATH", ""), str(Path(spikegen.__file__).parents[1])]
    try:
        result = subprocess.run(  # noqa: S603 - our own module with one argument, no shell
            [sys.executable, "-m", "spikegen.exporters.nir.probe", str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS_MAX,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(place for place in places if place)},
        )
    except subprocess.TimeoutExpired as error:
        raise ExchangeError(f"{path}: damaged: reading it took more than {SECONDS_MAX} seconds") from error
    if result.returncode == _REFUSED:
        raise ExchangeError(result.stdout.decode("utf8", "replace"))
    if result.returncode != 0:
        raise ExchangeError(f"{path}: not a readable NIR file: the process that read it ended with {result.returncode}")
    return read_structure(path)


def main(path: str) -> int:
    """Read ``path`` within the limits; the exit status says whether it can be read."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    try:
        read_structure(Path(path))
    except ExchangeError as error:
        sys.stdout.write(str(error))
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
