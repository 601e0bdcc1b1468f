"""The shipped model of tokens: what it weighs, what it can do, and that every backend agrees on it."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from spikegen.diffusion import default_solver
from spikegen.lowering import export_checkpoint
from spikegen.models import SpikingDiffusion, load_checkpoint
from spikegen.models.checkpoint import locate
from spikegen.program import Pipeline, TokenDiffusion, overflow_risks
from spikegen.runtime import Session, decode_tokens, encode_images, lookup_decoder, open_target, write_png
from spikegen.simulator import Simulator
from spikegen.training.datasets import load_images, split
from spikegen.training.sampling import reconstruct_images


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return export_checkpoint("digits-vq")


def test_the_checkpoint_is_small() -> None:
    assert sum(path.stat().st_size for path in Path(locate("digits-vq")).iterdir()) < 2_500_000


def test_its_networks_cannot_overflow(pipeline: Pipeline) -> None:
    assert list(pipeline.networks) == ["encoder", "denoiser", "decoder"]
    for program in pipeline.networks.values():
        assert overflow_risks(program) == []


def test_lava_onnx_and_the_simulator_sample_equal_tokens_and_identical_images(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    """In both places of the generator; the whole 16 steps are compared by `spikegen sample` in the documentation."""
    lookup = lookup_decoder(pipeline)
    results, images = {}, {}
    for backend in ("lava", "onnx", "simulator"):
        with open_target(backend, pipeline.network("denoiser"), images=2) as target:
            results[backend] = Session(pipeline, target, default_solver(pipeline), steps=3, seed=0, images=2).run()
        tokens = results[backend].sample
        with open_target(backend, pipeline.network("decoder"), images=2) as target:
            images[backend] = decode_tokens(pipeline, target, tokens)
        with open_target(backend, lookup.program, images=2) as target:
            images[f"{backend}, look-up"] = decode_tokens(pipeline, target, tokens, lookup=lookup)
        write_png(tmp_path / f"{backend}.png", images[backend].images)
    expected = results["simulator"].trajectory
    assert expected is not None
    assert isinstance(pipeline.host, TokenDiffusion)
    assert (expected[0] == len(pipeline.host.codebook)).any()  # masks are left after the first step
    for backend in ("lava", "onnx"):
        found = results[backend].trajectory
        assert found is not None
        np.testing.assert_array_equal(found, expected)
        assert results[backend].counts == results["simulator"].counts
        assert (tmp_path / f"{backend}.png").read_bytes() == (tmp_path / "simulator.png").read_bytes()
        assert images[backend].counts == images["simulator"].counts
        assert images[f"{backend}, look-up"].counts == images["simulator, look-up"].counts
    for name, decoded in images.items():
        np.testing.assert_array_equal(decoded.images, images["simulator"].images, err_msg=name)


def test_held_out_digits_are_reconstructed_as_well_as_by_the_float_model(pipeline: Pipeline) -> None:
    held_out = split(load_images("digits"), int(pipeline.provenance["held_out"]))[1][:]
    real = held_out.astype(np.float64)
    with Simulator(pipeline.network("encoder")) as target:
        tokens = encode_images(pipeline, target, real).tokens
    with Simulator(pipeline.network("decoder")) as target:
        integer = decode_tokens(pipeline, target, tokens).images
    error = float(np.square(integer - real).mean())
    model = load_checkpoint("digits-vq").model
    assert isinstance(model, SpikingDiffusion)
    floating = float(np.square(reconstruct_images(model, held_out) - real).mean())
    assert len(real) == 297
    assert error < 0.1 * real.var()
    assert error < 1.1 * floating


def test_its_samples_look_like_digits_to_a_classifier(pipeline: Pipeline) -> None:
    digits = load_digits()
    svm = SVC(probability=True, random_state=0).fit(digits.data / 8.0 - 1.0, digits.target)
    with Simulator(pipeline.network("denoiser")) as target:
        tokens = Session(pipeline, target, default_solver(pipeline), steps=16, seed=0, images=64).run().sample
    with Simulator(pipeline.network("decoder")) as target:
        images = decode_tokens(pipeline, target, tokens).images
        shuffled = np.random.default_rng(0).permuted(tokens.reshape(64, 16), axis=0).reshape(tokens.shape)
        unrelated = decode_tokens(pipeline, target, shuffled).images  # same tokens at each site, in no relation

    def confidence(made: npt.NDArray[np.float64]) -> float:
        return float(svm.predict_proba(made.reshape(len(made), -1)).max(axis=1).mean())

    assert confidence(images) > 0.6  # benchmarks/quality.py measures it on 1,000
    assert confidence(images) > confidence(unrelated) + 0.1
