"""Image data sets as float32 arrays in [-1, 1]."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from spikegen.errors import ConfigError

Images = npt.NDArray[np.float32]


def _digits() -> Images:
    """scikit-learn's digits: 1,797 real handwritten digits, 8x8, grey values 0..16 (UCI optdigits test set)."""
    from sklearn.datasets import load_digits

    images: Images = (load_digits().images[:, None] / 8.0 - 1.0).astype(np.float32)
    return images


DATASETS: dict[str, Callable[[], Images]] = {"digits": _digits}


def load_images(name: str) -> Images:
    """The images of data set ``name``, float32 [N, C, H, W] in [-1, 1].

    Raises:
        ConfigError: unknown name.
    """
    if name not in DATASETS:
        raise ConfigError(f"unknown data set {name!r}; known: {', '.join(sorted(DATASETS))}")
    return DATASETS[name]()


def split(images: Images, held_out: int) -> tuple[Images, Images]:
    """Training images and ``held_out`` others: a fixed random choice, the same in every run.

    Raises:
        ConfigError: fewer than two images would be left to train on.
    """
    if held_out > len(images) - 2:
        raise ConfigError(f"{held_out} held-out images leave {len(images) - held_out} of {len(images)} to train on")
    order = np.random.default_rng(0).permutation(len(images))
    return images[order[held_out:]], images[order[:held_out]]
