"""A report as JSON-able data: what ``spikegen report --json`` writes and the HTML page shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from spikegen.energy.formula import SOURCE, FormulaEnergy
from spikegen.energy.latency import LEFT_OUT, NetworkTime, Range
from spikegen.energy.mapped import ASSUMPTIONS, IN_CORES, MAPPED, LayerLoad
from spikegen.energy.models import Energy, EnergyModel, TimeModel
from spikegen.energy.operations import OPERATIONS, Operations
from spikegen.hardware.loihi2 import Layout
from spikegen.program import digest

if TYPE_CHECKING:
    from spikegen.energy.report import PipelineReport, Report

FORMAT = "spikegen-report"
SCHEMA = 3


def pipeline_document(report: PipelineReport) -> dict[str, Any]:
    """Everything in the report of a pipeline."""
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        "pipeline": {"name": report.pipeline.name, "digest": digest(report.pipeline)},
        "samples": report.samples,
        "definitions": dict(OPERATIONS),
        "models": {
            name: {
                "title": model.title,
                "prices": [asdict(price) for price in model.prices],
                "not_billed": model.not_billed,
            }
            for name, model in report.models.items()
        },
        "mapped_definitions": dict(MAPPED),
        "time_models": {
            name: {
                "title": model.title,
                "durations": [asdict(duration) for duration in model.durations],
                "left_out": model.left_out,
                "checked": model.checked,
            }
            for name, model in report.time_models.items()
        },
        "assumptions": {"mapping": list(ASSUMPTIONS), "time_leaves_out": list(LEFT_OUT)},
        "per_sample": report.per_sample(),
        "mapped_per_sample": report.mapped_per_sample(),
        "energy": {
            name: {
                "per_sample": _joules(report.energy_per_sample(model)),
                "ann_per_sample_pj": report.ann_energy(model),
            }
            for name, model in report.models.items()
        },
        "time": {name: _pipeline_time(report, model) for name, model in report.time_models.items()},
        "measured": None if report.measured is None else report.measured.to_dict(report.evaluations_per_sample),
        "networks": {role: network_document(network) for role, network in report.networks.items()},
    }


def _pipeline_time(report: PipelineReport, model: TimeModel) -> dict[str, Any]:
    alone, streamed = report.time_per_sample(model)
    return {
        "sample_alone_ns": _ends(alone),
        "sample_streamed_ns": _ends(streamed),
        "images_streamed": report.samples,
    }


def network_document(report: Report) -> dict[str, Any]:
    """Everything in the report of one network."""
    program, total = report.program, report.total
    return {
        "program": {"name": program.name, "digest": digest(program), "timesteps": program.timesteps},
        "samples": report.samples,
        "diffusion_steps": list(report.steps),
        "evaluations": report.evaluations,
        "total": total.totals(),
        "per_evaluation": report.per_evaluation(),
        "per_sample": report.per_sample(),
        "ann_macs_per_evaluation": report.ann_macs(),
        "energy": {name: _network_energy(report, model) for name, model in report.models.items()},
        "mapping": _mapping(report),
        "time": {name: _time(report.time(model)) for name, model in report.time_models.items()},
        "formula": _formula(report.formula(), len(report.steps)),
        "nodes": [asdict(node) for node in total.nodes],
        "projections": [asdict(projection) for projection in total.projections],
        "steps": [_step(step, part) for step, part in zip(report.steps, report.per_step, strict=True)],
    }


def _network_energy(report: Report, model: EnergyModel) -> dict[str, Any]:
    ann = report.ann_energy(model)
    return {
        "per_evaluation": _joules(report.energy_per_evaluation(model)),
        "per_sample": _joules(report.energy_per_sample(model)),
        "ann_per_evaluation_pj": ann,
        "ann_per_sample_pj": None if ann is None else ann * len(report.steps),
    }


def _mapping(report: Report) -> dict[str, Any]:
    layout = report.layout
    return {
        "cores": layout.cores,
        "chips": layout.chips,
        "cores_per_chip": layout.budget.cores_per_chip,
        "cores_by_role": {role.value: cores for role, cores in layout.cores_by_role().items()},
        "depth": report.cores.depth,
        "per_evaluation": report.mapped_per_evaluation(),
        "per_sample": report.mapped_per_sample(),
        "layers": [_layer(load, layout, report.evaluations, report.program.timesteps) for load in report.mapped.layers],
        "chip_messages_per_evaluation": [
            {"from": a, "to": b, "binary": binary / report.evaluations, "graded": graded / report.evaluations}
            for (a, b), (binary, graded) in report.mapped.chips.items()
        ],
    }


def _joules(energy: Energy) -> dict[str, Any]:
    items: Mapping[str, tuple[float, float]] = energy.items
    return {
        "low_pj": energy.low,
        "high_pj": energy.high,
        "items": {name: {"low_pj": low, "high_pj": high} for name, (low, high) in items.items()},
    }


def _layer(load: LayerLoad, layout: Layout, evaluations: int, timesteps: int) -> dict[str, Any]:
    placement, fullest = load.placement, load.fullest()
    chips = layout.chips_of(placement)
    return {
        "layer": placement.layer.name,
        "role": placement.layer.role.value,
        "population": placement.layer.population,
        "neurons": placement.layer.neurons,
        "cores": placement.cores,
        "first_core": placement.first,
        "chips": [chips[0], chips[-1]],
        "tile": list(placement.tile),
        "shares": dict(placement.shares),
        "bottleneck": placement.bottleneck,
        "per_evaluation": {name: load.operations.get(name, 0.0) / evaluations for name in IN_CORES},
        "fullest_core_per_timestep": {name: fullest.get(name, 0.0) / (evaluations * timesteps) for name in IN_CORES},
    }


def _time(time: NetworkTime) -> dict[str, Any]:
    return {
        "timestep_ns": _ends(time.timestep),
        "evaluation_ns": _ends(time.evaluation),
        "sample_alone_ns": _ends(time.sample_alone),
        "sample_streamed_ns": _ends(time.sample_streamed),
        "images_streamed": time.images,
        "timesteps_alone": time.timesteps_alone,
        "timesteps_streamed": time.timesteps_streamed,
        "steps": [
            {
                "timestep_ns": _ends(step.total),
                "core_ns": _ends(step.core),
                "link_ns": _ends(step.link),
                "barrier_ns": _ends(step.barrier),
                "slowest": step.slowest,
            }
            for step in time.steps
        ],
    }


def _ends(time: Range) -> dict[str, float]:
    return {"low": time[0], "high": time[1]}


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
