"""Read-only arrays: what a Program holds cannot change under a target that runs it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def frozen(array: npt.ArrayLike, dtype: Any) -> npt.NDArray[Any]:
    """A read-only copy of ``array`` as ``dtype``; a value that does not fit is an error, never wrapped."""
    source = np.asarray(array)
    with np.errstate(invalid="ignore"):  # the comparison below finds what the cast could not keep
        result = np.array(source, dtype=dtype)
    if not np.array_equal(result, source, equal_nan=np.issubdtype(result.dtype, np.floating)):
        raise ValueError(f"an array of {source.dtype} holds values that do not fit {np.dtype(dtype).name}")
    result.setflags(write=False)
    return result
