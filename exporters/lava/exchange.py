"""Where host and network meet: arrays that the processes of a network share with the process that built it. No Lava.

Lava hands a Var to the host, and takes it from there, one scalar at a time (``lava/magma/runtime/runtime.py``
``set_var``, ``get_var``), about 24 microseconds each through two processes. These arrays lie in anonymous shared memory
instead: Lava forks its processes, which inherit it, so there is no copy, no name in the file system and nothing to
remove; the kernel frees it with the last process.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spikegen.program import Evaluation, Lif, Program, Readout
from spikegen.program.counting import Counts

Results = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Exchange:
    """The host's side of a network: written before a run (the first three), read after it (the others).

    A network may touch the arrays only in a run, the host only between two runs. N is the most images of a run, n those
    of the present one; only their part of an array has a meaning. What is never written takes no memory.

    Attributes:
        program: the Program.
        order: int64 [3]: n, the diffusion step, 1 to keep messages.
        frames: int32 [N, C, H, W], or [N, T, C, H, W] if the input is streamed.
        biases: population -> int16 [C], the bias mantissas of each Lif at that diffusion step.
        readouts: readout -> int32 [N, T, C, H, W], its current at every timestep.
        totals: node that sends messages -> int64 [1 + 2 P], ``counting.tap_rows`` times its events over the n images.
        messages: the same nodes -> uint8 (binary) or int32 (graded) [N, T, C, H, W], only if they are to be kept.
    """

    program: Program
    order: npt.NDArray[np.int64]
    frames: npt.NDArray[np.int32]
    biases: Mapping[str, npt.NDArray[np.int16]]
    readouts: Mapping[str, npt.NDArray[np.int32]]
    totals: Mapping[str, npt.NDArray[np.int64]]
    messages: Mapping[str, npt.NDArray[Any]]

    @staticmethod
    def of(program: Program, images: int) -> Exchange:
        """Zeros for runs of up to ``images`` images, to be made before the processes are forked."""
        senders = {name: node for name, node in program.nodes.items() if not isinstance(node, Readout)}
        window = (images, program.timesteps)
        frames = window if program.input.streamed else (images,)
        return Exchange(
            program,
            _shared((3,), np.int64),
            _shared((*frames, *program.input.shape), np.int32),
            {p.name: _shared(p.shape[:1], np.int16) for p in program.populations if isinstance(p, Lif)},
            {p.name: _shared((*window, *p.shape), np.int32) for p in program.readouts()},
            {name: _shared((1 + 2 * len(tuple(program.out_of(name))),), np.int64) for name in senders},
            {
                name: _shared((*window, *node.shape), np.int32 if program.message_bits(name) else np.uint8)
                for name, node in senders.items()
            },
        )

    @property
    def images(self) -> int:
        """n, images of the present run."""
        return int(self.order[0])

    @property
    def step(self) -> int:
        """Diffusion step of the present run."""
        return int(self.order[1])

    @property
    def record(self) -> bool:
        """Whether the present run keeps messages."""
        return bool(self.order[2])

    def post(self, frames: npt.NDArray[np.int32], step: int, record: bool) -> None:
        """Write what the next run is to do.

        Args:
            frames: int32 [n, C, H, W], or [n, T, C, H, W] if the input is streamed; n at most N.
            step: diffusion step.
            record: keep the messages.
        """
        self.order[:] = len(frames), step, record
        self.frames[: len(frames)] = frames
        for population in self.program.populations:
            if isinstance(population, Lif):
                self.biases[population.name][:] = self.program.bias_mant(population, step)

    def results(self) -> Results:
        """Views of what the last run wrote for the i-th node: ``readout_<i>``, or ``totals_<i>``, ``messages_<i>``."""
        found: Results = {}
        for index, name in enumerate(self.program.nodes):
            if name in self.readouts:
                found[f"readout_{index}"] = self.readouts[name][: self.images]
            else:
                found[f"totals_{index}"] = self.totals[name]
                if self.record:
                    found[f"messages_{index}"] = self.messages[name][: self.images]
        return found


def evaluation(program: Program, images: int, results: Mapping[str, npt.NDArray[Any]]) -> Evaluation:
    """The evaluation of ``images`` images from the :meth:`Exchange.results` of their run."""
    taps: dict[str, npt.NDArray[np.int64]] = {}
    messages: dict[str, npt.NDArray[np.int32]] = {}
    readouts: dict[str, npt.NDArray[np.int32]] = {}
    for index, name in enumerate(program.nodes):
        if f"readout_{index}" in results:
            readouts[name] = results[f"readout_{index}"]
            continue
        taps[name] = results[f"totals_{index}"]
        if f"messages_{index}" in results:
            messages[name] = results[f"messages_{index}"].astype(np.int32)
    return Evaluation(readouts, Counts.from_taps(program, images, taps), messages)


def _shared(shape: tuple[int, ...], dtype: type[np.generic]) -> npt.NDArray[Any]:
    """Zeros in anonymous memory that is shared with forks."""
    count = int(np.prod(shape))
    block = mmap.mmap(-1, count * np.dtype(dtype).itemsize)  # MAP_SHARED is the default
    return np.frombuffer(block, dtype=dtype, count=count).reshape(shape)
