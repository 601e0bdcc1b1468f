"""Whatever ends a network, one clear error names the cause, and no process, shared memory or file is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spikegen.errors import BackendError, MissingPackageError
from spikegen.exporters.lava import LavaTarget
from spikegen.exporters.lava.form import MODELS
from spikegen.exporters.lava.supervisor import Supervisor, session_members
from spikegen.exporters.lava.wire import SHARED_MEMORY
from spikegen.program import Pipeline, Standalone, save
from spikegen.simulator import Simulator
from tests.lava.networks import assert_equal, frames, tiny

pytestmark = pytest.mark.lava

PROGRAM = tiny()
ROOT = Path(__file__).parents[2]
LONG = 1000  # images that keep the unrolled network busy for seconds
MIDDLE = 0.8  # seconds after which a run of so many has begun and is far from done


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def segments(pid: int) -> set[str]:
    """Shared memory that the session of worker ``pid`` uses."""
    maps = [Path(f"/proc/{member}/maps").read_text() for member in session_members(pid)]
    return {name for text in maps for name in re.findall(r"/(psm_\w+)", text)}


class Traces:
    """What a running network has in the system."""

    def __init__(self, target: LavaTarget) -> None:
        self.pid = target.supervisor.pid
        self.segments = segments(self.pid)
        self.workspace = target.supervisor._workspace
        assert len(session_members(self.pid)) > len(target.supervisor.processes)
        assert self.segments
        assert self.workspace.is_dir()

    def gone(self) -> bool:
        left = [name for name in self.segments if (SHARED_MEMORY / name).exists()]
        return not session_members(self.pid) and not left and not self.workspace.exists()


@pytest.fixture
def target() -> Iterator[LavaTarget]:
    with LavaTarget(PROGRAM, images=LONG, model="unrolled", timeout=60) as built:
        yield built


@pytest.fixture
def fused() -> Iterator[LavaTarget]:
    with LavaTarget(PROGRAM, images=2, timeout=60) as built:
        yield built


def later(action: Callable[[], object], seconds: float = MIDDLE) -> None:
    threading.Timer(seconds, action).start()


@pytest.mark.parametrize("model", MODELS)
def test_close_leaves_nothing_and_can_be_repeated(model: str) -> None:
    target = LavaTarget(PROGRAM, images=2, model=model, timeout=60)
    traces = Traces(target)
    images = frames(PROGRAM, 2)
    assert_equal(target.evaluate(images, 0), Simulator(PROGRAM).evaluate(images, 0))
    target.close()
    assert traces.gone()
    target.close()
    with pytest.raises(BackendError, match="the Lava network of 'tiny' is closed"):
        target.evaluate(images, 0)


@pytest.mark.parametrize("victim", ["lif a", "conv a>out", "runtime service 0"])
def test_a_process_killed_in_mid_run_is_named(target: LavaTarget, victim: str) -> None:
    traces = Traces(target)
    later(lambda: os.kill(target.supervisor.processes[victim], signal.SIGKILL))
    started = time.monotonic()
    with pytest.raises(BackendError, match=f"Lava process '{victim}' was killed by SIGKILL"):
        target.evaluate(frames(PROGRAM, LONG), 0)
    assert time.monotonic() - started < 20
    assert traces.gone()
    with pytest.raises(BackendError, match="closed"):
        target.evaluate(frames(PROGRAM, 1), 0)


def test_a_process_killed_between_runs_is_named(target: LavaTarget) -> None:
    traces = Traces(target)
    os.kill(target.supervisor.processes["tap 0"], signal.SIGKILL)
    with pytest.raises(BackendError, match="Lava process 'tap 0' was killed by SIGKILL"):
        target.evaluate(frames(PROGRAM, 1), 0)
    assert traces.gone()


@pytest.mark.parametrize("victim", ["network", "runtime service 0"])
@pytest.mark.parametrize("between", [True, False], ids=["between runs", "in mid-run"])
def test_a_killed_process_of_the_fused_network_is_named(fused: LavaTarget, victim: str, between: bool) -> None:
    """It is busy in mid-run because it is stopped: a run of its own takes no time."""
    traces = Traces(fused)
    images = frames(PROGRAM, 2)
    assert_equal(fused.evaluate(images, 0), Simulator(PROGRAM).evaluate(images, 0))
    pid = fused.supervisor.processes[victim]
    if between:
        os.kill(pid, signal.SIGKILL)
    else:
        os.kill(pid, signal.SIGSTOP)
        later(lambda: os.kill(pid, signal.SIGKILL), 0.2)
    with pytest.raises(BackendError, match=f"Lava process '{victim}' was killed by SIGKILL"):
        fused.evaluate(images, 0)
    assert traces.gone()
    with pytest.raises(BackendError, match="closed"):
        fused.evaluate(images, 0)


def test_an_error_in_the_fused_network_is_passed_on(fused: LavaTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames beyond the input, past the check of the target: the simulator in the Lava process refuses them."""
    traces = Traces(fused)
    monkeypatch.setattr("spikegen.exporters.lava.target.check_frames", lambda *_: None)
    with pytest.raises(BackendError, match=r"Lava process 'network' failed: ConfigError: frames hold 32 in channel 0"):
        fused.evaluate(frames(PROGRAM, 2) * 0 + 32, 0)
    assert traces.gone()


def test_a_stopped_fused_network_is_a_timeout(fused: LavaTarget) -> None:
    traces = Traces(fused)
    os.kill(fused.supervisor.processes["network"], signal.SIGSTOP)
    fused.supervisor._timeout = 0.5
    with pytest.raises(BackendError, match=r"did not finish a run within 0\.5 seconds"):
        fused.evaluate(frames(PROGRAM, 1), 0)
    assert traces.gone()


def test_a_killed_worker_is_noticed(target: LavaTarget) -> None:
    traces = Traces(target)
    later(lambda: os.kill(target.supervisor.pid, signal.SIGKILL))
    with pytest.raises(BackendError, match="its worker process was killed by SIGKILL"):
        target.evaluate(frames(PROGRAM, LONG), 0)
    assert traces.gone()


def test_a_run_that_takes_too_long_is_ended() -> None:
    target = LavaTarget(PROGRAM, images=LONG, model="unrolled", timeout=60)
    traces = Traces(target)
    target.supervisor._timeout = 0.5
    with pytest.raises(BackendError, match=r"did not finish a run within 0\.5 seconds"):
        target.evaluate(frames(PROGRAM, LONG), 0)
    assert traces.gone()


def test_a_stopped_process_is_a_timeout_too_and_close_does_not_hang(target: LavaTarget) -> None:
    traces = Traces(target)
    os.kill(target.supervisor.processes["lif a"], signal.SIGSTOP)
    target.supervisor._timeout = 0.5
    with pytest.raises(BackendError, match=r"within 0\.5 seconds"):
        target.evaluate(frames(PROGRAM, 1), 0)
    assert traces.gone()


def test_a_build_that_takes_too_long_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    started: list[int] = []
    original = Supervisor._answer

    def remember(self: Supervisor, kind: str, failure: str) -> dict[str, object]:
        started.append(self.pid)
        return original(self, kind, failure)

    monkeypatch.setattr(Supervisor, "_answer", remember)
    with pytest.raises(BackendError, match=r"was not built within 0\.3 seconds"):
        LavaTarget(PROGRAM, timeout=0.3)
    assert session_members(started[0]) == []
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_ends_everything(target: LavaTarget) -> None:
    traces = Traces(target)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
    try:
        later(lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            target.evaluate(frames(PROGRAM, LONG), 0)
    finally:
        signal.signal(signal.SIGINT, before)
    assert traces.gone()


# Without the lowering, whose import of torch takes longer than the test.
PARENT = """
import sys
import numpy as np
from spikegen.exporters.lava import LavaTarget
from spikegen.program import load
program = load(sys.argv[1]).network("network")
target = LavaTarget(program, images=1000, model="unrolled", timeout=60)
print(target.supervisor.pid, target.supervisor._workspace, flush=True)
if sys.stdin.readline() == "run\\n":
    target.evaluate(np.zeros((1000, *program.input.shape), dtype=np.int32), 0)
"""


@pytest.mark.parametrize("how", ["killed", "killed in mid-run", "forgetful"])
def test_a_parent_that_disappears_leaves_nothing(how: str, tmp_path: Path) -> None:
    """Killed with SIGKILL, or ended without close()."""
    save(Pipeline("tiny", Standalone(), {"network": PROGRAM}), tmp_path / "tiny.h5")
    arguments = [sys.executable, "-c", PARENT, str(tmp_path / "tiny.h5")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        pid, workspace = parent.stdout.readline().split()
        used = segments(int(pid))
        assert used
        if how == "forgetful":
            parent.stdin.close()
            assert parent.wait(30) == 0
        else:
            if how == "killed in mid-run":
                parent.stdin.write("run\n")
                parent.stdin.flush()
                time.sleep(MIDDLE)
            parent.kill()
            parent.wait(30)
    assert wait_until(lambda: not session_members(int(pid)))
    assert wait_until(lambda: not any((SHARED_MEMORY / name).exists() for name in used))
    assert wait_until(lambda: not Path(workspace).exists())


def test_without_lava_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lava").mkdir()
    (tmp_path / "lava" / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'lava'\")\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(
        MissingPackageError, match=r"the Lava backend needs lava-nc 0\.10\.0: pip install 'spikegen\[lava\]'"
    ):
        LavaTarget(PROGRAM)
