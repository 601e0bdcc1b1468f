"""The report: operations, energy and time per network evaluation and per sample, next to the dense ANN.

A :class:`Report` is of one network, a :class:`PipelineReport` of all networks that made the samples. What is counted
(:data:`~spikegen.energy.OPERATIONS`) is exact; what follows from the mapping onto cores
(:data:`~spikegen.energy.MAPPED`: messages, added relays, times) is an estimate and kept apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

from spikegen.energy.builtin import MODELS, TIME_MODELS
from spikegen.energy.document import network_document, pipeline_document
from spikegen.energy.formula import FormulaEnergy, formula_energy, program_layers
from spikegen.energy.latency import NetworkTime, Range, network_time
from spikegen.energy.mapped import MAPPED, CoreMap, MappedOperations
from spikegen.energy.measured import Measured
from spikegen.energy.models import Energy, EnergyModel, TimeModel
from spikegen.energy.operations import OPERATIONS, Operations, count_operations
from spikegen.errors import ConfigError
from spikegen.hardware.loihi2 import Layout, place
from spikegen.program import Counts, Pipeline, Program


@dataclass(frozen=True)
class Report:
    """Operations of one network in one sampling run.

    One *evaluation* is one image through the network at one diffusion step (T timesteps). One *sample* is one finished
    image: as many evaluations as the run had diffusion steps.

    Attributes:
        program: the Program that ran.
        samples: images that were sampled together.
        steps: diffusion step of each network call, in the order of the run.
        per_step: operations at each of ``steps``, all samples together.
        models: name -> energy model.
        time_models: name -> time model.
    """

    program: Program
    samples: int
    steps: tuple[int, ...]
    per_step: tuple[Operations, ...]
    models: Mapping[str, EnergyModel] = field(default_factory=lambda: MODELS)
    time_models: Mapping[str, TimeModel] = field(default_factory=lambda: TIME_MODELS)

    @property
    def total(self) -> Operations:
        """Operations of the whole run."""
        total = self.per_step[0]
        for part in self.per_step[1:]:
            total = total + part
        return total

    @property
    def evaluations(self) -> int:
        """Samples x diffusion steps."""
        return self.samples * len(self.steps)

    def per_evaluation(self) -> dict[str, float]:
        """Mean number of each operation in one evaluation."""
        return {name: count / self.evaluations for name, count in self.total.totals().items()}

    def per_sample(self) -> dict[str, float]:
        """Mean number of each operation in one sample: :meth:`per_evaluation` x diffusion steps."""
        return {name: count / self.samples for name, count in self.total.totals().items()}

    @cached_property
    def cores(self) -> CoreMap:
        """The network on the cores of Loihi 2, an estimate."""
        return CoreMap(self.program, place(self.program))

    @property
    def layout(self) -> Layout:
        """Which cores hold what."""
        return self.cores.layout

    @cached_property
    def mapped(self) -> MappedOperations:
        """What the whole run did on these cores."""
        return self.cores.operations(self.total)

    @cached_property
    def mapped_steps(self) -> tuple[MappedOperations, ...]:
        """What each of :attr:`steps` did on these cores."""
        return tuple(self.cores.operations(part) for part in self.per_step)

    def mapped_per_evaluation(self) -> dict[str, float]:
        """Mean number of each of :data:`~spikegen.energy.MAPPED` in one evaluation, estimates."""
        return {name: count / self.evaluations for name, count in self.mapped.totals().items()}

    def mapped_per_sample(self) -> dict[str, float]:
        """Mean number of each of :data:`~spikegen.energy.MAPPED` in one sample, estimates."""
        return {name: count / self.samples for name, count in self.mapped.totals().items()}

    def energy_per_evaluation(self, model: EnergyModel) -> Energy:
        """Mean energy of one evaluation."""
        return model.energy({**self.per_evaluation(), **self.mapped_per_evaluation()})

    def energy_per_sample(self, model: EnergyModel) -> Energy:
        """Mean energy of one sample."""
        return model.energy({**self.per_sample(), **self.mapped_per_sample()})

    def time(self, model: TimeModel) -> NetworkTime:
        """Estimated time, for a stream of as many images as the run had samples."""
        return network_time(model, self.cores, self.mapped_steps, self.samples)

    def ann_macs(self) -> int | None:
        """MACs of the dense ANN of the same shape in one evaluation (once, not T times); None if not recorded."""
        return self.program.ann_macs or None

    def ann_energy(self, model: EnergyModel) -> float | None:
        """Energy of one evaluation of the dense ANN [pJ]; None if the model or the Program says nothing about it."""
        macs = self.ann_macs()
        return None if macs is None or model.ann_mac is None else macs * model.ann_mac

    def formula(self) -> FormulaEnergy:
        """Mean energy of one evaluation by the formula of the papers."""
        return formula_energy(program_layers(self.program, self.total), self.program.timesteps)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON-able data."""
        return network_document(self)


@dataclass(frozen=True)
class PipelineReport:
    """Operations of all networks that made the samples of one run.

    Attributes:
        pipeline: what ran.
        networks: role -> report; all of the same number of samples.
        models: name -> energy model.
        time_models: name -> time model.
        measured: what was measured on a chip; None: nothing was.
    """

    pipeline: Pipeline
    networks: Mapping[str, Report]
    models: Mapping[str, EnergyModel] = field(default_factory=lambda: MODELS)
    time_models: Mapping[str, TimeModel] = field(default_factory=lambda: TIME_MODELS)
    measured: Measured | None = None

    @property
    def samples(self) -> int:
        """Images that were sampled together."""
        return next(iter(self.networks.values())).samples

    @property
    def evaluations_per_sample(self) -> dict[str, int]:
        """Role -> evaluations of the network in one sample."""
        return {role: len(report.steps) for role, report in self.networks.items()}

    def per_sample(self) -> dict[str, float]:
        """Mean number of each operation in one sample, over all networks."""
        parts = [report.per_sample() for report in self.networks.values()]
        return {name: sum(part[name] for part in parts) for name in OPERATIONS}

    def mapped_per_sample(self) -> dict[str, float]:
        """Mean number of each of :data:`~spikegen.energy.MAPPED` in one sample, over all networks; estimates."""
        parts = [report.mapped_per_sample() for report in self.networks.values()]
        return {name: sum(part[name] for part in parts) for name in MAPPED}

    def energy_per_sample(self, model: EnergyModel) -> Energy:
        """Mean energy of one sample, over all networks."""
        return model.energy({**self.per_sample(), **self.mapped_per_sample()})

    def time_per_sample(self, model: TimeModel) -> tuple[Range, Range]:
        """Of one sample alone, and of one of a stream of all samples; over all networks, (least, greatest) [ns]."""
        parts = [report.time(model) for report in self.networks.values()]
        alone, streamed = [part.sample_alone for part in parts], [part.sample_streamed for part in parts]
        return _sum(alone), _sum(streamed)

    def ann_energy(self, model: EnergyModel) -> float | None:
        """Energy of one sample with the dense ANNs [pJ]; None if the model or a Program says nothing about it."""
        total = 0.0
        for report in self.networks.values():
            energy = report.ann_energy(model)
            if energy is None:
                return None
            total += energy * len(report.steps)
        return total

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON-able data."""
        return pipeline_document(self)


def build_pipeline_report(
    pipeline: Pipeline,
    counts: Mapping[str, Sequence[tuple[int, Counts]]],
    programs: Mapping[str, Program] = MappingProxyType({}),
    models: Mapping[str, EnergyModel] = MODELS,
    time_models: Mapping[str, TimeModel] = TIME_MODELS,
    measured: Measured | None = None,
) -> PipelineReport:
    """The report of a run of several networks.

    Args:
        pipeline: what ran.
        counts: role -> (step, counts of all images there) in the order of the run. Every sample went through each of
            these networks at each of its steps.
        programs: role -> the Program that ran there in place of the pipeline's: a decoder with a look-up table.
        models: name -> energy model.
        time_models: name -> time model.
        measured: what was measured on a chip, if anything was.

    Raises:
        ConfigError: a role is unknown, counts are not of its Program, or the networks saw other numbers of images.
    """
    if not counts:
        raise ConfigError("there are no counts: a report needs at least one network")
    networks = {
        role: build_report(programs[role] if role in programs else pipeline.network(role), steps, models, time_models)
        for role, steps in counts.items()
    }
    samples = {role: report.samples for role, report in networks.items()}
    if len(set(samples.values())) > 1:
        seen = ", ".join(f"{role} {count}" for role, count in samples.items())
        raise ConfigError(f"the networks saw different numbers of images ({seen}); one run has one number of samples")
    return PipelineReport(pipeline, networks, models, time_models, measured)


def build_report(
    program: Program,
    counts: Sequence[tuple[int, Counts]],
    models: Mapping[str, EnergyModel] = MODELS,
    time_models: Mapping[str, TimeModel] = TIME_MODELS,
) -> Report:
    """The report of one network in a sampling run.

    Args:
        program: the Program that ran.
        counts: (diffusion step, counts of all images there) for each network call, in the order of the run.
        models: name -> energy model.
        time_models: name -> time model.

    Raises:
        ConfigError: the counts are not of this Program, or not of the same number of images at every step.
    """
    if not counts:
        raise ConfigError("there are no counts: a report needs at least one network call")
    images = sorted({part.images for _, part in counts})
    if len(images) > 1:
        raise ConfigError(
            f"the counts are of {images} images at different steps; one run has the same number at every step"
        )
    per_step = tuple(count_operations(program, step, part) for step, part in counts)
    return Report(program, images[0], tuple(step for step, _ in counts), per_step, models, time_models)


def _sum(parts: Sequence[Range]) -> Range:
    return sum(low for low, _ in parts), sum(high for _, high in parts)
