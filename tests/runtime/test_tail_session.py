"""Whole runs, and their bill, of a pipeline with gains per timestep whose readout has SDDPM's tail."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from spikegen.diffusion import default_solver
from spikegen.energy import build_report
from spikegen.program import Conv, Pipeline, Readout, SwishTail, validate_pipeline
from spikegen.runtime import SampleResult, Session
from spikegen.simulator import Simulator
from tests.runtime.programs import TIMESTEPS, tiny, with_denoiser

CHANNELS, SIZE, IMAGES, STEPS = 2, 4, 5, 4


def published() -> Pipeline:
    """:func:`tiny` with gains on both projections, and a readout of 2 channels whose tail makes the image."""
    rng = np.random.default_rng(5)
    hidden, noise = tiny().network("denoiser").populations
    first, last = tiny().network("denoiser").projections
    assert isinstance(noise, Readout)
    tail = SwishTail(
        norm_scale=rng.normal(size=CHANNELS),
        norm_shift=rng.normal(size=CHANNELS),
        weight=rng.normal(size=(1, CHANNELS, 3, 3)) / 3,
        bias=rng.normal(size=1),
        gains=rng.normal(size=TIMESTEPS),
        mix_weight=rng.normal(size=(1, 1, 3, 1)),
        mix_bias=rng.normal(size=1),
    )
    bias = rng.normal(size=(TIMESTEPS, CHANNELS))
    weight = rng.integers(-60, 60, (CHANNELS, 3, 3, 3)).astype(np.int8)
    pipeline = with_denoiser(
        tiny(),
        populations=(hidden, dataclasses.replace(noise, shape=(CHANNELS, SIZE, SIZE), bias=bias, tail=tail)),
        projections=(
            dataclasses.replace(first, gains=np.array([1, 3, 0, 2], dtype=np.int32)),
            Conv(
                last.name, "hidden", "noise", weight, 1, padding=(1, 1), gains=np.array([3, 1, 2, -1], dtype=np.int32)
            ),
        ),
    )
    validate_pipeline(pipeline)
    return pipeline


def session(batch: int | None = None, state: Path | None = None, solver: str = "ddpm") -> Session:
    pipeline = published()
    target = Simulator(pipeline.network("denoiser"))
    chosen = default_solver(pipeline, solver)
    return Session(pipeline, target, chosen, steps=STEPS, images=IMAGES, seed=2, batch=batch, state_file=state)


def assert_same(one: SampleResult, other: SampleResult) -> None:
    np.testing.assert_array_equal(one.sample, other.sample)
    assert one.counts == other.counts


@pytest.mark.parametrize("solver", ["ddim", "ddpm"])
def test_batches_and_interruptions_change_no_bit(solver: str, tmp_path: Path) -> None:
    whole = session(solver=solver).run()
    assert whole.sample.shape == (IMAGES, 1, SIZE, SIZE)
    assert len(np.unique(whole.sample)) > 10
    for batch in (1, 2, 3):
        assert_same(session(batch, solver=solver).run(), whole)
    first = session(2, tmp_path / "run.state", solver)
    first.step()
    first.step()
    second = session(3, tmp_path / "run.state", solver)
    assert second.completed == 2
    assert_same(second.run(), whole)


def test_the_bill() -> None:
    pipeline = published()
    report = build_report(pipeline.network("denoiser"), session().run().counts)
    assert [p.kind for p in report.total.projections] == ["analog", "graded"]
    found = report.per_evaluation()
    assert found["binary_synops"] == 0 < found["graded_synops"]
    # per timestep and pixel: 3 x 3 taps of 2 channels, then 3 x 1 taps of one
    assert found["host_macs"] == TIMESTEPS * SIZE * SIZE * (2 * 9 + 3)
    assert found["readout_adds"] == TIMESTEPS * SIZE * SIZE
    assert report.per_sample()["host_macs"] == STEPS * found["host_macs"]
    assert {node.name for node in report.total.nodes if node.host_macs} == {"noise"}
