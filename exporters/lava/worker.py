"""The process that holds Lava: builds one network, runs it on request, watches its processes.

Started by ``supervisor.py`` as ``python -m spikegen.exporters.lava.worker FD PIPELINE IMAGES FORM`` in a session of
its own; FD is one end of a socket pair (``wire.py``), PIPELINE a file whose role ``network`` is to be built, FORM what
``form.Form.text`` gives. Answers ``built``, ``done``, ``closed``, ``failed`` or ``unavailable``. The main thread
belongs to Lava; a second one reads requests and watches the processes, because Lava blocks for ever when one dies.
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikegen.exporters.lava.form import Form
from spikegen.exporters.lava.wire import SHARED_MEMORY, Message, encode, ending, receive
from spikegen.program import load
from spikegen.requirements import how_to_get_lava

if TYPE_CHECKING:
    from spikegen.exporters.lava.engine import Engine

NEEDS = f"the Lava backend needs lava-nc 0.10.0: {how_to_get_lava('lava')}"
_GATHER = 0.3  # seconds after the first death in which the true culprit has surely ended too


class Worker:
    """Serves one connection.

    Args:
        connection: socket to the supervisor.
        workspace: temporary folder of this worker, removed if the supervisor disappears.
    """

    def __init__(self, connection: socket.socket, workspace: Path) -> None:
        self._connection = connection
        self._workspace = workspace
        self._sending = threading.Lock()
        self._requests: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._closing = False

    def serve(self, pipeline: Path, images: int, form: Form) -> int:
        """Build, answer requests until ``close``; the exit code."""
        try:
            from spikegen.exporters.lava.engine import open_engine
        except ImportError as error:
            self._send("unavailable", reason=f"{NEEDS} ({error})")
            return 1
        try:
            engine = open_engine(load(pipeline).network("network"), images, form)
            # Started only now: a thread that lives while Lava forks its processes could leave them with a locked lock.
            threading.Thread(target=self._watch, args=(engine,), daemon=True).start()
            processes = {name: actor.pid for name, actor in engine.actors.items()}
            self._send("built", names=list(processes), pids=list(processes.values()), segments=engine.segments)
            while (request := self._requests.get())["kind"] == "run":
                results = engine.run(request["frames"], request["step"], request["record"])
                self._send("done", **results)
            self._closing = True
            engine.close()
        except Exception as error:  # noqa: BLE001 - whatever Lava raises must reach the supervisor
            traceback.print_exc()
            time.sleep(2 * _GATHER)  # if a process has died, the watching thread names it: that comes first
            self._send("failed", reason=f"{type(error).__name__}: {error}")
            return 1
        self._send("closed")
        return 0

    def _send(self, kind: str, **values: Any) -> None:
        with self._sending:
            self._connection.sendall(encode(kind, values))

    def _watch(self, engine: Engine) -> None:
        """Read requests and watch the processes until one of the two ends."""
        actors = engine.actors
        sentinels = [actor.sentinel for actor in actors.values()]
        while True:
            ready = wait([self._connection, *sentinels])
            if self._connection in ready:
                try:
                    self._requests.put(receive(self._connection))
                except EOFError:
                    self._end_everything(engine)
            elif self._closing:
                return
            else:
                time.sleep(_GATHER)
                self._send("failed", reason=culprit(actors))
                return

    def _end_everything(self, engine: Engine) -> None:
        """The supervisor is gone without a word: leave no process, no shared memory and no file behind."""
        for name in engine.segments:
            (SHARED_MEMORY / name).unlink(missing_ok=True)
        shutil.rmtree(self._workspace, ignore_errors=True)
        os.killpg(os.getpgrp(), signal.SIGKILL)


def culprit(actors: Mapping[str, Any]) -> str:
    """One clause that names the process that ended first among ``actors`` (name -> ``multiprocessing.Process``).

    The end of one makes Lava stop the others, so one that failed or was killed goes before those that ended in order.
    """
    for name, actor in actors.items():
        failure = getattr(actor, "exception", None)  # Lava's SystemProcess keeps (exception, traceback)
        if failure is not None:
            return f"Lava process {name!r} failed: {type(failure[0]).__name__}: {failure[0]}"
    codes = {name: _exit_code(actor) for name, actor in actors.items()}
    ended = sorted((code == 0, code, name) for name, code in codes.items() if code is not None)
    return f"Lava process {ended[0][2]!r} {ending(ended[0][1])}" if ended else "a Lava process ended unexpectedly"


def _exit_code(actor: Any) -> int | None:
    try:
        code: int | None = actor.exitcode
    except ValueError:  # Lava has joined and closed it
        return 0
    return code


def main(arguments: list[str]) -> int:
    """Entry point: FD PIPELINE IMAGES FORM."""
    descriptor, pipeline, images, form = arguments
    connection = socket.socket(fileno=int(descriptor))
    connection.set_inheritable(False)
    # Lava's processes are forks: if they kept the socket open, the supervisor would not notice that this one died.
    os.register_at_fork(after_in_child=connection.close)
    return Worker(connection, Path(pipeline).parent).serve(Path(pipeline), int(images), Form.parse(form))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
