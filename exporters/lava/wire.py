"""Messages between a target and its worker: named arrays, as length-prefixed npz without pickle."""

from __future__ import annotations

import io
import select
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Message = dict[str, Any]

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory
_PREFIX = 8  # bytes of the length


def encode(kind: str, values: Mapping[str, Any]) -> bytes:
    """A message ``kind`` with values that are arrays, numbers or strings."""
    buffer = io.BytesIO()
    np.savez(buffer, kind=np.array(kind), **{name: np.asarray(value) for name, value in values.items()})
    body = buffer.getvalue()
    return len(body).to_bytes(_PREFIX, "little") + body


def decode(body: bytes) -> Message:
    """The arrays of a message; those without dimensions become numbers and strings."""
    with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
        return {name: arrays[name] if arrays[name].ndim else arrays[name].item() for name in arrays.files}


def ending(code: int) -> str:
    """How a process with exit code ``code`` ended (negative: minus the signal, as Python's modules give it)."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended unexpectedly with exit code {code}"


def receive(connection: socket.socket, deadline: float | None = None) -> Message:
    """The next message.

    Args:
        connection: a blocking stream socket.
        deadline: ``time.monotonic()`` at which to give up, None to wait for ever.

    Raises:
        EOFError: the other side is gone.
        TimeoutError: the deadline has passed.
    """
    length = int.from_bytes(_exactly(connection, _PREFIX, deadline), "little")
    return decode(_exactly(connection, length, deadline))


def _exactly(connection: socket.socket, count: int, deadline: float | None) -> bytes:
    data = bytearray()
    while len(data) < count:
        if deadline is not None and not select.select([connection], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        try:
            part = connection.recv(min(count - len(data), 1 << 20))
        except ConnectionError:
            part = b""
        if not part:
            raise EOFError
        data += part
    return bytes(data)
