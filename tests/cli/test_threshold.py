"""`--threshold-scale` of `spikegen sample` and `spikegen export`."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from spikegen.diffusion import make_solver
from spikegen.program import Lif, Pipeline, load, save
from spikegen.program.threshold import guided
from spikegen.runtime import Session
from spikegen.simulator import Simulator
from tests.cli.commands import names, refuse, succeed
from tests.cli.models import small_checkpoint
from tests.runtime.programs import STEPS, tiny


def with_threshold(pipeline: Pipeline, vth: int) -> Pipeline:
    denoiser = pipeline.network("denoiser")
    populations = tuple(dataclasses.replace(p, vth=vth) if isinstance(p, Lif) else p for p in denoiser.populations)
    return dataclasses.replace(pipeline, networks={"denoiser": dataclasses.replace(denoiser, populations=populations)})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_sampling_with_scaled_thresholds() -> None:
    pipeline = with_threshold(tiny(), 40)
    save(pipeline, "tiny.h5")
    succeed("sample", "tiny.h5", "-n", 3, "--steps", 4, "-o", "a.png", "--npy", "a.npy", "--threshold-scale", 0.9)
    scaled = guided(pipeline, 0.9)
    assert {p.vth for p in scaled.network("denoiser").populations if isinstance(p, Lif)} == {36}
    solver = make_solver("ddim", train_steps=STEPS)
    expected = Session(scaled, Simulator(scaled.network("denoiser")), solver, steps=4, images=3).run()
    np.testing.assert_array_equal(np.load("a.npy"), expected.sample)


def test_an_exported_pipeline_keeps_its_scale() -> None:
    checkpoint = small_checkpoint(Path("small"))
    succeed("export", checkpoint, "-o", "plain.h5")
    succeed("export", checkpoint, "-o", "scaled.h5", "--threshold-scale", 0.95)
    scaled = load("scaled.h5")
    assert scaled.provenance["threshold_scale"] == "0.95"
    wanted = guided(load("plain.h5"), 0.95).network("denoiser")
    found = scaled.network("denoiser")
    assert [p.vth for p in found.populations if isinstance(p, Lif)] == [
        p.vth for p in wanted.populations if isinstance(p, Lif)
    ]


def test_what_is_refused() -> None:
    save(with_threshold(tiny(), 131071), "full.h5")
    sampled = ("sample", "full.h5", "-n", 1, "--steps", 1, "-o", "a.png", "--threshold-scale")
    refuse(1, "Error: the threshold scale is 2.0, allowed 0.5..1.5", *sampled, 2)
    refuse(1, "the nearest possible scales are", *sampled, 0.999999)
    assert names() == ["full.h5"]
