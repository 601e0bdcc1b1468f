"""The report: operations and energy per network evaluation and per sample, next to the dense ANN of the same shape.

A :class:`Report` is of one network, a :class:`PipelineReport` of all networks that made the samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from spikegen.energy.formula import SOURCE, FormulaEnergy, formula_energy, program_layers
from spikegen.energy.models import MODELS, Energy, EnergyModel
from spikegen.energy.operations import OPERATIONS, Operations, count_operations
from spikegen.errors import ConfigError
from spikegen.program import Counts, Pipeline, Program, digest

FORMAT = "spikegen-report"
SCHEMA = 2


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
    """

    program: Program
    samples: int
    steps: tuple[int, ...]
    per_step: tuple[Operations, ...]

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
        total = self.total
        return {
            "program": {"name": self.program.name, "digest": digest(self.program), "timesteps": self.program.timesteps},
            "samples": self.samples,
            "diffusion_steps": list(self.steps),
            "evaluations": self.evaluations,
            "total": total.totals(),
            "per_evaluation": self.per_evaluation(),
            "per_sample": self.per_sample(),
            "ann_macs_per_evaluation": self.ann_macs(),
            "energy": {name: self._energy(model) for name, model in MODELS.items()},
            "formula": _formula(self.formula(), len(self.steps)),
            "nodes": [asdict(node) for node in total.nodes],
            "projections": [asdict(projection) for projection in total.projections],
            "steps": [_step(step, part) for step, part in zip(self.steps, self.per_step, strict=True)],
        }

    def _energy(self, model: EnergyModel) -> dict[str, Any]:
        ann = self.ann_energy(model)
        return {
            "per_evaluation": _joules(model.energy(self.per_evaluation())),
            "per_sample": _joules(model.energy(self.per_sample())),
            "ann_per_evaluation_pj": ann,
            "ann_per_sample_pj": None if ann is None else ann * len(self.steps),
        }


@dataclass(frozen=True)
class PipelineReport:
    """Operations of all networks that made the samples of one run.

    Attributes:
        pipeline: what ran.
        networks: role -> report; all of the same number of samples.
    """

    pipeline: Pipeline
    networks: Mapping[str, Report]

    @property
    def samples(self) -> int:
        """Images that were sampled together."""
        return next(iter(self.networks.values())).samples

    def per_sample(self) -> dict[str, float]:
        """Mean number of each operation in one sample, over all networks."""
        parts = [report.per_sample() for report in self.networks.values()]
        return {name: sum(part[name] for part in parts) for name in OPERATIONS}

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
        return {
            "format": FORMAT,
            "schema": SCHEMA,
            "pipeline": {"name": self.pipeline.name, "digest": digest(self.pipeline)},
            "samples": self.samples,
            "definitions": dict(OPERATIONS),
            "models": {
                name: {
                    "title": model.title,
                    "prices": [asdict(price) for price in model.prices],
                    "not_billed": model.not_billed,
                }
                for name, model in MODELS.items()
            },
            "per_sample": self.per_sample(),
            "energy": {
                name: {
                    "per_sample": _joules(model.energy(self.per_sample())),
                    "ann_per_sample_pj": self.ann_energy(model),
                }
                for name, model in MODELS.items()
            },
            "networks": {role: report.to_dict() for role, report in self.networks.items()},
        }


def build_pipeline_report(
    pipeline: Pipeline,
    counts: Mapping[str, Sequence[tuple[int, Counts]]],
    programs: Mapping[str, Program] = MappingProxyType({}),
) -> PipelineReport:
    """The report of a run of several networks.

    Args:
        pipeline: what ran.
        counts: role -> (step, counts of all images there) in the order of the run. Every sample went through each of
            these networks at each of its steps.
        programs: role -> the Program that ran there in place of the pipeline's: a decoder with a look-up table.

    Raises:
        ConfigError: a role is unknown, counts are not of its Program, or the networks saw other numbers of images.
    """
    if not counts:
        raise ConfigError("there are no counts: a report needs at least one network")
    networks = {
        role: build_report(programs[role] if role in programs else pipeline.network(role), steps)
        for role, steps in counts.items()
    }
    samples = {role: report.samples for role, report in networks.items()}
    if len(set(samples.values())) > 1:
        seen = ", ".join(f"{role} {count}" for role, count in samples.items())
        raise ConfigError(f"the networks saw different numbers of images ({seen}); one run has one number of samples")
    return PipelineReport(pipeline, networks)


def build_report(program: Program, counts: Sequence[tuple[int, Counts]]) -> Report:
    """The report of one network in a sampling run.

    Args:
        program: the Program that ran.
        counts: (diffusion step, counts of all images there) for each network call, in the order of the run.

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
    return Report(program, images[0], tuple(step for step, _ in counts), per_step)


def _joules(energy: Energy) -> dict[str, Any]:
    items: Mapping[str, tuple[float, float]] = energy.items
    return {
        "low_pj": energy.low,
        "high_pj": energy.high,
        "items": {name: {"low_pj": low, "high_pj": high} for name, (low, high) in items.items()},
    }


def _formula(energy: FormulaEnergy, steps: int) -> dict[str, Any]:
    parts = {
        "image_pj": energy.image,
        "spikes_pj": energy.spikes,
        "formula_pj": energy.formula,
        "real_pj": energy.real,
        "with_real_pj": energy.with_real,
    }
    return {
        "source": SOURCE,
        "per_evaluation": parts,
        "per_sample": {name: part * steps for name, part in parts.items()},
    }


def _step(step: int, part: Operations) -> dict[str, Any]:
    return {
        "step": step,
        "evaluations": part.evaluations,
        "total": part.totals(),
        "events": {node.name: node.events for node in part.nodes if node.kind != "Readout"},
        "stored": {projection.name: projection.stored for projection in part.projections},
        "effective": {projection.name: projection.effective for projection in part.projections},
    }
