"""Small Programs for checks of hardware."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spikegen.lowering.retime import retime
from spikegen.program import Conv, Input, Lif, Population, Program, Readout


def kernel(outputs: int, inputs: int, size: int = 3) -> npt.NDArray[np.int8]:
    """Weights of all 8 bits."""
    weight = np.random.default_rng(outputs * inputs).integers(-128, 128, (outputs, inputs, size, size)).astype(np.int8)
    weight.flat[:2] = (-128, 127)
    return weight


def lif(name: str, channels: int, size: int = 8) -> Lif:
    return Lif(name, (channels, size, size), 100, 4095, 0, np.zeros(channels, dtype=np.int16), 0)


def conv(source: str, target: str, inputs: int, outputs: int) -> Conv:
    return Conv(f"{source}>{target}", source, target, kernel(outputs, inputs), 1, padding=(1, 1))


def program(populations: tuple[Population, ...], projections: tuple[Conv, ...], size: int = 8) -> Program:
    return retime(Program("test", 4, Input("in", (1, size, size), 7, 1.0), populations, projections))


def chain(channels: int = 4, size: int = 8) -> Program:
    """in -> a -> out."""
    out = Readout("out", (channels, size, size), np.ones(4), np.zeros(channels))
    return program(
        (lif("a", channels, size), out), (conv("in", "a", 1, channels), conv("a", "out", channels, channels)), size
    )


def skips(channels: int = 4, size: int = 8) -> Program:
    """in -> a -> b -> c -> d -> out; c hears a and b, d hears a, b and c (as a residual stream that was composed)."""
    out = Readout("out", (channels, size, size), np.ones(4), np.zeros(channels))
    pairs = (("a", "b"), ("a", "c"), ("b", "c"), ("a", "d"), ("b", "d"), ("c", "d"))
    inner = tuple(conv(source, target, channels, channels) for source, target in pairs)
    return program(
        (*(lif(name, channels, size) for name in "abcd"), out),
        (conv("in", "a", 1, channels), *inner, conv("d", "out", channels, channels)),
        size,
    )


def strided() -> Program:
    """in -> a (8x8) -> b (4x4, two groups, stride 2) -> out."""
    out = Readout("out", (4, 4, 4), np.ones(4), np.zeros(4))
    half = Conv("a>b", "a", "b", kernel(4, 2), 1, stride=(2, 2), padding=(1, 1), groups=2)
    return program((lif("a", 4, 8), lif("b", 4, 4), out), (conv("in", "a", 1, 4), half, conv("b", "out", 4, 4)))
