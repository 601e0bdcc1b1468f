"""Run `python -m benchmarks.speed` in the folder of the repository (or `make bench`).

Every unit (a row of a table on one network) is written to the results file as soon as it is measured; an interrupted
run goes on with the units that are missing. `--again` measures what is there already.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.speed.measure import AXES, ROWS, Settings, units
from benchmarks.speed.report import machine, read, tables, update, write

RESULTS = Path(__file__).parents[1] / "results" / "speed.json"
FOLDER = Path(__file__).parents[2] / ".benchmarks" / "speed"  # exported networks


def main() -> int:
    """Measure what is missing, print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    names = [*ROWS, "scaling"]
    parser.add_argument(
        "--only", action="append", default=[], metavar="ROW", help=f"{', '.join(names)}, or ROW/NETWORK; repeatable"
    )
    parser.add_argument("--quick", action="store_true", help="minutes: fewer rounds, smaller sizes")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of torch; default all cores")
    parser.add_argument("--rounds", type=int, help="how often each rival is timed; default 9, quick 3")
    parser.add_argument("--batch", type=int, default=16, help="images per evaluation; default 16")
    parser.add_argument("--json", type=Path, help="results file; default benchmarks/results/speed.json, quick: none")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="exported networks are kept here, and used again")
    parser.add_argument("--again", action="store_true", help="measure what the results file has already")
    parser.add_argument("--docs", action="store_true", help="put the tables into docs/speed.md")
    options = parser.parse_args()
    rounds = options.rounds or (3 if options.quick else 9)
    file = options.json or (None if options.quick else RESULTS)
    settings = Settings(options.folder, options.threads, rounds, options.batch, options.quick)
    wanted = units(tuple(options.only), options.quick)
    unknown = [name for name in options.only if name.partition("/")[0] not in names]
    if unknown or not wanted:
        parser.error(f"nothing to measure: {', '.join(unknown or options.only)}; scaling has {', '.join(AXES)}")
    torch.set_num_threads(options.threads)
    setting = {"machine": machine(options.threads), "rounds": rounds, "batch": options.batch, "quick": options.quick}
    results = {**setting, "rows": {}}
    if file is not None:
        before = read(file)
        same = all(before.get(key) == value for key, value in setting.items())
        if before["rows"] and not same and not options.again:
            parser.error(f"{file} is of another machine or other settings; use --again, or another --json")
        results["rows"] = before["rows"] if same else {}
    missing = {name: unit for name, unit in wanted.items() if options.again or name not in results["rows"]}
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(missing))
        for name, unit in missing.items():
            progress.update(task, description=name)
            results["rows"][name] = unit(settings)
            if file is not None:
                write(file, results)
            progress.advance(task)
    print(tables(results))
    if options.docs:
        update(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
