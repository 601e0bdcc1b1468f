"""Inputs of a network from a .npy file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spikegen.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

BYTES_MAX = 1 << 32


def read_inputs(path: Path, shape: tuple[int, ...], most: int | None = None) -> npt.NDArray[np.float64]:
    """The first ``most`` inputs of a .npy file as float64 [N, *shape].

    Trailing axes of size 1 may be missing: (N, F) is taken for (N, F, 1, 1).

    Args:
        path: an array of floats, integers or booleans.
        shape: of one input.
        most: at least 1; None: all.

    Raises:
        ConfigError: missing, damaged, with pickled objects, of another shape, or with numbers that are not finite.
    """
    import numpy as np

    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file")
    if path.stat().st_size > BYTES_MAX:
        raise ConfigError(f"{path}: {path.stat().st_size} bytes, inputs have at most {BYTES_MAX}")
    try:
        # no pickle is ever read: memory cannot be mapped to Python objects; only what is asked for is read
        array = np.lib.format.open_memmap(path, mode="r")  # type: ignore[no-untyped-call]
    except (OSError, ValueError, SyntaxError, TypeError, OverflowError, MemoryError) as error:
        raise ConfigError(f"{path}: not a readable array: {error}") from error
    short = shape
    while short and short[-1] == 1:
        short = short[:-1]
    given = array.shape[1:]
    fits = given == shape or (given == short and shape[-2:] == (1, 1))
    if array.dtype.kind not in "fiub" or not array.ndim or not fits or not len(array):
        size = ", ".join(map(str, shape))
        raise ConfigError(
            f"{path}: it holds {array.dtype} {array.shape}, the network takes numbers (N, {size}), N >= 1"
        )
    inputs = np.array(array[:most], dtype=np.float64).reshape(-1, *shape)
    if not np.isfinite(inputs).all():
        raise ConfigError(f"{path}: input {int(np.argwhere(~np.isfinite(inputs))[0][0])} is not finite")
    return inputs
