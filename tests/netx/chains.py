"""Random chains that netx can hold, and netx itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import spikegen
from spikegen.program import Conv, Dense, Input, Lif, Program, Projection, Readout, validate

ROOT = Path(spikegen.__file__).parents[1]
IntArray = npt.NDArray[Any]


def readout(source: Lif, timesteps: int) -> tuple[Readout, Conv]:
    """What reads the spikes of the last neurons."""
    channels = source.shape[0]
    copy = Conv("copy", source.name, "out", np.ones((channels, 1, 1, 1), np.int8), 0, groups=channels)
    return Readout("out", source.shape, np.ones(timesteps), np.zeros(channels)), copy


def chain(seed: int, *, bits: int = 0, timesteps: int = 8, current: bool = False) -> Program:
    """Two convolutions, two dense layers and a readout, of the spikes or of a current.

    Neurons leak or not, biases are multiples of 64, weights even, odd, of one sign or of both.
    """
    rng = np.random.default_rng(seed)
    port = Input("in", (2, 6, 7), bits, 1.0, streamed=True)
    scale = max(1, (1 << bits) - 1)
    shapes = ((4, 3, 3), (4, 2, 2), (3, 2, 1), (5, 1, 1))
    neurons = [_lif(rng, f"layer{index + 1}", shape, scale if not index else 1) for index, shape in enumerate(shapes)]
    strided = _weight(rng, 4, 2, 3, 2)
    grouped = _weight(rng, 4, 2, 2, 2)
    projections: list[Projection] = [
        Conv("a", "in", neurons[0].name, strided, 1, (2, 2), (1, 1), (1, 3)),
        Conv("b", neurons[0].name, neurons[1].name, grouped, 1, groups=2),
        Dense("c", neurons[1].name, neurons[2].name, _weight(rng, 6, 16), int(rng.integers(0, 2))),
        Dense("d", neurons[2].name, neurons[3].name, np.abs(_weight(rng, 5, 6)), 1),
    ]
    end, copy = readout(neurons[3], timesteps)
    last: Projection = copy
    if current:
        last = Dense("copy", neurons[3].name, "out", _weight(rng, 5, 5), 1)
    program = Program("chain", timesteps, port, (*neurons, end), (*projections, last))
    validate(program)
    return program


def scaled() -> Program:
    """Neurons that do not leak and weights that fit netx once they are doubled (odd ones of both signs) or divided."""
    rng = np.random.default_rng(7)
    first = Lif("layer1", (4, 4, 4), 90, 4095, 0, np.array([3, 0, -2, 1], np.int16), 5)
    second = Lif("layer2", (4, 1, 1), 1501, 4095, 0, np.array([0, 2, -2, 4], np.int16), 7)
    third = Lif("layer3", (4, 1, 1), 77, 2047, 300, np.zeros(4, np.int16), 0)
    end, last = readout(third, 8)
    projections: list[Projection] = [
        Conv("a", "in", "layer1", _weight(rng, 4, 1, 3, 3) | 1, 0, padding=(1, 1)),
        Conv(
            "b", "layer1", "layer2", _weight(rng, 4, 2, 4, 4), 3, groups=2
        ),  # as large as its source: written as dense
        Dense("c", "layer2", "layer3", _weight(rng, 4, 4), 1, gains=np.ones(8, np.int32)),
        last,
    ]
    program = Program(
        "scaled", 8, Input("in", (1, 4, 4), 0, 1.0, streamed=True), (first, second, third, end), (*projections,)
    )
    validate(program)
    return program


def frames(program: Program, images: int = 2) -> IntArray:
    """Random messages of every timestep, int32 [N, T, C, H, W]."""
    port = program.input
    low, high = int(port.low.min()), int(port.high.max())
    rng = np.random.default_rng(1)
    found: IntArray = rng.integers(low, high + 1, (images, program.timesteps, *port.shape)).astype(np.int32)
    return found


def _lif(rng: np.random.Generator, name: str, shape: tuple[int, int, int], scale: int) -> Lif:
    leaks = rng.random() < 0.7
    du, dv = (int(rng.integers(0, 4096)), int(rng.integers(0, 4096))) if leaks else (4095, 0)
    bias = rng.integers(-20, 60, shape[0]) if rng.random() < 0.6 or name == "layer3" else np.zeros(shape[0])
    base = 400 if name == "layer4" else int(rng.integers(50, 150))
    return Lif(name, shape, base * scale, du, dv, bias.astype(np.int16), 6)


def _weight(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.int8]:
    found = rng.integers(-128, 128, shape)
    found.flat[:2] = -128, 127
    return found.astype(np.int8)


def netx(jobs: Sequence[tuple[Path, IntArray, int]], folder: Path) -> list[tuple[IntArray, IntArray]]:
    """Spikes [N, T, C, H, W] or [N, T, neurons] of the last layer of each file, and its membranes at the end.

    Args:
        jobs: file, frames int [N, T, C, H, W], or [N, T, neurons] where the first layer is dense; message bits.
        folder: for what goes to and fro.
    """
    listed = []
    for index, (file, frames, bits) in enumerate(jobs):
        layout = frames.transpose(0, 1, 4, 3, 2) if frames.ndim == 5 else frames
        np.save(folder / f"x{index}.npy", layout.astype(np.int32))
        listed.append([str(file), str(folder / f"x{index}.npy"), str(folder / f"y{index}.npy"), bits])
    (folder / "jobs.json").write_text(json.dumps(listed))
    command = [sys.executable, "-W", "ignore", "-m", "tests.netx.lava_run", str(folder / "jobs.json")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=200)
    if result.returncode != 0:
        raise RuntimeError(result.stderr)
    found = []
    for index in range(len(jobs)):
        spikes, membrane = np.load(folder / f"y{index}.npy"), np.load(folder / f"y{index}.npy.membrane.npy")
        images = spikes.ndim == 5
        found.append((spikes.transpose(0, 1, 4, 3, 2) if images else spikes, membrane))
    return found
