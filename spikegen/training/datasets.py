"""Image data sets as float32 arrays in [-1, 1]."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from spikegen.errors import ConfigError

Images = npt.NDArray[np.float32]


def _digits() -> Images:
    """scikit-learn's digits: 1,797 real handwritten digits, 8x8, grey values 0..16 (UCI optdigits test set)."""
    from sklearn.datasets import load_digits

    images: Images = (load_digits().images[:, None] / 8.0 - 1.0).astype(np.float32)
    return images


def _digits_28() -> Images:
    """The same digits enlarged to 28x28, the size of MNIST, which they stand in for: nothing has to be downloaded.

    Bilinear interpolation of the grey values (Pillow, in floating point), which adds no detail: the pictures of 8x8 at
    the size of MNIST's, not MNIST.
    """
    small = load_images("digits")[:, 0]
    large = [Image.fromarray(image).resize((28, 28), Image.Resampling.BILINEAR) for image in small]
    images: Images = np.stack([np.asarray(image) for image in large])[:, None]
    return images


DATASETS: dict[str, Callable[[], Images]] = {"digits": _digits, "digits-28": _digits_28}


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
