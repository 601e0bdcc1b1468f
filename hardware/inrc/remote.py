"""The machine with the queue: this one, or one behind ssh. Commands run without a shell here, and quoted there."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from typing import Protocol

from spikegen.errors import ConfigError, JobError

QUERY_SECONDS, COPY_SECONDS = 120.0, 3600.0
# user@host of ssh, or a name of its configuration; never an option
_ADDRESS = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9\[][A-Za-z0-9_.:\]-]*")
_FAILED, _NOT_FOUND = 255, 127  # exit codes of ssh itself, and of a shell that does not find a command


class Host(Protocol):
    """Where commands run."""

    @property
    def name(self) -> str:
        """As a message names it."""

    def run(self, arguments: Sequence[str], data: bytes = b"", seconds: float = QUERY_SECONDS) -> bytes:
        """Run a command and return what it writes.

        Args:
            arguments: the command and its arguments; each stays one argument.
            data: what it reads.
            seconds: how long it may take.

        Raises:
            JobError: it cannot be run, fails, or takes longer.
        """


class LocalHost:
    """This machine."""

    name = "this machine"

    def run(self, arguments: Sequence[str], data: bytes = b"", seconds: float = QUERY_SECONDS) -> bytes:
        """See :class:`Host`."""
        try:
            done = _start(arguments, data, seconds)
        except FileNotFoundError as error:
            raise JobError(_not_found(arguments[0], self.name)) from error
        if done.returncode:
            raise JobError(f"{arguments[0]} failed on {self.name}: {_complaint(done)}")
        return done.stdout


class SshHost:
    """A machine behind ssh, which must let us in without asking (keys, an agent).

    Args:
        address: ``user@host``, or a host of ssh's own configuration.

    Raises:
        ConfigError: it is no address.
    """

    def __init__(self, address: str) -> None:
        if not _ADDRESS.fullmatch(address):
            raise ConfigError(f"{address!r} is no address for ssh, such as user@host")
        self.name = address

    def run(self, arguments: Sequence[str], data: bytes = b"", seconds: float = QUERY_SECONDS) -> bytes:
        """See :class:`Host`."""
        command = ["ssh", "-o", "BatchMode=yes", "--", self.name, shlex.join(arguments)]
        try:
            done = _start(command, data, seconds)
        except FileNotFoundError as error:
            raise JobError("ssh is not installed here; submit on the machine with the queue, without --ssh") from error
        if done.returncode == _FAILED:
            raise JobError(f"ssh {self.name} failed: {_complaint(done)}")
        if done.returncode == _NOT_FOUND:
            raise JobError(_not_found(arguments[0], self.name))
        if done.returncode:
            raise JobError(f"{arguments[0]} failed on {self.name}: {_complaint(done)}")
        return done.stdout


def _start(command: Sequence[str], data: bytes, seconds: float) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, input=data, capture_output=True, timeout=seconds, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise JobError(f"{command[0]} gave no answer in {seconds:g} seconds: {shlex.join(command)}") from error


def _not_found(command: str, where: str) -> str:
    if command in {"sbatch", "squeue", "sacct"}:
        return f"Slurm is not installed on {where} (no command {command}); name a machine that has it: --ssh user@host"
    return f"there is no command {command} on {where}: install it"


def _complaint(done: subprocess.CompletedProcess[bytes]) -> str:
    """What a command that failed says, in one line, without ``sbatch: error:`` before each sentence."""
    lines = (done.stderr or done.stdout).decode(errors="replace").split("\n")
    said = [re.sub(r"^\w+: error: ", "", line.strip()) for line in lines if line.strip()]
    return "; ".join(said) or f"exit code {done.returncode}"
