"""Images of one shape, held as they are stored and converted to floating point when they are taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from spikegen.errors import ConfigError

Images = npt.NDArray[np.float32]
Stored = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images that read like a float32 array [N, C, H, W] in [-1, 1]: ``images[:8]``, ``images[[3, 5]]``, ``images[3]``.

    Only what is taken is read and converted, so that a set that does not fit into memory as floats can be used.

    Attributes:
        read: stored row -> one image [C, h, w], uint8 0..255 or float32 -1..1.
        rows: int64 [N], the stored row of each image.
        image_shape: (C, H, W) of every image; one that is stored with another h and w is cropped to the square in its
            centre and resized (bilinear with antialiasing, as Pillow and torchvision do it).
        flips: training mirrors images at random, left to right.
    """

    read: Callable[[int], Stored]
    rows: Rows
    image_shape: Shape
    flips: bool = False

    @classmethod
    def of(cls, pixels: Stored, *, flips: bool = False) -> ImageSet:
        """The images of an array [N, C, H, W], uint8 0..255 or float32 -1..1."""
        _, channels, height, width = pixels.shape
        return cls(pixels.__getitem__, np.arange(len(pixels)), (channels, height, width), flips)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        return (len(self.rows), *self.image_shape)

    def __getitem__(self, index: int | slice | Sequence[int] | Rows) -> Images:
        rows = np.asarray(self.rows[index])
        images = np.empty((*rows.shape, *self.image_shape), dtype=np.float32)
        for place, row in np.ndenumerate(rows):
            images[place] = self._image(int(row))
        return images

    def _image(self, row: int) -> Images:
        image = self.read(row)
        if image.shape != self.image_shape:
            image = _resized(image, self.image_shape[1:])
        if image.dtype == np.uint8:
            return image.astype(np.float32) / np.float32(127.5) - np.float32(1)
        return np.clip(image, -1, 1)  # interpolation rounds

    def take(self, index: slice | Rows) -> ImageSet:
        """These images only; nothing is read."""
        return replace(self, rows=self.rows[index])

    def resized(self, size: int) -> ImageSet:
        """The same images as squares of ``size`` pixels, made from what is stored."""
        return replace(self, image_shape=(self.image_shape[0], size, size))


def split(images: ImageSet, held_out: int) -> tuple[ImageSet, ImageSet]:
    """Training images and ``held_out`` others: a fixed random choice, the same in every run.

    Raises:
        ConfigError: fewer than two images would be left to train on.
    """
    if held_out > len(images) - 2:
        raise ConfigError(f"{held_out} held-out images leave {len(images) - held_out} of {len(images)} to train on")
    order = np.random.default_rng(0).permutation(len(images))
    return images.take(order[held_out:]), images.take(order[:held_out])


def _resized(image: Stored, size: tuple[int, int]) -> Stored:
    height, width = image.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[:, top : top + side, left : left + side]
    return np.stack([np.asarray(Image.fromarray(p).resize(size[::-1], Image.Resampling.BILINEAR)) for p in square])
