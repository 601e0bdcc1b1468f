"""Real images: of a data set, or of a file that may be anything."""

from __future__ import annotations

import struct
import tokenize
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from spikegen.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from spikegen.program import Pipeline
    from spikegen.program.ir import Shape

    FloatArray = npt.NDArray[np.float64]

BYTES_MAX, PIXELS_MAX = 1 << 26, 1 << 24  # of a picture that is shown as it is

# Modes of Pillow with 8 bits per channel or fewer; `convert` would clip the others.
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
# What numpy and Pillow raise on damaged content.
_UNREADABLE = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, OverflowError, MemoryError),
    *(SyntaxError, RecursionError, tokenize.TokenError, struct.error, zlib.error),
)


def dataset_images(pipeline: Pipeline, most: int) -> FloatArray:
    """The first ``most`` images that were held out from the model's training, or trained on where none were."""
    import numpy as np

    name = pipeline.provenance.get("dataset")
    held_out = pipeline.provenance.get("held_out", "0")
    if name is None or not (held_out.isdecimal() and len(held_out) < 10):
        raise ConfigError(f"{pipeline.name} does not say which data set it was made from; give images with --input")
    try:
        from spikegen.training.datasets import load_images, split
    except ImportError as error:
        raise ConfigError(
            f"the data set {name} needs PyTorch and scikit-learn ({error}); give images with --input, or "
            "pip install 'spikegen[torch]'"
        ) from error
    trained, others = split(load_images(name), int(held_out))
    found = others if len(others) else trained
    shape = pipeline.network("encoder").input.shape
    if found.shape[1:] != shape:
        raise ConfigError(
            f"the images of {name} are {found.shape[1:]}, the encoder takes {shape}; give images with --input"
        )
    return np.asarray(found[:most], dtype=np.float64)


def read_images(path: Path, shape: Shape, most: int, expected: str = "the encoder takes") -> FloatArray:
    """The first ``most`` images of a file, float64 [N, C, H, W] in [-1, 1].

    Args:
        path: an array if it ends in .npy, else a picture.
        shape: (C, H, W) that they must have; a picture is converted to C = 1 (grey) or 3.
        most: at least 1.
        expected: words before the shape in the message about another one.

    Raises:
        ConfigError: missing, damaged, of another size or type, or with values outside of the range.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file")
    try:
        return _read_array(path, shape, most, expected) if path.suffix == ".npy" else _read_picture(path, shape)
    except _UNREADABLE as error:
        kind = "array" if path.suffix == ".npy" else "picture"
        raise ConfigError(f"{path}: not a readable {kind}: {error}") from error


def read_pixels(path: Path) -> npt.NDArray[np.uint8]:
    """A PNG picture as it is, uint8 [H, W] (grey) or [H, W, 3].

    Raises:
        ConfigError: missing, damaged, no PNG, or larger than :data:`BYTES_MAX` or :data:`PIXELS_MAX`.
    """
    import numpy as np
    from PIL import Image

    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file")
    if path.stat().st_size > BYTES_MAX:
        raise ConfigError(f"{path}: {path.stat().st_size} bytes, a picture has at most {BYTES_MAX}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is damaged or too large is an error below
            with Image.open(path, formats=["PNG"]) as picture:
                if picture.width * picture.height > PIXELS_MAX:
                    raise ConfigError(
                        f"{path}: {picture.width} x {picture.height} pixels, a picture has at most {PIXELS_MAX}"
                    )
                grey = picture.mode in {"1", "L", "LA"}
                return np.asarray(picture.convert("L" if grey else "RGB"))
    except (*_UNREADABLE, Image.DecompressionBombError) as error:
        raise ConfigError(f"{path}: not a readable PNG picture: {error}") from error


def _read_array(path: Path, shape: Shape, most: int, expected: str) -> FloatArray:
    import numpy as np

    # no pickle is ever read: memory cannot be mapped to Python objects; only what is asked for is read
    array = np.lib.format.open_memmap(path, mode="r")  # type: ignore[no-untyped-call]
    size = ", ".join(map(str, shape))
    if array.dtype.kind != "f" or array.ndim != 4 or array.shape[1:] != shape or not len(array):
        raise ConfigError(f"{path}: it holds {array.dtype} {array.shape}, {expected} floats (N, {size}) with N >= 1")
    images = np.asarray(array[:most], dtype=np.float64)
    outside = np.argwhere(~(np.abs(images) <= 1.0))  # NaN is not within it
    if len(outside):
        raise ConfigError(f"{path}: image {outside[0][0]} holds {images[tuple(outside[0])]}, the range is -1..1")
    return images


def _read_picture(path: Path, shape: Shape) -> FloatArray:
    import numpy as np
    from PIL import Image

    channels, *size = shape
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is damaged or too large is an error below
            with Image.open(path) as picture:
                if [picture.height, picture.width] != size:
                    raise ConfigError(
                        f"{path}: the picture has {picture.height} x {picture.width} pixels, the encoder takes "
                        f"{size[0]} x {size[1]}"
                    )
                if picture.mode not in _MODES:
                    raise ConfigError(f"{path}: the picture has the mode {picture.mode}, known are {', '.join(_MODES)}")
                pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    except Image.DecompressionBombError as error:
        raise ConfigError(f"{path}: not a readable picture: {error}") from error
    return np.asarray(pixels.reshape(1, *size, channels).transpose(0, 3, 1, 2) / 127.5 - 1.0)
