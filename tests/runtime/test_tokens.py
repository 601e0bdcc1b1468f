"""Images to tokens and back, against loops in Python numbers."""

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import pytest

from spikegen.errors import ConfigError
from spikegen.program import TokenDiffusion
from spikegen.runtime import DecodeResult, TokenResult, decode_tokens, encode_images, host_readout
from spikegen.runtime.tokens import nearest
from spikegen.simulator import Simulator
from tests.runtime.programs import CODES, GRID, tiny, tiny_tokens

PIPELINE = tiny_tokens()
HOST = PIPELINE.host
assert isinstance(HOST, TokenDiffusion)
IMAGE = (1, 4, 6)


def some_images(count: int) -> npt.NDArray[np.float64]:
    return np.random.default_rng(3).uniform(-1, 1, (count, *IMAGE))


def some_tokens(count: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(4).integers(0, CODES, (count, *GRID))


def encode(images: npt.NDArray[np.float64], batch: int | None = None) -> TokenResult:
    return encode_images(PIPELINE, Simulator(PIPELINE.network("encoder")), images, batch)


def decode(tokens: npt.NDArray[np.int64], batch: int | None = None) -> DecodeResult:
    return decode_tokens(PIPELINE, Simulator(PIPELINE.network("decoder")), tokens, batch)


def test_tokens_are_the_code_vectors_nearest_to_the_readout() -> None:
    images, encoder = some_images(20), PIPELINE.network("encoder")
    found = encode(images)
    frames = np.clip(np.rint(images * 0.5 / encoder.input.scale), -127, 127).astype(np.int32)
    evaluation = Simulator(encoder).evaluate(frames, step=0)
    latents = host_readout(next(encoder.readouts()), evaluation.readouts["latent"])
    np.testing.assert_array_equal(found.latents, latents)
    assert found.counts == evaluation.counts
    assert found.tokens.shape == (20, *GRID)
    assert found.tokens.dtype == np.int64
    codebook = HOST.codebook.tolist()  # type: ignore[union-attr]
    for n, y, x in np.ndindex(found.tokens.shape):
        distances = [math.dist(code, latents[n, :, y, x].tolist()) for code in codebook]
        assert distances[found.tokens[n, y, x]] == pytest.approx(min(distances), rel=1e-12)
    assert len(np.unique(found.tokens)) > 2


def test_of_equally_near_code_vectors_the_first_is_taken() -> None:
    codebook = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    latents = np.array([[0.0, -5.0, 0.0, 0.25], [0.0, 0.0, 3.0, 0.25]]).reshape(1, 2, 2, 2)
    assert nearest(codebook, latents).tolist() == [[[0, 1], [2, 0]]]


def test_images_are_the_squashed_readout_of_the_code_vectors() -> None:
    tokens, decoder = some_tokens(20), PIPELINE.network("decoder")
    found = decode(tokens)
    frames = decoder.input.quantize(HOST.codebook[tokens].transpose(0, 3, 1, 2))  # type: ignore[union-attr]
    evaluation = Simulator(decoder).evaluate(frames, step=0)
    readout = host_readout(next(decoder.readouts()), evaluation.readouts["pixel"])
    assert found.counts == evaluation.counts
    assert found.images.shape == (20, *IMAGE)
    assert found.images.dtype == np.float64
    expected = [min(1.0, max(-1.0, math.tanh(value) / 0.5)) for value in readout.ravel().tolist()]
    # math.tanh and numpy's may differ in the last bits
    np.testing.assert_allclose(found.images.ravel(), expected, rtol=1e-14, atol=1e-14)
    assert np.abs(found.images).max() == 1.0
    assert len(np.unique(found.images)) > 10


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_the_batch_size_changes_nothing(batch: int) -> None:
    images, tokens = some_images(7), some_tokens(7)
    encoded, decoded = encode(images, batch), decode(tokens, batch)
    np.testing.assert_array_equal(encoded.tokens, encode(images).tokens)
    np.testing.assert_array_equal(encoded.latents, encode(images).latents)
    np.testing.assert_array_equal(decoded.images, decode(tokens).images)
    assert encoded.counts == encode(images).counts
    assert decoded.counts == decode(tokens).counts
    np.testing.assert_array_equal(decode(tokens[:2]).images, decoded.images[:2])


@pytest.mark.parametrize("token", [-1, CODES, 130])
def test_a_token_outside_of_the_codebook_is_refused(token: int) -> None:
    tokens = some_tokens(2)
    tokens[1, 0, 2] = token
    with pytest.raises(ConfigError, match=rf"token {token} at image 1, site \(0, 2\): the codebook has 0\.\.4"):
        decode(tokens)


@pytest.mark.parametrize(
    "tokens",
    [
        np.zeros((1, 3, 2), np.int64),
        np.zeros((2, 3), np.int64),
        np.zeros((0, 2, 3), np.int64),
        np.zeros((1, 2, 3)),
        np.zeros((1, 2, 3), dtype=bool),
    ],
)
def test_another_grid_is_refused(tokens: npt.NDArray[np.int64]) -> None:
    with pytest.raises(ConfigError, match=r"the decoder takes whole numbers \(N, 2, 3\), N >= 1"):
        decode(tokens)


def test_images_of_another_size_or_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"images have shape \(1, 9, 8\), the encoder takes \(1, 4, 6\)"):
        encode(np.zeros((2, 1, 9, 8)))
    with pytest.raises(ConfigError, match="there are no images"):
        encode(np.zeros((0, *IMAGE)))
    for value in (1.01, -2.0, np.nan):
        with pytest.raises(ConfigError, match=r"images hold values outside -1\.\.1"):
            encode(np.full((1, *IMAGE), value))


def test_a_batch_of_nothing_and_a_pipeline_of_images_are_refused() -> None:
    with pytest.raises(ConfigError, match="batch is 0, it must be at least 1"):
        decode(some_tokens(1), batch=0)
    target = Simulator(PIPELINE.network("encoder"))
    with pytest.raises(ConfigError, match="tiny is ImageDiffusion: only a TokenDiffusion has tokens"):
        encode_images(tiny(), target, some_images(1))
    with pytest.raises(ConfigError, match="only a TokenDiffusion has tokens"):
        decode_tokens(tiny(), target, some_tokens(1))
    half = dataclasses.replace(PIPELINE, networks={"denoiser": PIPELINE.network("denoiser")})
    with pytest.raises(ConfigError, match="'tokens' has no encoder; it has denoiser"):
        encode_images(half, target, some_images(1))
