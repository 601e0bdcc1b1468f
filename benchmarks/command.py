"""Commands in processes of their own: what they print, their seconds and their peak memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# A process inherits the peak of the one that starts it, so a small one stands in between.
_LAUNCHER = """
import json, resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
with open(sys.argv[1], "w") as file:
    json.dump({"code": code, "peak_bytes": peak}, file)
"""


def python(*arguments: object, allowed: tuple[int, ...] = (0,)) -> tuple[str, dict[str, float]]:
    """What `python ARGUMENTS` prints, its seconds and its peak memory.

    Ends the whole script if the exit code is not one of ``allowed``.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        run = [sys.executable, "-S", "-c", _LAUNCHER, str(report), sys.executable, *map(str, arguments)]
        start = time.perf_counter()
        text = subprocess.run(run, stdout=subprocess.PIPE, text=True, check=True).stdout  # noqa: S603
        seconds = time.perf_counter() - start
        found = json.loads(report.read_text())
    if found["code"] not in allowed:
        raise SystemExit(f"python {' '.join(map(str, arguments))[:200]} failed with exit code {found['code']}")
    return text, {"seconds": seconds, "peak_bytes": found["peak_bytes"]}


def spikegen(*arguments: object) -> tuple[str, dict[str, float]]:
    """The same for `spikegen ARGUMENTS`; `verify` exits with 1 where targets differ."""
    return python("-m", "spikegen", *arguments, allowed=(0, 1) if arguments[0] == "verify" else (0,))
