"""The shipped image model: what it weighs, and that every backend draws the same digits with it."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from spikegen.diffusion import default_solver
from spikegen.lowering import export_checkpoint
from spikegen.models.checkpoint import locate
from spikegen.program import Pipeline, overflow_risks
from spikegen.runtime import Session, open_target, write_png


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return export_checkpoint("digits-unet")


def test_the_checkpoint_is_small() -> None:
    assert sum(path.stat().st_size for path in Path(locate("digits-unet")).iterdir()) < 3_000_000


def test_its_program_cannot_overflow(pipeline: Pipeline) -> None:
    assert overflow_risks(pipeline.network("denoiser")) == []
    assert not pipeline.network("denoiser").report["overflow_risks"]


def test_lava_onnx_and_the_simulator_draw_identical_pixels_with_equal_counts(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    results = {}
    for backend in ("lava", "onnx", "simulator"):
        with open_target(backend, pipeline.network("denoiser"), images=2) as target:
            results[backend] = Session(pipeline, target, default_solver(pipeline), steps=2, seed=0, images=2).run()
        write_png(tmp_path / f"{backend}.png", results[backend].sample)
    for backend in ("lava", "onnx"):
        assert (tmp_path / f"{backend}.png").read_bytes() == (tmp_path / "simulator.png").read_bytes()
        np.testing.assert_array_equal(results[backend].sample, results["simulator"].sample)
        assert results[backend].counts == results["simulator"].counts


def test_its_samples_look_like_digits_to_a_classifier(pipeline: Pipeline) -> None:
    digits = load_digits()
    svm = SVC(probability=True, random_state=0).fit(digits.data / 8.0 - 1.0, digits.target)
    with open_target("simulator", pipeline.network("denoiser"), images=32) as target:
        images = Session(pipeline, target, default_solver(pipeline), steps=20, seed=0, images=32).run().sample
    confidence = svm.predict_proba(images.reshape(len(images), -1)).max(axis=1)
    noise = np.clip(np.random.default_rng(0).standard_normal((32, 64)), -1, 1)
    assert confidence.mean() > 0.7  # benchmarks/quality.py measures it on 1,000; noise reaches less than half of it
    assert svm.predict_proba(noise).max(axis=1).mean() < 0.5
