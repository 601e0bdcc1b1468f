"""From the name of a data set to its images."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from spikegen.errors import ConfigError
from spikegen.training.datasets.imageset import Images, ImageSet, Shape
from spikegen.training.datasets.pictures import picture_folder
from spikegen.training.datasets.published import PUBLISHED, published

NOISE_IMAGES = 1024
SIZE_MAX = 1024
FORMS: tuple[str, ...] = ("digits", *PUBLISHED, "folder:PATH", "noise:CxHxW")
"""Every name of a data set; ``@SIZE`` behind it resizes the images to SIZE x SIZE."""


def load_images(name: str, root: Path | None = None, *, download: bool = False) -> ImageSet:
    """The images of data set ``name``, float32 [N, C, H, W] in [-1, 1] when they are taken.

    Args:
        name: one of :data:`FORMS`, with ``@SIZE`` behind it to resize the squares in the centres of the images to
            SIZE x SIZE pixels. ``noise:CxHxW`` are normally distributed numbers, clipped to [-1, 1]: no data, only
            enough to size and export a network whose data are not at hand.
        root: folder of the published data sets, see :func:`data_root`.
        download: fetch a published data set that is not there. Nothing is ever fetched without.

    Raises:
        ConfigError: unknown name, or the images are missing or damaged.
    """
    base, _, size = name.rpartition("@") if re.search(r"@[1-9]\d{0,3}\Z", name) else (name, "", "")
    if size and int(size) > SIZE_MAX:
        raise ConfigError(f"data set {name!r}: the size is {size}, the limit is {SIZE_MAX} pixels")
    kind, _, rest = base.partition(":")
    if download and base not in PUBLISHED:
        raise ConfigError(f"data set {name!r}: only these are downloaded: {', '.join(PUBLISHED)}")
    if base == "digits":
        images = _digits()
    elif base in PUBLISHED:
        images = published(base, data_root() if root is None else root, download=download)
    elif kind == "folder" and rest:
        images = picture_folder(Path(rest).expanduser(), square=bool(size))
    elif kind == "noise" and (sizes := re.fullmatch(r"(\d{1,4})x(\d{1,4})x(\d{1,4})", rest)):
        channels, height, width = (int(number) for number in sizes.groups())
        images = _noise(name, (channels, height, width))
    else:
        raise ConfigError(f"unknown data set {name!r}; known: {', '.join(FORMS)}, each with @SIZE to resize it")
    return images.resized(int(size)) if size else images


def load_fitting(name: str, shape: Shape) -> ImageSet:
    """As :func:`load_images`, for a model of images of ``shape``, (C, H, W).

    Raises:
        ConfigError: the images have another shape.
    """
    images = load_images(name)
    if images.image_shape != shape:
        found, expected = (" x ".join(map(str, sizes)) for sizes in (images.image_shape, shape))
        raise ConfigError(
            f"the images of {name} are {found}, the model takes {expected} (channels x height x width); "
            f"@{shape[1]} behind the name of a data set resizes its images"
        )
    return images


def data_root() -> Path:
    """Folder of the published data sets: $SPIKEGEN_DATA, else spikegen/data in $XDG_CACHE_HOME or ~/.cache."""
    chosen, cache = os.environ.get("SPIKEGEN_DATA"), os.environ.get("XDG_CACHE_HOME", "")
    if chosen:
        return Path(chosen).expanduser()
    return (Path(cache) if os.path.isabs(cache) else Path.home() / ".cache") / "spikegen" / "data"


def _digits() -> ImageSet:
    """scikit-learn's digits: 1,797 real handwritten digits, 8x8, grey values 0..16 (UCI optdigits test set)."""
    from sklearn.datasets import load_digits

    return ImageSet.of((load_digits().images[:, None] / 8.0 - 1.0).astype(np.float32))


def _noise(name: str, shape: Shape) -> ImageSet:
    if not all(1 <= size <= SIZE_MAX for size in shape):
        raise ConfigError(f"data set {name!r}: sizes must be in 1..{SIZE_MAX}")

    def read(row: int) -> Images:
        return np.random.default_rng((0, row)).standard_normal(shape, dtype=np.float32).clip(-1, 1)

    return ImageSet(read, np.arange(NOISE_IMAGES), shape)
