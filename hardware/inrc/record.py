"""What was submitted of a job, and where: a file in the job folder that `spikegen submit` adds to."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from spikegen.errors import ConfigError, JobError
from spikegen.hardware.inrc.job import Job
from spikegen.hardware.inrc.remote import Host, LocalHost, SshHost
from spikegen.runtime.files import write_output

FILE = "submissions.json"
FORMAT, VERSION = "spikegen-submissions", 1
FILE_BYTES_MAX = 1 << 24


@dataclass(frozen=True)
class Submission:
    """One job array.

    Attributes:
        job: its number.
        shards: its tasks.
    """

    job: str
    shards: tuple[int, ...]


@dataclass(frozen=True)
class Record:
    """All submissions of a job.

    Attributes:
        ssh: address of the machine with the queue, None for this one.
        folder: the job folder there.
        submissions: in their order.
    """

    ssh: str | None
    folder: str
    submissions: tuple[Submission, ...] = ()

    @property
    def host(self) -> Host:
        """The machine with the queue."""
        return LocalHost() if self.ssh is None else SshHost(self.ssh)

    def jobs_of(self, shard: int) -> list[str]:
        """The job arrays that ``shard`` was part of, the last one last."""
        return [submission.job for submission in self.submissions if shard in submission.shards]


def save_record(job: Job, record: Record) -> None:
    """Write the record into the job folder.

    Raises:
        OutputError: it cannot be written.
    """
    document = {"format": FORMAT, "version": VERSION, "job": job.manifest.digest, **dataclasses.asdict(record)}
    write_output(job.folder / FILE, (json.dumps(document, indent=1) + "\n").encode())


def load_record(job: Job) -> Record | None:
    """The record of ``job``, None if nothing was submitted.

    Raises:
        JobError: damaged, or of another job.
    """
    path = job.folder / FILE
    if not path.exists():
        return None
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ValueError(f"it has {path.stat().st_size} bytes, at most {FILE_BYTES_MAX} are allowed")
        document = json.loads(path.read_bytes())
        if (document["format"], document["version"], document["job"]) != (FORMAT, VERSION, job.manifest.digest):
            raise ValueError(f"not a {FORMAT} of version {VERSION} of this job")
        submissions = tuple(
            Submission(_number(item["job"]), tuple(int(shard) for shard in item["shards"]))
            for item in document["submissions"]
        )
        ssh = _text_or_none(document["ssh"])
        if ssh is None:
            record = dataclasses.replace(local_record(job), submissions=submissions)  # also where it was moved since
        else:
            record = Record(SshHost(ssh).name, str(document["folder"]), submissions)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigError) as error:
        raise JobError(
            f"{path}: damaged: {error}; delete it if none of the job is queued, and `spikegen submit` again"
        ) from error
    return record


def local_record(job: Job) -> Record:
    """The record of a job that nothing was submitted of, on this machine."""
    return Record(None, str(job.folder))


def _number(value: object) -> str:
    if not isinstance(value, str) or not value.isdecimal():
        raise ValueError(f"{value!r} is not the number of a job")
    return value


def _text_or_none(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{value!r} is no address")
    return value
