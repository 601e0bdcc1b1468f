"""The parent's side of a worker: start it, talk to it, and end it with everything it started. No Lava here."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import spikegen
from spikegen.errors import BackendError, MissingPackageError
from spikegen.exporters.lava.form import Form
from spikegen.exporters.lava.wire import SHARED_MEMORY, Message, encode, ending, receive
from spikegen.program import Pipeline, Program, Standalone, save

_SEGMENT = re.compile(rf"{SHARED_MEMORY}/(psm_\w+)")  # named by multiprocessing.shared_memory
_LOG_LINES = 15
_CLOSE_SECONDS = 15.0
_KILL_SECONDS = 5.0


class Supervisor:
    """One worker process (``worker.py``) with a built network.

    The worker leads a session of its own: everything it starts can be ended together, and a Ctrl-C in the terminal
    reaches only the parent, which then ends the worker.

    Args:
        program: a valid Program.
        images: N, the most images of one run.
        form: what is to be built.
        timeout: seconds that the build and each run may take.
        environment: environment variables of the worker beside those of this process.

    Attributes:
        processes: name of each Lava process -> its process id.

    Raises:
        MissingPackageError: Lava cannot be imported.
        BackendError: the network cannot be built in time.
    """

    def __init__(
        self, program: Program, images: int, form: Form, timeout: float, environment: Mapping[str, str] | None = None
    ) -> None:
        self._name, self._timeout = program.name, timeout
        self._segments: set[str] = set()
        self._workspace = Path(tempfile.mkdtemp(prefix="spikegen-lava-"))
        try:
            save(Pipeline(program.name, Standalone(), {"network": program}), self._workspace / "network.h5")
            self._connection, self._worker = self._start(images, form, environment or {})
        except BaseException:
            shutil.rmtree(self._workspace, ignore_errors=True)
            raise
        # Runs once: in kill(), when the object is dropped without close(), or when the interpreter ends.
        self._end = weakref.finalize(
            self, _end, os.getpid(), self._worker, self._connection, self._workspace, self._segments
        )
        built = self._answer("built", "was not built")
        self._segments.update(str(name) for name in built["segments"])
        self.processes = {str(name): int(pid) for name, pid in zip(built["names"], built["pids"], strict=True)}

    @property
    def pid(self) -> int:
        """Process id of the worker, which is also the id of its session."""
        return self._worker.pid

    def run(self, frames: Any, step: int, record: bool) -> Message:
        """One run; see ``engine.Engine.run``.

        Raises:
            BackendError: a process died, or no answer came in time; everything has been ended.
        """
        if not self._end.alive:
            raise BackendError(f"the Lava network of {self._name!r} is closed")
        self._send("run", frames=frames, step=step, record=record)
        return self._answer("done", "did not finish a run")

    def close(self) -> None:
        """End the network in order, and by force if that takes too long. May be called twice."""
        if not self._end.alive:
            return
        try:
            self._connection.sendall(encode("close", {}))
            receive(self._connection, time.monotonic() + _CLOSE_SECONDS)
            self._worker.wait(_CLOSE_SECONDS)
        except (OSError, EOFError, subprocess.TimeoutExpired):
            pass  # it does not end by itself; what is left is killed below (TimeoutError is an OSError)
        finally:
            self.kill()

    def kill(self) -> None:
        """End everything at once and leave nothing behind. May be called twice."""
        self._end()

    def _start(
        self, images: int, form: Form, extra: Mapping[str, str]
    ) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        paths = [os.environ.get("PYTHONPATH", ""), str(Path(spikegen.__file__).parents[1])]
        environment = {
            **os.environ,
            **extra,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            # What Lava and multiprocessing put into the temporary folder goes with ours, even after a kill.
            "TMPDIR": str(self._workspace),
        }
        if form.model != "fused":  # dozens of processes: more threads in each would only get in each other's way
            environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        near, far = socket.socketpair()
        arguments = [str(far.fileno()), str(self._workspace / "network.h5"), str(images), form.text()]
        try:
            with far, (self._workspace / "lava.log").open("wb") as log:
                worker = subprocess.Popen(  # noqa: S603 - our own module with our own arguments, no shell
                    [sys.executable, "-m", "spikegen.exporters.lava.worker", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    pass_fds=[far.fileno()],
                    start_new_session=True,
                )
        except BaseException:
            near.close()
            raise
        return near, worker

    def _send(self, kind: str, **values: Any) -> None:
        try:
            self._connection.sendall(encode(kind, values))
        except OSError:
            self._fail(self._worker_death())
        except BaseException:
            self.kill()
            raise

    def _answer(self, kind: str, failure: str) -> Message:
        """The worker's answer of ``kind``; anything else ends everything and raises."""
        try:
            message = receive(self._connection, time.monotonic() + self._timeout)
        except TimeoutError:
            self._fail(f"it {failure} within {self._timeout:g} seconds; raise the timeout if it is only slow")
        except EOFError:
            self._fail(self._worker_death())
        except BaseException:  # KeyboardInterrupt above all
            self.kill()
            raise
        if message["kind"] == "unavailable":
            self.kill()
            raise MissingPackageError(message["reason"])
        if message["kind"] != kind:
            self._fail(str(message["reason"]))
        return message

    def _fail(self, reason: str) -> NoReturn:
        log = (self._workspace / "lava.log").read_text(errors="replace").splitlines()[-_LOG_LINES:]
        self.kill()
        text = f"the Lava network of {self._name!r} was ended: {reason}"
        raise BackendError("\n".join([text, *(["the end of Lava's log:", *log] if log else [])]))

    def _worker_death(self) -> str:
        try:
            code = self._worker.wait(_KILL_SECONDS)
        except subprocess.TimeoutExpired:
            return "its worker process closed the connection"
        return f"its worker process {ending(code)}"


def _end(
    parent: int, worker: subprocess.Popen[bytes], connection: socket.socket, workspace: Path, segments: set[str]
) -> None:
    """End the session of ``worker`` and remove its files, unless this is a fork of the parent, which has no say."""
    if os.getpid() == parent:
        end_session(worker, segments)
        connection.close()
        shutil.rmtree(workspace, ignore_errors=True)


def end_session(leader: subprocess.Popen[bytes], segments: set[str] | frozenset[str] = frozenset()) -> None:
    """Kill the session that ``leader`` leads and remove its shared memory.

    Args:
        leader: a process started with ``start_new_session=True``; it may have ended already.
        segments: names of segments that nobody may have mapped any more.
    """
    # Stopped, the session can neither map more shared memory nor start more processes while it is looked at.
    _signal_group(leader.pid, signal.SIGSTOP)
    mapped = {name for pid in session_members(leader.pid) for name in _mapped_segments(pid)}
    _signal_group(leader.pid, signal.SIGKILL)
    leader.wait()
    deadline = time.monotonic() + _KILL_SECONDS
    while session_members(leader.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    for name in mapped | segments:
        (SHARED_MEMORY / name).unlink(missing_ok=True)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # nobody is left
        os.killpg(pid, number)


def session_members(session: int) -> list[int]:
    """Ids of the living processes of a session; empty where there is no /proc."""
    members = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, owner = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue  # it has just ended
        if int(owner) == session and state not in "ZX":
            members.append(int(folder.name))
    return members


def _mapped_segments(pid: int) -> set[str]:
    try:
        return set(_SEGMENT.findall(Path(f"/proc/{pid}/maps").read_text()))
    except OSError:
        return set()
