"""Time and power of a network on Loihi 2, by Lava's profiler: one process with one run for each. No Lava here.

Power is measured for the whole board, static power on the idle board; a network on one chip of a board with eight has
the static power of all eight in its figures.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

import spikegen
from spikegen.errors import BackendError, ConfigError
from spikegen.exporters.lava.form import Form
from spikegen.exporters.lava.installation import VARIABLES
from spikegen.exporters.lava.wire import SHARED_MEMORY
from spikegen.program import Conditioning, Lif, Pipeline, Program, Standalone, save

PROFILER = "lava.utils.loihi2_profiler_api"  # what lava/utils/profiler.py of lava-nc 0.10.0 looks for
KINDS = ("time", "power")
REPEATS = 100  # evaluations in one run: power is measured for long, or hardly at all
_LOG_BYTES = 2000


@dataclasses.dataclass(frozen=True)
class Profile:
    """What one run gave.

    Attributes:
        values: name -> figure of the whole run, as ``probe.measure`` returns them.
        timesteps: of the run.
        machine: what the environment says about the machine.
    """

    values: Mapping[str, float]
    timesteps: int
    machine: Mapping[str, str]


def missing_profiler() -> str:
    """Why nothing can be measured here; "" if a profiler is installed. Imports no Lava beyond ``lava.utils``."""
    try:
        found = find_spec(PROFILER) is not None
    except ModuleNotFoundError:
        found = False
    return "" if found else f"Lava's profiler is missing (there is no module {PROFILER}; it is a part of lava-loihi)"


def at_step(program: Program, step: int) -> Program:
    """``program`` as it is at diffusion step ``step``: biases with their offsets, and no conditioning."""
    populations = tuple(
        dataclasses.replace(population, bias_mant=program.bias_mant(population, step).astype(np.int16))
        if isinstance(population, Lif)
        else population
        for population in program.populations
    )
    return dataclasses.replace(program, populations=populations, conditioning=Conditioning(1))


def profile(
    program: Program,
    frames: npt.NDArray[np.int32],
    step: int,
    kind: str,
    *,
    repeats: int = REPEATS,
    form: Form | None = None,
    timeout: float = 3600.0,
) -> Profile:
    """Measure ``repeats`` evaluations of N images in one run of one process.

    Args:
        program: a Program that fits the chip.
        frames: int32 [N, C, H, W], or [N, T, C, H, W] if the input is streamed.
        step: diffusion step.
        kind: one of :data:`KINDS`.
        repeats: evaluations of the N images, at least 1.
        form: how the network is built, by default on Loihi 2 with convolutions.
        timeout: seconds that all of it may take.

    Raises:
        BackendError: no profiler, no board, a run that fails or takes too long, or one whose readouts are not exact.
        ConfigError: an argument is out of range.
    """
    if kind not in KINDS:
        raise ConfigError(f"what is measured is {kind!r}, it must be one of {', '.join(KINDS)}")
    if repeats < 1:
        raise ConfigError(f"an evaluation is repeated {repeats} times, it must be at least once")
    form = form or dataclasses.replace(Form.choose("chip", None), hardware=True)
    if form.hardware and (reason := missing_profiler()):
        raise BackendError(reason)
    pinned = at_step(program, step)
    with tempfile.TemporaryDirectory(prefix="spikegen-profile-") as folder:
        workspace = Path(folder)
        save(Pipeline(program.name, Standalone(), {"network": pinned}), workspace / "network.h5")
        np.save(workspace / "frames.npy", frames, allow_pickle=False)
        order = {"form": form.text(), "kind": kind, "repeats": repeats}
        (workspace / "order.json").write_text(json.dumps(order), encoding="utf-8")
        _run(workspace, {**_environment(form), "TMPDIR": folder}, timeout)
        found = json.loads((workspace / "measured.json").read_text(encoding="utf-8"))
        with np.load(workspace / "readouts.npz", allow_pickle=False) as readouts:
            _compare(pinned, frames, readouts)
    machine = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return Profile(found["values"], found["timesteps"], machine)


def _environment(form: Form) -> dict[str, str]:
    from spikegen.exporters.lava.installation import require_loihi2

    paths = [os.environ.get("PYTHONPATH", ""), str(Path(spikegen.__file__).parents[1])]
    return {
        **os.environ,
        **(require_loihi2(os.environ) if form.hardware else {}),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }


def _run(workspace: Path, environment: Mapping[str, str], timeout: float) -> None:
    """Run the process to its end; whatever it has started ends with it."""
    log = workspace / "lava.log"
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - our own module with our own arguments, no shell
            [sys.executable, "-m", "spikegen.exporters.lava.probe", str(workspace)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=dict(environment),
            start_new_session=True,
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise BackendError(f"the measurement took more than {timeout:g} seconds, and was ended") from None
        finally:
            _end(process, workspace)
    if code:
        failed = workspace / "failed.txt"
        reason = failed.read_text(encoding="utf-8") if failed.is_file() else _tail(log) or f"it ended with {code}"
        raise BackendError(f"the measurement failed: {reason}")


def _end(process: subprocess.Popen[bytes], workspace: Path) -> None:
    """End what is left of the process and its children, and of their shared memory."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its session is its own
    process.wait()
    with contextlib.suppress(FileNotFoundError, ValueError):  # it had not come so far
        for name in json.loads((workspace / "segments.json").read_text(encoding="utf-8")):
            (SHARED_MEMORY / name).unlink(missing_ok=True)


def _tail(log: Path) -> str:
    return log.read_bytes()[-_LOG_BYTES:].decode(errors="replace").strip()


def _compare(program: Program, frames: npt.NDArray[np.int32], readouts: Mapping[str, npt.NDArray[np.int32]]) -> None:
    """The last evaluation of the run must be exact, else something else was measured."""
    from spikegen.simulator import Simulator

    with Simulator(program) as simulator:
        expected = simulator.evaluate(frames, 0).readouts
    wrong = [name for name, currents in expected.items() if not np.array_equal(readouts[name][: len(frames)], currents)]
    if wrong:
        raise BackendError(
            f"what was measured is not the network: the currents of {', '.join(wrong)} are not the simulator's"
        )
