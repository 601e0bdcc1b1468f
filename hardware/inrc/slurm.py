"""Slurm's commands: what is asked of sbatch, squeue and sacct, and what their answers mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from spikegen.errors import JobError
from spikegen.hardware.inrc.remote import Host
from spikegen.hardware.inrc.scripts import SLURM

# Final states by squeue(1) and sacct(1), "JOB STATE CODES"; all others say that a task is waiting or running.
ENDED = frozenset(
    (
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED"),
        *("NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
    )
)
WAITING = frozenset(("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED"))


@dataclass(frozen=True)
class Task:
    """A task of a job array.

    Attributes:
        job: number of the job array.
        shard: number of the task, which is that of the shard.
        state: as Slurm writes it, such as RUNNING.
        reason: why it is in this state, "" if nothing is known.
    """

    job: str
    shard: int
    state: str
    reason: str

    @property
    def active(self) -> bool:
        """Whether it is waiting or running."""
        return self.state not in ENDED


def submit(host: Host, folder: str, name: str, shards: Sequence[int]) -> str:
    """Queue some shards as a job array and return its number.

    Args:
        host: the machine with the queue.
        folder: the job folder on it.
        name: what the job is called there.
        shards: their numbers, at least one.

    Raises:
        JobError: sbatch is missing or refuses, or answers something else than a number.
    """
    command = ["sbatch", "--parsable", f"--chdir={folder}", f"--job-name={name}", f"--array={ranges(shards)}"]
    answer = host.run([*command, f"{folder}/{SLURM}"]).decode(errors="replace").strip()
    number = answer.split(";", maxsplit=1)[0]  # a cluster may follow
    if not re.fullmatch(r"\d+", number):
        raise JobError(f"sbatch on {host.name} answered {answer!r}, expected the number of a job")
    return number


def tasks(host: Host, name: str, jobs: Sequence[str]) -> dict[tuple[str, int], Task]:
    """What Slurm knows of the tasks of ``jobs``, by (job, shard).

    squeue knows tasks that are queued and, for some minutes, those that ended. Older ones are asked of sacct, where
    the site keeps accounts; where it does not, they are not in the answer.

    Args:
        host: the machine with the queue.
        name: what the jobs are called there.
        jobs: numbers of job arrays.

    Raises:
        JobError: squeue is missing or fails.
    """
    command = ["squeue", "--noheader", "--array", "--states=all", f"--name={name}", "--format=%F|%K|%T|%r"]
    found = {key: task for key, task in parse_squeue(host.run(command)).items() if task.job in jobs}
    forgotten = [job for job in jobs if not any(task.job == job for task in found.values())]
    if forgotten:
        columns = "--format=JobID,State,ExitCode"
        command = ["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={','.join(forgotten)}", columns]
        try:
            found.update(parse_sacct(host.run(command)))
        except JobError:  # no accounts here: the results tell the rest
            return found
    return found


def parse_squeue(answer: bytes) -> dict[tuple[str, int], Task]:
    """Lines of ``job|task|state|reason``; lines of other jobs than arrays are left out."""
    found = {}
    for line in answer.decode(errors="replace").splitlines():
        job, _, rest = line.partition("|")
        index, _, rest = rest.partition("|")
        state, _, reason = rest.partition("|")
        if job.isdecimal() and index.isdecimal() and state:
            found[job, int(index)] = Task(job, int(index), state, "" if reason in {"None", "(null)"} else reason)
    return found


def parse_sacct(answer: bytes) -> dict[tuple[str, int], Task]:
    """Lines of ``job_task|state|exit code``; "CANCELLED by 0" is CANCELLED, and tasks not yet split are left out."""
    found = {}
    for line in answer.decode(errors="replace").splitlines():
        match = re.fullmatch(r"(\d+)_(\d+)\|([A-Z_]+)( by \d+)?\+?\|(\d+):(\d+)", line.strip())
        if match:
            job, index, state, _, code, signal = match.groups()
            reason = f"signal {signal}" if signal != "0" else f"exit code {code}" if code != "0" else ""
            found[job, int(index)] = Task(job, int(index), state, reason)
    return found


def ranges(shards: Sequence[int]) -> str:
    """Numbers as sbatch takes them: ``0-3,7``."""
    parts: list[list[int]] = []
    for shard in sorted(shards):
        if parts and shard == parts[-1][1] + 1:
            parts[-1][1] = shard
        else:
            parts.append([shard, shard])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
