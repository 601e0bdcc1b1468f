"""Picture files, which may hold anything: a folder of them, or the faces of CelebA."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from spikegen.errors import ConfigError
from spikegen.training.datasets.imageset import ImageSet, Stored

SUFFIXES = (".png", ".jpg", ".jpeg")
PIXELS_MAX = 1 << 26  # of one picture: 192 MiB in colour
# Modes of Pillow with 8 bits per channel or fewer; `convert` would clip the others.
_GREY, _COLOUR = ("1", "L", "LA"), ("P", "RGB", "RGBA")
# What Pillow raises on damaged content.
_UNREADABLE = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, OverflowError, MemoryError),
    *(SyntaxError, struct.error, zlib.error, Image.DecompressionBombError),
)


def picture_folder(folder: Path, *, square: bool) -> ImageSet:
    """The PNG and JPEG pictures in ``folder`` and the folders below it, in the order of their paths.

    Grey if all of them are, else RGB; transparency is dropped. Names that begin with a dot are passed over. Headers are
    read at once, pixels when an image is taken.

    Args:
        folder: where the pictures are.
        square: the pictures may have different sizes, because the squares in their centres will be resized.

    Raises:
        ConfigError: no such folder, no pictures, one that is damaged, too large or of an unknown mode, or sizes differ.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder of images")
    hidden_parts = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file())
    paths = [path for path in hidden_parts if not any(p.startswith(".") for p in path.relative_to(folder).parts)]
    if not paths:
        raise ConfigError(f"{folder}: it holds no pictures ({', '.join(SUFFIXES)})")
    first, coloured = paths[0], False
    width, height = 0, 0
    for path in paths:
        with _opened(path) as picture:
            if path is first:
                width, height = picture.size
            elif picture.size != (width, height) and not square:
                raise ConfigError(
                    f"{path}: the picture has {picture.height} x {picture.width} pixels, {first.name} has {height} x "
                    f"{width}; put @SIZE behind the name of the data set to resize all of them"
                )
            coloured |= picture.mode in _COLOUR
    mode, channels = ("RGB", 3) if coloured else ("L", 1)
    return ImageSet(lambda row: read_picture(paths[row], mode), np.arange(len(paths)), (channels, height, width))


def faces(folder: Path, names: list[str], crop: int) -> ImageSet:
    """Pictures ``names`` of ``folder`` in RGB, the square of ``crop`` pixels in their centres."""

    def read(row: int) -> Stored:
        picture = read_picture(folder / names[row], "RGB")
        # torchvision.transforms.CenterCrop, which rounds halves to even
        top, left = (round((size - crop) / 2) for size in picture.shape[1:])
        if min(top, left) < 0:
            raise ConfigError(f"{folder / names[row]}: the picture is smaller than {crop} x {crop} pixels")
        return picture[:, top : top + crop, left : left + crop]

    return ImageSet(read, np.arange(len(names)), (3, crop, crop), flips=True)


def read_picture(path: Path, mode: str) -> Stored:
    """The pixels of a picture, uint8 [C, H, W], in Pillow's ``mode`` (L or RGB).

    Raises:
        ConfigError: missing, damaged, too large or of an unknown mode.
    """
    with _opened(path) as picture:
        pixels = np.asarray(picture.convert(mode))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A picture whose header was read and checked; what is damaged is an error, also behind the header."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is damaged or too large is an error
            with Image.open(os.fspath(path), formats=("PNG", "JPEG")) as picture:
                if picture.width * picture.height > PIXELS_MAX:
                    raise ConfigError(
                        f"{path}: the picture has {picture.height} x {picture.width} pixels, the limit is {PIXELS_MAX} "
                        "in all"
                    )
                if picture.mode not in (*_GREY, *_COLOUR):
                    raise ConfigError(
                        f"{path}: the picture has the mode {picture.mode}, known are {', '.join((*_GREY, *_COLOUR))}"
                    )
                yield picture
    except _UNREADABLE as error:
        raise ConfigError(f"{path}: not a readable picture: {error}") from error
