"""Where the time of the simulator goes: convolutions, neurons, rest, and the rate of every layer, in the run itself.

The kernels and the neurons of the simulator are timed by wrapping the methods of their classes; they work one after the
other in the calling thread, so their seconds add up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from spikegen.program import Program
from spikegen.simulator import Simulator
from spikegen.simulator.kernels import KERNELS, Shape2d
from spikegen.simulator.neurons import Neurons


@dataclass
class Layer:
    """One kernel in use: its geometry, the frames it saw, and its seconds."""

    name: str
    kernel: str
    shape: tuple[int, ...]
    size: tuple[int, int, int]
    macs: int
    frames: int = 0
    seconds: float = 0.0


@dataclass
class Split:
    """Seconds by part, and by layer."""

    neurons: float = 0.0
    layers: list[Layer] = field(default_factory=list)

    @property
    def convolutions(self) -> float:
        """Seconds of all kernels."""
        return sum(layer.seconds for layer in self.layers)


@contextmanager
def watched() -> Iterator[Split]:
    """Kernels made inside are timed whenever they are called inside; so are all neurons."""
    split = Split()
    known: dict[int, Layer] = {}
    kept: list[Any] = []  # an id stays that of one kernel while the kernel lives
    undo: list[tuple[type, str, Any]] = []

    def patch(owner: type, name: str, make: Callable[[Any], Any]) -> None:
        original = getattr(owner, name)
        undo.append((owner, name, original))
        setattr(owner, name, make(original))

    def noted(kind: str) -> Callable[[Any], Any]:
        def make(original: Any) -> Any:
            def init(self: Any, shape: Shape2d, *arguments: Any) -> None:
                original(self, shape, *arguments)
                layer = Layer(shape.name, kind, tuple(shape.weight.shape), shape.size, shape.macs)
                known[id(self)] = layer
                kept.append(self)
                split.layers.append(layer)

            return init

        return make

    def called(original: Any) -> Any:
        def call(self: Any, messages: Any, *arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            result = original(self, messages, *arguments, **named)
            layer = known.get(id(self))
            if layer is not None:
                layer.seconds += time.perf_counter() - start
                layer.frames += len(messages)
            return result

        return call

    def fired(original: Any) -> Any:
        def fire(self: Any, *arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            result = original(self, *arguments, **named)
            split.neurons += time.perf_counter() - start
            return result

        return fire

    for kind, kernel in KERNELS.items():
        patch(kernel, "__init__", noted(kind))  # type: ignore[arg-type]
        patch(kernel, "__call__", called)  # type: ignore[arg-type]
    patch(Neurons, "fire", fired)
    try:
        yield split
    finally:
        for owner, name, original in undo:
            setattr(owner, name, original)


def split_of(program: Program, run: Callable[[Simulator], object], rounds: int) -> dict[str, Any]:
    """Shares of the time of ``run`` on a simulator of ``program``, and the rates of its layers, in ``rounds`` runs."""
    with watched() as split, Simulator(program) as simulator:
        run(simulator)
        split.neurons = 0.0
        for layer in split.layers:
            layer.seconds, layer.frames = 0.0, 0
        start = time.perf_counter()
        for _ in range(rounds):
            run(simulator)
        whole = time.perf_counter() - start
    used = [layer for layer in split.layers if layer.frames]
    rates = [
        {
            "projection": layer.name,
            "kernel": layer.kernel,
            "weight": list(layer.shape),
            "source": list(layer.size),
            "frames": layer.frames // rounds,
            "seconds": layer.seconds / rounds,
            "gmacs": layer.macs * layer.frames / layer.seconds / 1e9,
        }
        for layer in used
    ]
    return {
        "seconds": whole / rounds,
        "convolutions": split.convolutions / whole,
        "neurons": split.neurons / whole,
        "rest": 1.0 - (split.convolutions + split.neurons) / whole,
        "layers": rates,
    }
