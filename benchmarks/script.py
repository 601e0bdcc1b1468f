"""What the scripts at paper size share: a folder, a seed, figures on the screen and as JSON, an exit code."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Figures = dict[str, Any]
START = time.perf_counter()


def say(what: str) -> None:
    """Tell what is being done."""
    print(f"[{time.perf_counter() - START:5.0f} s] {what}", file=sys.stderr, flush=True)


def main(
    description: str | None,
    measure: Callable[[Path, int], Figures],
    show: Callable[[Figures], None],
    problems: Callable[[Figures], list[str]],
) -> None:
    """Measure in a folder with a seed, show the figures, end with 1 if one of ``problems`` is left."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="folder for checkpoint and pipeline; default: a temporary one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(options.output or Path(temporary), options.seed)
    say("done")
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    broken = problems(found)
    for problem in broken:
        print(f"WRONG: {problem}")
    sys.exit(1 if broken else 0)
