"""Randomness by address: the noise of image n at draw d is a function of (seed, n, d) and of nothing else."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from spikegen.errors import ConfigError

SEED_MAX = (1 << 64) - 1
_NORMAL, _SEED, _UNIFORM = 0, 1, 2  # the uses of a draw have separate streams


def check_seed(seed: int) -> int:
    """``seed`` if it is in 0 .. 2^64 - 1, else ConfigError."""
    if not 0 <= seed <= SEED_MAX:
        raise ConfigError(f"seed is {seed}, it must lie in 0..{SEED_MAX}")
    return seed


class ImageNoise:
    """One draw of a run, a :class:`~spikegen.diffusion.NoiseSource`.

    The generator is Philox 4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") with key
    (seed, image); the draw is the highest word of the counter, so the streams of two draws never meet. The normal
    numbers are numpy's ziggurat; numpy may change it in a later release (NEP 19). The uniform numbers are made of the
    generator's words here, and stay as they are.

    Args:
        seed: 0 .. 2^64 - 1.
        draw: 0 for the initial noise, 1 + i for the i-th step of the solver.
        first: number n of the first image; a run may be a part of a larger one.
    """

    def __init__(self, seed: int, draw: int, first: int = 0) -> None:
        self._seed = check_seed(seed)
        self._draw = draw
        self._first = first

    def _stream(self, image: int, use: int) -> np.random.Philox:
        key = np.array([self._seed, self._first + image], dtype=np.uint64)
        return np.random.Philox(key=key, counter=np.array([0, 0, use, self._draw], dtype=np.uint64))

    def normal(self, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Standard normal noise, float64 ``shape`` = [N, ...]; image n depends on (seed, first + n, draw) only."""
        images = [
            np.random.Generator(self._stream(image, _NORMAL)).standard_normal(shape[1:]) for image in range(shape[0])
        ]
        return np.stack(images)

    def uniform(self, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Uniform noise in [0, 1), float64 ``shape`` = [N, ...]: the upper 53 bits of a word, times 2^-53."""
        words = [self._stream(image, _UNIFORM).random_raw(math.prod(shape[1:])) for image in range(shape[0])]
        return np.asarray((np.stack(words).reshape(shape) >> np.uint64(11)) * 2.0**-53)

    def seeds(self, images: int) -> list[int]:
        """One seed per image, 0 .. 2^63 - 1, for generators that are not numpy's."""
        return [int(self._stream(image, _SEED).random_raw()) >> 1 for image in range(images)]
