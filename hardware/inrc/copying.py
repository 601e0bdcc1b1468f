"""Job folders to a machine behind ssh and results back, as tar streams through ssh."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from spikegen.errors import JobError
from spikegen.hardware.inrc.job import LOGS, MANIFEST, RESULTS, STATES, Job
from spikegen.hardware.inrc.remote import COPY_SECONDS, Host
from spikegen.hardware.inrc.results import FILES, check_result, is_complete, publish


def push(job: Job, host: Host, folder: str) -> None:
    """Copy a job folder, without results, to ``folder`` of ``host``, unless it is there already.

    The manifest comes last: a folder that has one is whole.

    Raises:
        JobError: another job is there, or it cannot be copied.
    """
    host.run(["mkdir", "-p", "--", folder])
    present = host.run(["find", folder, "-mindepth", "1", "-maxdepth", "1"]).decode(errors="replace").split("\n")
    if f"{folder}/{MANIFEST}" in present:
        if host.run(["cat", "--", f"{folder}/{MANIFEST}"]) != job.manifest.encode():
            raise JobError(f"{host.name}:{folder} holds another job; name another folder with --remote-dir")
        return
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in (RESULTS, STATES, LOGS):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name in (*job.manifest.files, MANIFEST):
            data = (job.folder / name).read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    host.run(["tar", "-x", "-f", "-", "-C", folder], buffer.getvalue(), COPY_SECONDS)


def remote_results(job: Job, host: Host, folder: str) -> set[int]:
    """The shards that have a result in ``folder`` of ``host``; whether it is good is not known yet.

    Raises:
        JobError: the folder is not there.
    """
    names = host.run(["find", f"{folder}/{RESULTS}", "-mindepth", "1", "-maxdepth", "1", "-name", "shard-*"])
    present = {line.rpartition("/")[2] for line in names.decode(errors="replace").split("\n")}
    return {shard for shard in job.shards if job.result_folder(shard).name in present}


def pull(job: Job, host: Host, folder: str, finished: Callable[[int], None] | None = None) -> dict[int, str]:
    """Copy the results that are not here yet, or damaged here, into the job folder.

    Args:
        job: the job.
        host: where it ran.
        folder: the job folder there.
        finished: told the number of shards that are here, after each.

    Returns:
        Shard -> what is wrong with its result on the host, where one is damaged; it was not copied.

    Raises:
        JobError: a result cannot be copied.
    """
    damaged = {}
    present = sorted(remote_results(job, host, folder))
    for number, shard in enumerate(present, start=1):
        if not is_complete(job, shard):
            complaint = _pull_one(job, shard, host, folder)
            if complaint is not None:
                damaged[shard] = complaint
        if finished is not None:
            finished(number - len(damaged))
    return damaged


def _pull_one(job: Job, shard: int, host: Host, folder: str) -> str | None:
    target = job.result_folder(shard)
    data = host.run(["tar", "-c", "-f", "-", "-C", f"{folder}/{RESULTS}", target.name], seconds=COPY_SECONDS)
    try:
        target.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as parent:
            temporary = Path(parent) / target.name
            temporary.mkdir()
            try:
                _unpack(data, temporary)
                check_result(job, shard, temporary)
            except JobError as error:
                return f"on {host.name}: {error}".replace(str(temporary), target.name)
            publish(job, shard, temporary)
    except (OSError, tarfile.TarError) as error:
        raise JobError(f"the result of shard {shard} cannot be copied from {host.name}: {error}") from error
    return None


def _unpack(data: bytes, folder: Path) -> None:
    """Write the plain files of a result, by their names, and nothing else that an archive may hold.

    Raises:
        JobError: a file is sparse. It claims any size in a few bytes, and no result has holes.
        OSError: a file cannot be written.
        tarfile.TarError: ``data`` is no archive.
    """
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            name = member.name.rpartition("/")[2]
            if name not in FILES or not member.isfile():
                continue
            if member.issparse():
                raise JobError(
                    f"{folder.name}/{name}: a sparse file, which no result is; `spikegen submit` runs the shard again"
                )
            content = archive.extractfile(member)
            if content is not None:
                (folder / name).write_bytes(content.read())
