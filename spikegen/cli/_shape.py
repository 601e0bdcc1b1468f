"""The shape of an input as users write it: ``1x28x28``, or features: ``784``."""

from __future__ import annotations

import re

import rich_click as click

_SHAPE = re.compile(r"\d{1,7}(x\d{1,7}x\d{1,7})?")


def read_shape(text: str) -> tuple[tuple[int, int, int], bool]:
    """(C, H, W), and whether it is features, (F, 1, 1)."""
    sizes = [int(size) for size in text.split("x")] if _SHAPE.fullmatch(text) else []
    if not sizes or min(sizes) < 1:
        raise click.UsageError(f"--input {text}: expected channels x height x width, such as 1x28x28, or features: 784")
    channels, height, width = (sizes[0], 1, 1) if len(sizes) == 1 else sizes
    return (channels, height, width), len(sizes) == 1
