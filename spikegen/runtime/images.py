"""Images of the network as PNG: a grid, enlarged so that small images can be looked at."""

from __future__ import annotations

import io
import math
import os

import numpy as np
import numpy.typing as npt
from PIL import Image

from spikegen.errors import ConfigError
from spikegen.runtime.files import write_output

GRID_PIXELS = 512  # the longer side of the default enlargement has at most this, and more than half of it
GAP, GAP_VALUE = 1, 96  # pixels between images before the enlargement, and their grey

Pixels = npt.NDArray[np.uint8]


def check_channels(channels: int) -> None:
    """ConfigError unless a PNG can show images of this many channels (1: grey, 3: RGB)."""
    if channels not in (1, 3):
        raise ConfigError(f"a PNG shows 1 or 3 channels, these images have {channels}; write the raw arrays instead")


def to_pixels(images: npt.NDArray[np.float64]) -> Pixels:
    """uint8 of the same shape: -1 becomes 0, 1 becomes 255, rounded half to even; values beyond are clamped."""
    return np.asarray(np.clip(np.rint((images + 1.0) * 127.5), 0, 255), dtype=np.uint8)


def grid(images: npt.NDArray[np.float64], columns: int | None = None, upscale: int | None = None) -> Pixels:
    """All images in one picture, row by row.

    Args:
        images: float [N, C, H, W] in [-1, 1], C is 1 or 3.
        columns: images per row, default ``ceil(sqrt(N))``.
        upscale: whole factor of the enlargement (each pixel becomes a square), default as large as
            :data:`GRID_PIXELS` allows.

    Returns:
        uint8 [height, width] for one channel, [height, width, 3] for three.

    Raises:
        ConfigError: another shape or a factor below 1.
    """
    if images.ndim != 4 or len(images) < 1:
        raise ConfigError(f"images have shape {images.shape}, expected (N, C, H, W) with N >= 1")
    count, channels, height, width = images.shape
    check_channels(channels)
    columns = math.ceil(math.sqrt(count)) if columns is None else columns
    if columns < 1 or (upscale is not None and upscale < 1):
        raise ConfigError(f"columns is {columns} and upscale {upscale}, both must be at least 1")
    rows = math.ceil(count / columns)
    size = (rows * (height + GAP) + GAP, columns * (width + GAP) + GAP)
    picture = np.full((*size, channels), GAP_VALUE, dtype=np.uint8)
    for index, pixels in enumerate(to_pixels(images).transpose(0, 2, 3, 1)):
        top, left = (
            place * (side + GAP) + GAP for place, side in zip(divmod(index, columns), (height, width), strict=True)
        )
        picture[top : top + height, left : left + width] = pixels
    factor = max(1, GRID_PIXELS // max(size)) if upscale is None else upscale
    picture = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    return picture[:, :, 0] if channels == 1 else picture


def png_bytes(pixels: Pixels) -> bytes:
    """``pixels`` (uint8 [H, W] or [H, W, 3]) as a PNG file; equal pixels give equal bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=9)
    return buffer.getvalue()


def write_png(
    path: str | os.PathLike[str],
    images: npt.NDArray[np.float64],
    columns: int | None = None,
    upscale: int | None = None,
) -> None:
    """Write :func:`grid` of ``images`` as PNG, whole or not at all.

    Raises:
        ConfigError: as :func:`grid`.
        OutputError: the file cannot be written.
    """
    write_output(path, png_bytes(grid(images, columns, upscale)))
