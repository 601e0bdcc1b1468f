import hashlib

import numpy as np
import pytest

from spikegen.errors import ConfigError
from spikegen.runtime.noise import SEED_MAX, ImageNoise


def test_an_image_depends_on_its_own_index_only() -> None:
    few, many = ImageNoise(5, 2).normal((2, 1, 3, 3)), ImageNoise(5, 2).normal((9, 1, 3, 3))
    np.testing.assert_array_equal(few, many[:2])


def test_a_part_of_a_run_draws_what_the_whole_draws() -> None:
    whole, part = ImageNoise(5, 2), ImageNoise(5, 2, first=4)
    np.testing.assert_array_equal(part.normal((3, 1, 3, 3)), whole.normal((7, 1, 3, 3))[4:])
    np.testing.assert_array_equal(part.uniform((3, 2)), whole.uniform((7, 2))[4:])
    assert part.seeds(3) == whole.seeds(7)[4:]


def test_seeds_draws_and_images_have_streams_of_their_own() -> None:
    drawn = [
        image.tobytes()
        for seed in (0, 1, SEED_MAX)
        for draw in (0, 1, 2)
        for image in ImageNoise(seed, draw).normal((3, 8))
    ]
    assert len(set(drawn)) == 27
    seeds = [s for seed in (0, 1) for draw in (0, 1) for s in ImageNoise(seed, draw).seeds(50)]
    assert len(set(seeds)) == 200
    assert min(seeds) >= 0
    assert max(seeds) < 1 << 63


def test_it_is_standard_normal() -> None:
    drawn = ImageNoise(3, 1).normal((1000, 100))
    # 100 000 numbers: standard errors 0.003 of the mean and 0.002 of the deviation; five of them are allowed
    assert abs(drawn.mean()) < 0.016
    assert abs(drawn.std() - 1) < 0.012
    assert abs(np.corrcoef(drawn[:500].ravel(), drawn[500:].ravel())[0, 1]) < 0.025


def test_the_numbers_are_those_of_the_first_release() -> None:
    """If this fails, numpy changed its normal numbers: a seed now gives other images. Say so in the changelog."""
    digest = hashlib.sha256(ImageNoise(0, 0).normal((4, 64)).tobytes()).hexdigest()
    assert digest[:16] == "68ff5ce50036dc91"


@pytest.mark.parametrize("seed", [-1, SEED_MAX + 1])
def test_seeds_out_of_range_are_refused(seed: int) -> None:
    with pytest.raises(ConfigError, match=f"seed is {seed}"):
        ImageNoise(seed, 0)


def test_uniform_numbers_are_the_upper_bits_of_philox_for_ever() -> None:
    drawn = ImageNoise(0, 0).uniform((4, 2, 3, 3))
    assert drawn.dtype == np.float64
    assert drawn.shape == (4, 2, 3, 3)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    np.testing.assert_array_equal(drawn * 2.0**53 % 1, 0)
    words = np.random.Philox(key=np.array([0, 3], np.uint64), counter=np.array([0, 0, 2, 0], np.uint64)).random_raw(18)
    np.testing.assert_array_equal(drawn[3].ravel(), [(int(word) >> 11) / 2**53 for word in words])
    # a seed gives the same tokens in every release
    assert hashlib.sha256(drawn.tobytes()).hexdigest()[:16] == "e699a39668b9ef0a"


def test_uniform_numbers_have_a_stream_per_seed_image_and_draw_of_their_own() -> None:
    drawn = [image.tobytes() for seed in (0, 1) for draw in (0, 1) for image in ImageNoise(seed, draw).uniform((3, 8))]
    assert len(set(drawn)) == 12
    np.testing.assert_array_equal(ImageNoise(5, 2).uniform((9, 3))[:2], ImageNoise(5, 2).uniform((2, 3)))
    words = {ImageNoise(0, 0).seeds(1)[0] >> 10, int(ImageNoise(0, 0).uniform((1, 1)).item() * 2**53)}
    assert len(words) == 2  # not the stream of the seeds


def test_uniform_numbers_are_uniform() -> None:
    drawn = ImageNoise(3, 1).uniform((1000, 100))
    counts = np.histogram(drawn, bins=20, range=(0, 1))[0]
    # chi squared with 19 degrees of freedom: mean 19, standard deviation 6.2; five of them are allowed
    assert ((counts - 5000) ** 2 / 5000).sum() < 19 + 5 * 6.2
