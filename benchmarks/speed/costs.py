"""Time and memory of whole commands, each in a process of its own."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.command import python, spikegen
from benchmarks.speed.networks import Network
from spikegen.models import save_checkpoint

_EVALUATE = """
import json, sys, time
from pathlib import Path
import numpy as np
from spikegen.program import load
from spikegen.simulator import Simulator
file, batch = sys.argv[1], int(sys.argv[2])
program = load(file).network("denoiser")
def peak():  # of this process, since it was started
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
loaded = peak()
frames = program.input.quantize(np.random.default_rng(0).standard_normal((batch, *program.input.shape)))
start = time.perf_counter()
with Simulator(program) as simulator:
    built = time.perf_counter() - start
    for _ in range(2):
        simulator.evaluate(frames, 500)
print(json.dumps({"build_seconds": built, "loaded_bytes": loaded, "peak_bytes": peak()}))
"""


def costs(network: Network, folder: Path, batch: int) -> dict[str, Any]:
    """Peak memory of two evaluations of ``batch`` images; seconds and peak memory of `spikegen export`."""
    found: dict[str, Any] = json.loads(python("-c", _EVALUATE, network.file(folder), batch)[0])
    with tempfile.TemporaryDirectory() as temporary:
        source: Path | str = network.name
        if network.config is not None:
            source = Path(temporary) / "checkpoint"
            save_checkpoint(source, network.checkpoint())
        _, export = spikegen("export", source, "-o", Path(temporary) / "exported.h5")
    weights = sum(p.weight.size for p in network.program(folder).projections)
    return {**found, "weights": weights, "export_seconds": export["seconds"], "export_peak_bytes": export["peak_bytes"]}
