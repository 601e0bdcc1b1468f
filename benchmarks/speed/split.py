"""Where the time of the simulator goes: convolutions, neurons, rest, and the rate of every layer, in the run itself.

The kernels and the neurons of a simulator are wrapped with a stopwatch; they work one after the other in the calling
thread, so their seconds add up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spikegen.program import Program
from spikegen.simulator import Simulator


@dataclass
class Stopwatch:
    """Seconds of all calls of a function, and the frames that its first argument had.

    Attributes:
        run: the function.
        projection, kernel: whose part it computes, and how; "" for neurons.
        weight, source: shape of the weights, and of the messages (C, H, W).
        macs: products of one frame, those with padding too.
    """

    run: Callable[..., Any]
    projection: str = ""
    kernel: str = ""
    weight: tuple[int, ...] = ()
    source: tuple[int, ...] = ()
    macs: int = 0
    frames: int = 0
    seconds: float = 0.0

    def __call__(self, *arguments: Any) -> Any:
        """Run it."""
        start = time.perf_counter()
        result = self.run(*arguments)
        self.seconds += time.perf_counter() - start
        if self.macs:
            self.frames += len(arguments[0])
        return result

    def figures(self, runs: int) -> dict[str, Any]:
        """Of one run."""
        return {
            "projection": self.projection,
            "kernel": self.kernel,
            "weight": list(self.weight),
            "source": list(self.source),
            "frames": self.frames // runs,
            "seconds": self.seconds / runs,
            "gmacs": self.macs * self.frames / self.seconds / 1e9,
        }


def watched(simulator: Simulator) -> tuple[list[Stopwatch], Stopwatch]:
    """Stopwatches on the kernels, and one on the neurons, of a simulator on torch."""
    engine: Any = simulator.engine
    kernels = []
    for feed in (feed for feeds in engine._feeds.values() for feed in feeds or ()):  # noqa: SLF001 - only here
        choices = engine.choices[feed.projection.name]
        for index, (part, kernel) in enumerate(feed.parts):
            conv = part.convolution
            made = (feed.projection.name, choices[index].kernel, tuple(conv.weight.shape), conv.size, conv.macs)
            kernels.append(Stopwatch(kernel, *made))
            feed.parts[index] = (part, kernels[-1])
    engine._fire = neurons = Stopwatch(engine._fire)  # noqa: SLF001
    return kernels, neurons


def split_of(program: Program, run: Callable[[Simulator], object], rounds: int) -> dict[str, Any]:
    """Shares of the time of ``run`` on a simulator of ``program``, and the rates of its layers, in ``rounds`` runs."""
    with Simulator(program) as simulator:
        run(simulator)
        kernels, neurons = watched(simulator)
        start = time.perf_counter()
        for _ in range(rounds):
            run(simulator)
        whole = time.perf_counter() - start
    convolutions = sum(kernel.seconds for kernel in kernels)
    return {
        "seconds": whole / rounds,
        "convolutions": convolutions / whole,
        "neurons": neurons.seconds / whole,
        "rest": 1.0 - (convolutions + neurons.seconds) / whole,
        "layers": [kernel.figures(rounds) for kernel in kernels],
    }
