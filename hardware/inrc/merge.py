"""The shards of a job as one run: equal to that of `spikegen sample`, whatever their number."""

from __future__ import annotations

import numpy as np

from spikegen.errors import JobError
from spikegen.hardware.inrc.job import Job
from spikegen.hardware.inrc.results import ShardResult, read_result
from spikegen.program import Pipeline
from spikegen.runtime.counts import StepCounts


def merge_results(job: Job, pipeline: Pipeline) -> ShardResult:
    """The results of all shards, in the order of their images; counts added up, seconds too.

    Raises:
        JobError: a shard has no result, or a damaged one.
    """
    missing = [shard for shard in job.shards if not job.result_folder(shard).exists()]
    if missing:
        raise JobError(
            f"{job.folder}: {len(missing)} of {len(job.shards)} shards have no result ({name_shards(missing)}); "
            "`spikegen status` says why, `spikegen submit` queues lost ones again"
        )
    parts = [read_result(job, shard, pipeline) for shard in job.shards]
    images = np.concatenate([part.images for part in parts])
    trajectories = [part.trajectory for part in parts if part.trajectory is not None]
    trajectory = np.concatenate(trajectories, axis=1) if trajectories else None
    networks = {role: _add(job, role, parts) for role in parts[0].networks}
    return ShardResult(images, trajectory, networks, sum(part.seconds for part in parts))


def name_shards(shards: list[int]) -> str:
    """Numbers of shards for a message, the first ten of them."""
    return ", ".join(map(str, shards[:10])) + (f" and {len(shards) - 10} more" if len(shards) > 10 else "")


def _add(job: Job, role: str, parts: list[ShardResult]) -> tuple[StepCounts, ...]:
    """The counts of one network over all shards, step by step."""
    first, *others = [part.networks.get(role, ()) for part in parts]
    total = list(first)
    for other in others:
        if [step for step, _ in other] != [step for step, _ in total]:
            raise JobError(f"{job.folder}: the shards counted other steps of {role}; submit the job again")
        total = [(step, counts + more) for (step, counts), (_, more) in zip(total, other, strict=True)]
    return tuple(total)
