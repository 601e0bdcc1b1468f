"""A job in the queue: how far each shard is, and submitting those that nobody works on."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass

from spikegen.errors import JobError
from spikegen.hardware.inrc import slurm
from spikegen.hardware.inrc.copying import pull, push, remote_results
from spikegen.hardware.inrc.job import LOGS, Job
from spikegen.hardware.inrc.record import FILE, Record, Submission, load_record, local_record, save_record
from spikegen.hardware.inrc.remote import Host, SshHost
from spikegen.hardware.inrc.results import check_result
from spikegen.hardware.inrc.scripts import SLURM
from spikegen.runtime.files import check_output

_LOG = re.compile(r"^==> (?:.*/)?(\d+)_(\d+)\.log <==\n", re.MULTILINE)  # as tail writes it
_ERROR, _LINES = "Error: ", 20  # how run.py begins an error, and lines of a log that are looked at
_FOLDER = "spikegen-jobs"  # in the home of the other machine


class Stage(enum.Enum):
    """How far a shard is."""

    NEW = "not submitted"
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    LOST = "lost"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class ShardStatus:
    """How far a shard is.

    Attributes:
        shard: its number.
        images: number of its images.
        stage: how far.
        job: the job array that it was last part of, None if it was not submitted.
        state: as Slurm writes it, "" if Slurm knows nothing.
        detail: why it waits or was lost, the last error or line of its log; "" if there is nothing to say.
    """

    shard: int
    images: int
    stage: Stage
    job: str | None = None
    state: str = ""
    detail: str = ""

    @property
    def queueable(self) -> bool:
        """Whether `spikegen submit` queues it."""
        return self.stage in {Stage.NEW, Stage.LOST, Stage.DAMAGED}


def survey(job: Job) -> list[ShardStatus]:
    """How far every shard of ``job`` is.

    Raises:
        JobError: the machine with the queue does not answer.
    """
    return _survey(job, load_record(job) or local_record(job), {})


def submit_job(
    job: Job, ssh: str | None = None, remote_dir: str | None = None
) -> tuple[Submission | None, list[ShardStatus]]:
    """Queue the shards of ``job`` that have no good result and that nobody works on.

    Args:
        job: the job.
        ssh: address of the machine with the queue, None for this one, or for that of earlier submissions.
        remote_dir: folder there, None for one in the home.

    Returns:
        What was submitted, None if there was nothing to do; and how far every shard was before.

    Raises:
        ConfigError: ``ssh`` is no address.
        JobError: the job was submitted elsewhere before, is not one for Slurm, or the queue refuses it.
        OutputError: the record of it cannot be written.
    """
    host_address = job.manifest.place.host
    if host_address is not None:
        raise JobError(
            f"{job.folder}: this job is for the board at {host_address}, without Slurm: run `bash {SLURM}` in the "
            "folder on a machine that reaches the board, then `spikegen fetch`"
        )
    record = _place(job, ssh, remote_dir)
    host, damaged = record.host, {}
    if record.ssh is not None:
        push(job, host, record.folder)
        damaged = pull(job, host, record.folder)
    statuses = _survey(job, record, damaged)
    wanted = tuple(status.shard for status in statuses if status.queueable)
    if not wanted:
        return None, statuses
    check_output(job.folder / FILE)  # what cannot be recorded is not submitted
    submission = Submission(slurm.submit(host, record.folder, job.name, wanted), wanted)
    save_record(job, dataclasses.replace(record, submissions=(*record.submissions, submission)))
    return submission, statuses


def _place(job: Job, ssh: str | None, remote_dir: str | None) -> Record:
    """The record of ``job``, or a new one; JobError if it was submitted elsewhere."""
    record = load_record(job)
    if ssh is None:
        return record or local_record(job)
    host = SshHost(ssh)
    if record is not None and record.ssh == ssh and remote_dir is None:
        return record
    wanted = remote_dir or f"{_FOLDER}/{job.name}"
    folder = host.run(["realpath", "-m", "--", wanted]).decode(errors="replace").strip()
    if record is not None and (record.ssh, record.folder) != (ssh, folder):
        raise JobError(
            f"{job.folder}: it was submitted on {record.host.name} in {record.folder} before; deploy another job for "
            f"{ssh} in {folder}"
        )
    return record or Record(ssh, folder)


def _survey(job: Job, record: Record, damaged: Mapping[int, str]) -> list[ShardStatus]:
    """As :func:`survey`; ``damaged`` are results on the other machine that are known to be bad."""
    statuses = _from_results(job, record, damaged)
    if not record.submissions or all(status.stage is Stage.FINISHED for status in statuses):
        return statuses
    jobs = [submission.job for submission in record.submissions]
    found = slurm.tasks(record.host, job.name, jobs)
    statuses = _from_results(job, record, damaged)  # again: a task that has left the queue since has its result now
    logs = _complaints(record.host, record.folder)
    return [
        status if status.stage is Stage.FINISHED else _from_queue(status, record.jobs_of(status.shard), found, logs)
        for status in statuses
    ]


def _from_results(job: Job, record: Record, damaged: Mapping[int, str]) -> list[ShardStatus]:
    """Which shards have a result. On another machine its folder is enough: it appears whole, and is checked here."""
    remote = set() if record.ssh is None else remote_results(job, record.host, record.folder) - damaged.keys()
    statuses = []
    for shard in job.shards:
        stage, detail = Stage.NEW, ""
        if shard in damaged:
            stage, detail = Stage.DAMAGED, damaged[shard]
        elif shard in remote:
            stage = Stage.FINISHED
        elif job.result_folder(shard).exists():
            try:
                check_result(job, shard)
                stage = Stage.FINISHED
            except JobError as error:
                stage, detail = Stage.DAMAGED, str(error)
        images = len(job.manifest.sampling.range_of(shard))
        statuses.append(ShardStatus(shard, images, stage, detail=detail))
    return statuses


def _from_queue(
    status: ShardStatus,
    jobs: list[str],
    found: Mapping[tuple[str, int], slurm.Task],
    logs: Mapping[tuple[str, int], str],
) -> ShardStatus:
    """The status of a shard without a good result, with what Slurm says of it."""
    if not jobs:
        return status
    known = [found[number, status.shard] for number in jobs if (number, status.shard) in found]
    active = [task for task in known if task.active]
    if active:
        task = active[-1]
        stage = Stage.WAITING if task.state in slurm.WAITING else Stage.RUNNING
        detail = task.reason if stage is Stage.WAITING else logs.get((task.job, task.shard), "")
        return dataclasses.replace(status, stage=stage, job=task.job, state=task.state, detail=detail)
    if status.stage is Stage.DAMAGED:
        return dataclasses.replace(status, job=jobs[-1])
    last = (jobs[-1], status.shard)
    ended = found.get(last)
    why = [ended.reason if ended else "it has left the queue", logs.get(last, "")]
    detail = "; ".join(text for text in why if text)
    return dataclasses.replace(
        status, stage=Stage.LOST, job=jobs[-1], state=ended.state if ended else "", detail=detail
    )


def _complaints(host: Host, folder: str) -> dict[tuple[str, int], str]:
    """(job, shard) -> its log from the last error on, or else its last line; in one line."""
    command = [
        "find",
        f"{folder}/{LOGS}",
        "-name",
        "[0-9]*_[0-9]*.log",
        "-exec",
        "tail",
        "-v",
        "-n",
        str(_LINES),
        "{}",
        "+",
    ]
    _, *parts = _LOG.split(host.run(command).decode(errors="replace"))
    found = {}
    for job, shard, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
        errors = [number for number, line in enumerate(lines) if line.startswith(_ERROR)]
        told = lines[errors[-1] :] if errors else lines[-1:]
        found[job, int(shard)] = " ".join(told).removeprefix(_ERROR)
    return found
