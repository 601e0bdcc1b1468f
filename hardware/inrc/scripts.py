"""The files of a job folder that are text: environment, run script, Slurm script, requirements."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from spikegen.hardware.inrc.manifest import Place, Sampling

RUN, SLURM, ENVIRONMENT, REQUIREMENTS = "run.py", "job.sh", "environment.sh", "requirements.txt"
LOGS = "logs/%A_%a.log"  # sbatch puts the number of the job array and of the shard there

# Where the INRC's hosts have Lava's tools, by users' public scripts (reference: PATH += /nfs/ncl/bin:/opt/riscv/bin).
_INRC_PATH = "/nfs/ncl/bin:/opt/riscv/bin"

_RUN = '''"""Runs shards of this job: `python run.py 3` runs shard 3, `python run.py` all that have no result yet."""

import signal
import sys
from pathlib import Path


def stop(number, frame):
    """Leave in order, so that the board is given back; the state after the last step stays."""
    sys.exit("Error: ended by SIGTERM: the job was cancelled or is out of time")


def main() -> int:
    """Exit code 0 if every shard that was asked for has a result."""
    signal.signal(signal.SIGTERM, stop)
    try:
        from spikegen.errors import SpikegenError
        from spikegen.hardware.inrc import run_job
    except ImportError as error:
        print(f"Error: {sys.executable} cannot import spikegen ({error}); see requirements.txt", file=sys.stderr)
        return 1
    try:
        run_job(Path(__file__).resolve().parent, list(map(int, sys.argv[1:])), lambda text: print(text, flush=True))
    except SpikegenError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":  # Lava starts processes that import this file again
    sys.exit(main())
'''

_SLURM = """#!/bin/bash
{lines}
# `spikegen submit` queues this; by hand: `cd` into this folder, then `sbatch job.sh`, or `bash job.sh` without Slurm.
set -euo pipefail
if [ ! -f manifest.json ]; then
    echo "Error: $PWD is not the job folder" >&2
    exit 1
fi
source environment.sh
exec "$SPIKEGEN_PYTHON" run.py ${{SLURM_ARRAY_TASK_ID:-}}
"""


def scripts(sampling: Sampling, place: Place, versions: Mapping[str, str]) -> dict[str, str]:
    """Name -> content of the text files of a job."""
    return {
        RUN: _RUN,
        SLURM: _SLURM.format(lines="\n".join(f"#SBATCH {option}" for option in _sbatch_options(sampling, place))),
        ENVIRONMENT: _environment(place),
        REQUIREMENTS: _requirements(place, versions),
    }


def _sbatch_options(sampling: Sampling, place: Place) -> list[str]:
    options = ["--job-name=spikegen", f"--array=0-{sampling.shards - 1}", "--nodes=1", "--ntasks=1", "--requeue"]
    partition = place.queue or place.partition
    if partition is not None:
        options.append(f"--partition={partition}")
    if place.board is not None and place.queue is None:
        options.append(f"--nodelist={place.board}")
    if place.backend == "loihi2":
        options.append("--exclusive")  # two processes cannot share the chips of a node
    if place.time_limit is not None:
        options.append(f"--time={place.time_limit}")
    return [*options, f"--output={LOGS}", "--open-mode=append"]


def _environment(place: Place) -> str:
    """What Lava reads from the environment: lava-nc 0.10.0, lava/utils/loihi.py and lava/utils/slurm.py."""
    values: dict[str, str | None] = {
        "SPIKEGEN_PYTHON": place.python,
        "LOIHI_GEN": place.generation,
        "SLURM": "1" if place.host is None else None,
        "PARTITION": place.partition if place.host is None else None,
        "BOARD": place.board if place.host is None else None,
        "NOSLURM": None if place.host is None else "1",
        "NXSDKHOST": place.host,
        "HOST_BINARY": None if place.host is None else place.host_binary,
    }
    lines = ["# What the job needs of the machine that runs it; job.sh reads this."]
    for name, value in values.items():
        lines.append(f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}")
    if place.backend == "loihi2":
        lines.append(f'export PATH="$PATH:{_INRC_PATH}"')
    return "\n".join(lines) + "\n"


def _requirements(place: Place, versions: Mapping[str, str]) -> str:
    lines = [f"# Python {versions['python']} and these; run.py compares the versions."]
    lines += [f"{name}=={version}" for name, version in versions.items() if name != "python"]
    if place.backend == "loihi2":
        lines.append("# lava-loihi, which members of the INRC get from Intel; it is on no public index")
    return "\n".join(lines) + "\n"
