"""Runs many small Programs on Lava in one process: ``python batch.py FOLDER``, started by ``test_random_programs.py``.

For every ``case-*.npz`` (images of a run, form, frames, step) beside a
``case-*.h5`` it writes ``result-*.npz``. One process for all saves the start of an interpreter with Lava for each.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from spikegen.exporters.lava.engine import open_engine
from spikegen.exporters.lava.form import Form
from spikegen.program import load


def main(folder: Path) -> None:
    parent = os.getppid()
    for path in sorted(folder.glob("case-*.npz")):
        if os.getppid() != parent:  # pytest was killed
            return
        with np.load(path) as case:
            program = load(path.with_suffix(".h5")).network("network")
            engine = open_engine(program, int(case["images"]), Form.parse(str(case["form"])))
            results = engine.run(case["frames"], int(case["step"]), record=True)
            engine.close()
        np.savez(folder / path.name.replace("case", "result"), **results)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
