"""Runs one small Program thousands of times through the fused Lava network: no hang, no wrong bit, no growth.

    python benchmarks/soak.py -n 10000        (make soak)

After every run the readouts and counts must equal the simulator's. A run that takes over a minute is a hang, which the
target reports. Measured 40 times: resident memory (VmRSS of /proc/PID/status) of all processes of the worker, its
session, and of this process; of both together open file descriptors (/proc/PID/fd) and entries of /dev/shm that they
have mapped. The first tenth of the runs is the warm-up, in which kernels are chosen and allocators settle. After it,
descriptors and entries must not grow at all, the worker's memory by no more than 2 MiB (a leak of 256 bytes per run in
10,000) and that of this process, which also holds the measurements, by no more than 8. When the target is closed, no
process may be left, and no new entry of /dev/shm that nobody has mapped. Exit code 1 if anything of this is broken.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from spikegen.errors import BackendError
from spikegen.exporters.lava import LavaTarget
from spikegen.exporters.lava.supervisor import session_members
from spikegen.exporters.lava.wire import SHARED_MEMORY
from spikegen.lowering.retime import retime
from spikegen.program import Conditioning, Conv, Input, Lif, Program, Readout
from spikegen.simulator import Simulator

IMAGES, STEPS, SAMPLES = 4, 3, 40
GROWTH_MAX = {"worker": 2 << 20, "own": 8 << 20, "descriptors": 0, "segments": 0}  # after the warm-up, as in Usage
TIMEOUT = 60.0


@dataclass(frozen=True)
class Usage:
    """Resident bytes of the worker's processes and of this one; descriptors and entries of /dev/shm of all."""

    worker: int
    own: int
    descriptors: int
    segments: int

    @staticmethod
    def of(session: int) -> Usage:
        """That of this process and of those of ``session``."""
        members = session_members(session)
        processes = [os.getpid(), *members]
        return Usage(
            sum(map(_resident, members)),
            _resident(os.getpid()),
            sum(map(_descriptors, processes)),
            len(set().union(*map(_mapped, processes))),
        )


def _unowned(before: set[str]) -> set[str]:
    """Entries of /dev/shm newer than ``before`` that no process has mapped, now and a second later.

    Others may run Lava at the same time: theirs are mapped, or about to be mapped or removed.
    """
    found = _entries() - before
    for _ in range(2):
        found -= set().union(*(_mapped(int(path.name)) for path in Path("/proc").glob("[0-9]*")))
        time.sleep(1)
        found &= _entries()
    return found


def _entries() -> set[str]:
    return {path.name for path in SHARED_MEMORY.iterdir()}


def _mapped(process: int) -> set[str]:
    """Names of the entries of /dev/shm that a process has mapped; none if it has ended or belongs to somebody else."""
    try:
        lines = Path(f"/proc/{process}/maps").read_text().splitlines()
    except OSError:
        return set()
    return {Path(line.split()[5]).name for line in lines if f"{SHARED_MEMORY}/" in line}


def _resident(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS:"))


def _descriptors(process: int) -> int:
    try:
        return len(os.listdir(f"/proc/{process}/fd"))
    except OSError:
        return 0


def small() -> Program:
    """Two layers of spikes with biases of three diffusion steps and a skip, on 8x8 pixels."""
    rng = np.random.default_rng(0)

    def conv(source: str, target: str, out: int, channels: int) -> Conv:
        weight = rng.integers(-60, 60, (out, channels, 3, 3)).astype(np.int8)
        return Conv(f"{source}>{target}", source, target, weight, 1, padding=(1, 1))

    populations = (
        Lif("a", (8, 8, 8), 300, 4095, 0, rng.integers(-50, 50, 8).astype(np.int16), 6),
        Lif("b", (8, 8, 8), 300, 4095, 0, rng.integers(-50, 50, 8).astype(np.int16), 6),
        Readout("out", (1, 8, 8), np.ones(4), np.zeros(1)),
    )
    projections = (conv("in", "a", 8, 1), conv("a", "b", 8, 8), conv("a", "out", 1, 8), conv("b", "out", 1, 8))
    tables = {name: rng.integers(-40, 40, (STEPS, 8)).astype(np.int16) for name in ("a", "b")}
    port = Input("in", (1, 8, 8), 5, 1 / 32)
    return retime(Program("soak", 4, port, populations, projections, Conditioning(STEPS, tables)))


def soak(runs: int, console: Console) -> list[str]:
    """Run, measure and print; what is wrong, in words."""
    program, before = small(), _entries()
    frames = [_frames(program, seed) for seed in range(8)]
    usages: list[tuple[int, Usage]] = []
    seconds: list[float] = []
    with Simulator(program) as simulator, LavaTarget(program, images=IMAGES, timeout=TIMEOUT) as target:
        expected = {(i, step): simulator.evaluate(frames[i], step) for i in range(len(frames)) for step in range(STEPS)}
        session = target.supervisor.pid
        columns = (
            *Progress.get_default_columns()[:2],
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as progress:
            for run in progress.track(range(runs), description="runs"):
                begun = time.perf_counter()
                key = (run % len(frames), run % STEPS)
                found, wanted = target.evaluate(frames[key[0]], key[1]), expected[key]
                seconds.append(time.perf_counter() - begun)
                if found.counts != wanted.counts or not np.array_equal(found.readouts["out"], wanted.readouts["out"]):
                    return [f"run {run} differs from the simulator"]
                if (run >= runs // 10 and run % max(1, runs // SAMPLES) == 0) or run == runs - 1:
                    usages.append((run, Usage.of(session)))
    seconds = [1e3 * second for second in seconds[1:]]  # the first run imports the libraries of the simulator
    console.print(f"{runs:,} runs of up to {IMAGES} images, {len(expected)} different ones, all equal to the simulator")
    console.print(f"milliseconds per run: median {statistics.median(seconds):.1f}, slowest {max(seconds):.0f}")
    wrong = []
    for name, limit in GROWTH_MAX.items():
        values = [getattr(usage, name) for _, usage in usages]
        growth, unit, scale = max(values) - values[0], *(("MiB", 1 << 20) if name in ("worker", "own") else ("", 1))
        text = f"{name}: {values[0] / scale:,.1f} {unit} at run {usages[0][0]:,}, then up to {growth / scale:.2f} more"
        console.print(text)
        if growth > limit:
            wrong.append(f"{text}, limit is {limit / scale:g}")
    if session_members(session):
        wrong.append(f"{len(session_members(session))} processes are left")
    left = _unowned(before)
    if left:
        wrong.append(f"{len(left)} entries of {SHARED_MEMORY} are left")
    return wrong


def _frames(program: Program, seed: int) -> npt.NDArray[np.int32]:
    shape = (1 + seed % IMAGES, *program.input.shape)
    return np.random.default_rng(seed).integers(-31, 32, shape).astype(np.int32)


@click.command()
@click.option("-n", "runs", type=click.IntRange(min=20), default=10_000, show_default=True, help="Runs.")
def main(runs: int) -> None:
    console = Console()
    try:
        wrong = soak(runs, console)
    except BackendError as error:
        wrong = [str(error)]
    for line in wrong:
        console.print(f"FAILED: {line}", style="red")
    if wrong:
        sys.exit(1)
    console.print("no hang, no difference, no growth")


if __name__ == "__main__":
    main()
