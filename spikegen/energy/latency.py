"""Time per timestep and per sample, estimated from counted events on the cores of the mapping.

One timestep of one network, at one diffusion step::

    timestep = max( max over layers of the time of its fullest core,
                    max over chips of the time of the messages that leave it ) + barrier

A core does its operations one after another. An evaluation of N images that are streamed back to back takes
``R(N) = T ceil((N T + depth) / T)`` timesteps (docs/timing.md), a sample as many evaluations as there are diffusion
steps, one after another, because each needs the result of the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spikegen.energy.mapped import IN_CHIPS, CoreMap, MappedOperations
from spikegen.energy.models import TimeModel

Range = tuple[float, float]

LEFT_OUT = (
    "the host (solver, tail, nearest codes) and what goes to and from it, which bounds small networks",
    "loading networks that take turns on a chip",
    "differences between timesteps: loads are means over the images and timesteps of a diffusion step",
    "waiting of a core for messages, and of messages for each other",
)


@dataclass(frozen=True)
class StepTime:
    """One timestep at one diffusion step, (least, greatest) [ns].

    Attributes:
        core: the fullest core of the slowest layer.
        link: the messages that leave the busiest chip.
        barrier: synchronisation.
        slowest: name of that layer.
    """

    core: Range
    link: Range
    barrier: Range
    slowest: str

    @property
    def total(self) -> Range:
        """Core or link, whichever takes longer, and the barrier."""
        low, high = (max(self.core[end], self.link[end]) + self.barrier[end] for end in (0, 1))
        return low, high


@dataclass(frozen=True)
class NetworkTime:
    """Time of one network's part of a sample, under one model.

    Attributes:
        steps: one timestep at each diffusion step, in the order of the run.
        images: N of a stream.
        timesteps_alone: R(1), timesteps of an evaluation of one image.
        timesteps_streamed: R(N), timesteps of an evaluation of N images.
    """

    steps: tuple[StepTime, ...]
    images: int
    timesteps_alone: int
    timesteps_streamed: int

    @property
    def timestep(self) -> Range:
        """Mean over the diffusion steps [ns]."""
        low, high = (sum(step.total[end] for step in self.steps) / len(self.steps) for end in (0, 1))
        return low, high

    @property
    def evaluation(self) -> Range:
        """One evaluation of one image alone, mean over the diffusion steps [ns]."""
        return self.timestep[0] * self.timesteps_alone, self.timestep[1] * self.timesteps_alone

    @property
    def sample_alone(self) -> Range:
        """From the start to the end of one image alone: all diffusion steps [ns]."""
        return self.evaluation[0] * len(self.steps), self.evaluation[1] * len(self.steps)

    @property
    def sample_streamed(self) -> Range:
        """All diffusion steps of N images that are streamed, divided by N [ns]."""
        timesteps = len(self.steps) * self.timesteps_streamed / self.images
        return self.timestep[0] * timesteps, self.timestep[1] * timesteps


def streamed_timesteps(timesteps: int, depth: int, images: int) -> int:
    """R = T ceil((N T + depth) / T): timesteps of an evaluation of ``images`` images back to back."""
    return timesteps * -(-(images * timesteps + depth) // timesteps)


def network_time(model: TimeModel, cores: CoreMap, steps: Sequence[MappedOperations], images: int) -> NetworkTime:
    """Time of a network.

    Args:
        model: durations.
        cores: the network on its cores.
        steps: what each diffusion step did there.
        images: N of a stream.
    """
    timesteps = cores.program.timesteps
    return NetworkTime(
        tuple(step_time(model, step) for step in steps),
        images,
        streamed_timesteps(timesteps, cores.depth, 1),
        streamed_timesteps(timesteps, cores.depth, images),
    )


def step_time(model: TimeModel, step: MappedOperations) -> StepTime:
    """One timestep, from the means over all images and timesteps of ``step``."""
    runs = step.evaluations * step.timesteps
    cores = {load.placement.layer.name: _over(model.time(load.fullest()), runs) for load in step.layers}
    slowest = max(cores, key=lambda name: cores[name][1])
    leaving: dict[int, dict[str, float]] = {}
    for (chip, _), messages in step.chips.items():
        sent = leaving.setdefault(chip, dict.fromkeys(IN_CHIPS, 0.0))
        for name, count in zip(IN_CHIPS, messages, strict=True):
            sent[name] += count
    links = [_over(model.time(sent), runs) for sent in leaving.values()] or [(0.0, 0.0)]
    return StepTime(
        core=(max(low for low, _ in cores.values()), cores[slowest][1]),
        link=(max(low for low, _ in links), max(high for _, high in links)),
        barrier=model.time({"timesteps": 1.0}),
        slowest=slowest,
    )


def _over(time: Range, runs: int) -> Range:
    return time[0] / runs, time[1] / runs
