"""Which kernel computes a projection: admitted by a test of exactness, chosen by measurement."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from spikegen.errors import BackendError
from spikegen.simulator.kernels import EXACT_FLOAT32, KERNELS, Convolution, Kernel

_REPEATS = 5  # timed runs, after one that warms up
_MARGIN = (
    1.25  # how many times faster a kernel must be than one that is preferred: other work may disturb a measurement
)
_PROBE_MACS, _PROBE_FRAMES = 1 << 26, 8  # at most, of the exactness test


@dataclass(frozen=True)
class Choice:
    """What was chosen for one projection.

    Attributes:
        kernel: key of :data:`spikegen.simulator.kernels.KERNELS`.
        seconds: key -> best time of ``frames`` frames, of every kernel that was measured; empty if there was one only.
        frames: frames of that measurement.
        macs: products of one frame, those with padding and zeros too.
    """

    kernel: str
    seconds: dict[str, float]
    frames: int
    macs: int


class Selection:
    """Chooses kernels; what was measured for one geometry holds for all projections that have it.

    Args:
        names: keys of :data:`KERNELS` to choose among, in the order of preference: one is taken before another unless
            that is clearly faster.
        device: where they run.
        spare: keys of those to take where none of ``names`` is exact.
    """

    def __init__(self, names: Sequence[str], device: torch.device, spare: Sequence[str] = ()) -> None:
        self._names, self._device, self._spare = names, device, spare
        self._choices: dict[tuple[Any, ...], Choice] = {}

    def choose(self, conv: Convolution, frames: int, *, spikes: bool, reach: int) -> Choice:
        """The kernel for ``conv``.

        Args:
            conv: what is computed.
            frames: messages (n) of a typical call.
            spikes: whether the messages are spikes.
            reach: largest magnitude of its messages.

        Raises:
            BackendError: no kernel is exact here.
        """
        key = (*conv.key, spikes, reach)  # products in fewer bits are exact up to some reach
        if key not in self._choices:
            self._choices[key] = self._choose(conv, frames, spikes, reach)
        return self._choices[key]

    def _choose(self, conv: Convolution, frames: int, spikes: bool, reach: int) -> Choice:
        if not conv.ordinary:  # some of these end the process in the others
            return Choice("matmul", {}, frames, conv.macs)
        exact: list[str] = []
        for names in (self._names, self._spare):
            usable = [name for name in names if spikes or name != "int8"]
            exact = exact or [name for name in usable if is_exact(name, conv, reach, self._device)]
        if not exact:
            raise BackendError(
                f"{conv.name}: none of the kernels {', '.join(self._names)} is exact on {self._device}; "
                "use engine='numpy'"
            )
        if len(exact) == 1:
            return Choice(exact[0], {}, frames, conv.macs)
        messages = _messages(conv, frames, reach, spikes).to(self._device)
        seconds = {name: _time(KERNELS[name](conv, 1.0), messages, self._device) for name in exact}
        fastest = min(seconds.values())
        return Choice(next(k for k, t in seconds.items() if t <= _MARGIN * fastest), seconds, frames, conv.macs)


def is_exact(name: str, conv: Convolution, reach: int, device: torch.device) -> bool:
    """Whether the kernel exists here and computes integers exactly, by itself and added to others.

    The bound on the sums is the caller's. This finds what no bound shows: a convolution by a transform, or products in
    fewer bits than float32 has, as libraries use them by default on some devices.
    """
    frames = max(2, min(_PROBE_FRAMES, _PROBE_MACS // conv.macs))
    messages = _messages(conv, frames, reach, spikes=name == "int8")
    largest = min(128, (EXACT_FLOAT32 - 1) // (conv.weight[0].numel() * reach))
    if largest:  # else only because many of the weights are 0 the bound holds
        drawn = torch.randint(
            -largest, min(largest, 127) + 1, conv.weight.shape, generator=torch.Generator().manual_seed(1)
        )
        conv = dataclasses.replace(conv, weight=drawn.to(torch.int8))  # what is found holds for all that are smaller
    expected = functional.conv2d(
        messages.double(), conv.weight.double(), None, conv.stride, conv.padding, conv.dilation, conv.groups
    )
    try:
        kernel = KERNELS[name](conv, -2.0)
        found = kernel(messages.to(device))
        again = found.clone(memory_format=torch.preserve_format)
        kernel(messages.to(device), again)
    except (BackendError, RuntimeError, AttributeError, TypeError):  # torch without it, or with another signature
        return False
    return torch.equal(found.double().cpu(), -2.0 * expected) and torch.equal(again.double().cpu(), -4.0 * expected)


def _messages(conv: Convolution, frames: int, reach: int, spikes: bool) -> Tensor:
    """Random messages of one magnitude (n, C, H, W), in memory (n, H, W, C)."""
    channels, height, width = conv.size
    generator = torch.Generator().manual_seed(0)
    if spikes:
        drawn = torch.randint(0, 2, (frames, height, width, channels), dtype=torch.uint8, generator=generator)
    else:
        drawn = torch.randint(-reach, reach + 1, (frames, height, width, channels), generator=generator).float()
    return drawn.permute(0, 3, 1, 2)


def _time(kernel: Kernel, messages: Tensor, device: torch.device) -> float:
    """Best of a few runs, in seconds."""
    best = float("inf")
    for repeat in range(1 + _REPEATS):
        started = time.perf_counter()
        kernel(messages)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if repeat:
            best = min(best, time.perf_counter() - started)
    return best
