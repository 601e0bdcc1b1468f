"""Shards on the host that runs them: part of the images each, resumed from its last step, written once."""

from __future__ import annotations

import contextlib
import json
import platform
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import numpy.typing as npt

import spikegen
from spikegen.diffusion import Solver, default_solver
from spikegen.errors import JobError, RecordError
from spikegen.hardware.inrc.job import Job, open_job
from spikegen.hardware.inrc.results import ShardResult, is_complete, write_result
from spikegen.program import Pipeline, Program, Target, TokenDiffusion
from spikegen.runtime import Session, decode_tokens, lookup_decoder, open_target
from spikegen.runtime.backends import default_batch
from spikegen.runtime.counts import StepCounts

Say = Callable[[str], None]


def run_job(folder: Path, shards: Sequence[int], say: Say) -> None:
    """Run ``shards`` of the job in ``folder``, or all; those that have a good result are left alone.

    Args:
        folder: the job folder.
        shards: their numbers, none for all.
        say: told a line after every step.

    Raises:
        JobError: the folder was altered, a number is no shard, or this machine has other versions than are needed.
        BackendError: the target cannot be built or failed.
    """
    job = open_job(folder)
    for shard in shards:
        if shard not in job.shards:
            raise JobError(f"{job.folder}: there is no shard {shard}, its shards are 0..{len(job.shards) - 1}")
    wanted = [shard for shard in shards or job.shards if not is_complete(job, shard)]
    if not wanted:
        say("nothing to do: the results are complete")
        return
    check_versions(job)
    pipeline = job.pipeline()
    for shard in wanted:
        write_result(job, shard, pipeline, run_shard(job, shard, pipeline, say))
        job.state_file(shard).unlink(missing_ok=True)  # of no more use
        say(f"shard {shard}: finished")


def check_versions(job: Job) -> None:
    """Refuse a machine on which the job could make other images.

    Raises:
        JobError: a package is missing or has another version.
    """
    wrong = []
    for name, wanted in job.manifest.versions.items():
        if name == "python":
            found: str | None = ".".join(platform.python_version_tuple()[:2])
        elif name == "spikegen":
            found = spikegen.__version__
        else:
            found = _version(name)
        if found != wanted:
            wrong.append(f"{name} {wanted} (here {found or 'it is missing'})")
    if wrong:
        raise JobError(f"the job needs {', '.join(wrong)}; see requirements.txt in {job.folder}")


def run_shard(job: Job, shard: int, pipeline: Pipeline, say: Say) -> ShardResult:
    """Sample the images of ``shard``; goes on from its state file if there is one.

    Args:
        job: the job.
        shard: its number.
        pipeline: that of the job.
        say: told a line after every step.

    Raises:
        JobError: the solver is another one than the job was written with.
        BackendError: the target cannot be built or failed.
    """
    started = time.perf_counter()
    sampling = job.manifest.sampling
    numbers = sampling.range_of(shard)
    solver = _solver(job, pipeline)
    with contextlib.closing(_open(job, pipeline.network("denoiser"), len(numbers))) as target:
        session = _session(job, shard, pipeline, target, solver, say)
        if session.completed:
            say(f"shard {shard}: goes on after step {session.completed} of {sampling.steps}")
        while not session.done:
            session.step()
            say(f"shard {shard}: step {session.completed} of {sampling.steps}")
        result = session.result()
    networks = {"denoiser": result.counts}
    images = result.sample
    if isinstance(pipeline.host, TokenDiffusion):
        images, networks["decoder"] = _decode(job, pipeline, result.sample)
    return ShardResult(images, result.trajectory, networks, time.perf_counter() - started)


def _decode(
    job: Job, pipeline: Pipeline, tokens: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], tuple[StepCounts, ...]]:
    lookup = lookup_decoder(pipeline) if job.manifest.sampling.generator == "lookup" else None
    program = pipeline.network("decoder") if lookup is None else lookup.program
    with contextlib.closing(_open(job, program, len(tokens))) as target:
        decoded = decode_tokens(pipeline, target, tokens, _batch(job, len(tokens)), lookup)
    return decoded.images, ((0, decoded.counts),)


def _session(job: Job, shard: int, pipeline: Pipeline, target: Target, solver: Solver, say: Say) -> Session:
    sampling, state = job.manifest.sampling, job.state_file(shard)
    numbers = sampling.range_of(shard)

    def begin() -> Session:
        return Session(
            pipeline,
            target,
            solver,
            steps=sampling.steps,
            seed=sampling.seed,
            images=len(numbers),
            first=numbers.start,
            batch=_batch(job, len(numbers)),
            state_file=state,
        )

    try:
        return begin()
    except RecordError as error:  # a state is worth less than the shard
        say(f"shard {shard}: begins anew: {error}")
        state.unlink(missing_ok=True)
        return begin()


def _solver(job: Job, pipeline: Pipeline) -> Solver:
    sampling = job.manifest.sampling
    solver = default_solver(pipeline, sampling.solver, **sampling.options)
    solver.set_timesteps(sampling.steps)
    if json.loads(json.dumps(dict(solver.identity()))) != sampling.identity:
        raise JobError(f"{job.folder}: this spikegen makes another solver than the job was written with; deploy again")
    return solver


def _batch(job: Job, images: int) -> int:
    place = job.manifest.place
    return default_batch(place.backend, images) if place.batch is None else min(place.batch, images)


def _open(job: Job, program: Program, images: int) -> Target:
    place = job.manifest.place
    # The size was checked, or was not to be, when the job was written.
    return open_target(place.backend, program, images=_batch(job, images), synapses=place.synapses, check_size=False)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
