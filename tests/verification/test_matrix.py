"""The published networks on every target: no message, readout, count or sample differs.

Rows: SDDPM's tail, the same with TSM, the spiking tail with 1x1 shortcuts, FSDDIM. Columns: the digits' size and
16 x 16. Weights are random, BatchNorm is measured on real images, so every population lives.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from spikegen.diffusion import default_solver
from spikegen.exporters.lava import LavaTarget
from spikegen.exporters.onnx import OnnxTarget
from spikegen.lowering.export import export_model
from spikegen.lowering.parts import network_parts
from spikegen.models import FSDDIMConfig, UNetConfig
from spikegen.models.gain import TemporalGain
from spikegen.program import Lif, Pipeline, Program, Target, overflow_risks
from spikegen.runtime import SampleResult, Session
from spikegen.simulator import Simulator
from spikegen.training import Recipe, untrained
from spikegen.training.recipes import Stage
from spikegen.verification import SlayerTarget, verify_network

WIDTH, STEPS = 8, 40
NETWORKS: dict[str, Callable[[int], UNetConfig | FSDDIMConfig]] = {
    "SDDPM": lambda size: UNetConfig(
        size, width=WIDTH, multipliers=(1, 2), diffusion_steps=STEPS, neuron="hard-reset", tail="swish"
    ),
    "SDM": lambda size: UNetConfig(
        size, width=WIDTH, multipliers=(1, 2), diffusion_steps=STEPS, neuron="hard-reset", tail="swish", tsm=True
    ),
    "spiking tail": lambda size: UNetConfig(
        size, width=WIDTH, multipliers=(1, 2), diffusion_steps=STEPS, neuron="hard-reset"
    ),
    "FSDDIM": lambda size: FSDDIMConfig(size, width=WIDTH, multipliers=(1, 2), diffusion_steps=STEPS),
}
SIZES = {8: "digits", 16: "digits@16"}
AT = [STEPS // 3]  # diffusion step of the input


@pytest.mark.slow
@pytest.mark.lava
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_target_is_equal(name: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikegen.lowering.export.CALIBRATION_IMAGES", 1)  # per diffusion step; equality is the subject
    recipe = Recipe(NETWORKS[name](size), (Stage(batch_size=16),), SIZES[size])
    checkpoint = untrained(recipe, batches=2)
    gains = [module.gains for module in checkpoint.model.modules() if isinstance(module, TemporalGain)]
    torch.manual_seed(0)
    for values in gains:
        values.data = 1 + 0.25 * torch.randn(len(values))
    pipeline = export_model(checkpoint, "matrix")
    program = pipeline.network("denoiser")
    assert overflow_risks(program) == []
    assert_what_it_is_made_of(program, name, with_gains=bool(gains))
    data = network_parts(checkpoint, AT, 1, seed=1)["denoiser"].data
    with LavaTarget(program, images=1, model="unrolled") as lava, OnnxTarget(program, batch=1) as onnx:
        targets: dict[str, Target] = {"SLAYER": SlayerTarget(program), "Lava": lava, "ONNX Runtime": onnx}
        result = verify_network(program, targets, data.images, data.steps, checkpoint.model)
        expected, *samples = (sampled(pipeline, target) for target in (Simulator(program), lava, onnx))
    assert {row.node: row.differing for row in result.nodes} == dict.fromkeys(program.nodes, dict.fromkeys(targets, 0))
    assert [step.equal_counts for step in result.steps] == [dict.fromkeys(targets, True)]
    assert result.equal
    for found in samples:
        np.testing.assert_array_equal(found.sample, expected.sample)
        assert found.counts == expected.counts
    fires = {row.node: (row.events, row.messages) for row in result.nodes}
    assert all(0 < events < messages for node, (events, messages) in fires.items() if node in neuron_layers(program))


def sampled(pipeline: Pipeline, target: Target) -> SampleResult:
    """An image after two steps of the solver."""
    return Session(pipeline, target, default_solver(pipeline), steps=2, seed=0, images=1).run()


def neuron_layers(program: Program) -> list[str]:
    return [node.name for node in program.populations if isinstance(node, Lif)]


def assert_what_it_is_made_of(program: Program, name: str, with_gains: bool) -> None:
    """The features that the row of the matrix is about are in the Program."""
    (readout,) = program.readouts()
    assert (readout.tail is not None) == (name in {"SDDPM", "SDM"})
    assert with_gains == (name == "SDM")
    assert any(p.gains.size for p in program.projections) == with_gains
    clocks = [node for node in neuron_layers(program) if not program.into(node)]
    assert len(clocks) == (2 if with_gains else 0)
    if name == "FSDDIM":
        assert all(program.message_bits(node.name) == 0 for node in program.populations)  # spikes only
