"""Tokens and images on Lava's processes are those of the simulator, with the generator in either place."""

import numpy as np
import pytest

from spikegen.diffusion import default_solver
from spikegen.runtime import Session, decode_tokens, encode_images, lookup_decoder, open_target
from spikegen.simulator import Simulator
from tests.runtime.programs import tiny_tokens

pytestmark = pytest.mark.lava
PIPELINE = tiny_tokens()


def test_tokens_are_sampled_alike() -> None:
    program = PIPELINE.network("denoiser")
    expected = Session(PIPELINE, Simulator(program), default_solver(PIPELINE), steps=3, images=3).run()
    with open_target("lava", program, images=2) as target:
        found = Session(PIPELINE, target, default_solver(PIPELINE), steps=3, images=3, batch=2).run()
    np.testing.assert_array_equal(found.sample, expected.sample)
    assert found.counts == expected.counts


@pytest.mark.parametrize("table", [False, True], ids=["chip", "lookup"])
def test_tokens_are_decoded_alike(table: bool) -> None:
    tokens = np.random.default_rng(0).integers(0, 5, (3, 2, 3))
    lookup = lookup_decoder(PIPELINE) if table else None
    program = PIPELINE.network("decoder") if lookup is None else lookup.program
    expected = decode_tokens(PIPELINE, Simulator(program), tokens, lookup=lookup)
    with open_target("lava", program, images=3) as target:
        found = decode_tokens(PIPELINE, target, tokens, lookup=lookup)
    np.testing.assert_array_equal(found.images, expected.images)
    assert found.counts == expected.counts


def test_images_are_encoded_alike() -> None:
    images = np.random.default_rng(1).uniform(-1, 1, (3, 1, 4, 6))
    program = PIPELINE.network("encoder")
    expected = encode_images(PIPELINE, Simulator(program), images)
    with open_target("lava", program, images=3) as target:
        found = encode_images(PIPELINE, target, images)
    np.testing.assert_array_equal(found.latents, expected.latents)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    assert found.counts == expected.counts
