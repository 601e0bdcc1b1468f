"""Rivals timed in turn, so that whatever else the machine does meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

Runs = Mapping[str, Callable[[], object]]


ROUNDS_MIN = 3
BUDGET = 120.0  # seconds, of all rounds of one comparison


def interleaved(rivals: Runs, rounds: int, warm_up: int = 1) -> Timings:
    """Every rival once a round, in the same order, after ``warm_up`` rounds that do not count.

    Slow rivals have fewer than ``rounds`` rounds: no round starts after :data:`BUDGET`, once there are
    :data:`ROUNDS_MIN`.
    """
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    begin = time.perf_counter()
    for turn in range(-warm_up, rounds):
        if turn >= ROUNDS_MIN and time.perf_counter() - begin > BUDGET:
            break
        for name, run in rivals.items():
            start = time.perf_counter()
            run()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return Timings(seconds)


class Timings:
    """Seconds of every round of every rival."""

    def __init__(self, seconds: Mapping[str, list[float]]) -> None:
        self.seconds = seconds

    def median(self, name: str) -> float:
        """Median seconds of a rival."""
        return statistics.median(self.seconds[name])

    def ratio(self, slow: str, fast: str) -> dict[str, float]:
        """How many times longer ``slow`` takes: of the medians, of the minima, and the smallest of any round."""
        rounds = [a / b for a, b in zip(self.seconds[slow], self.seconds[fast], strict=True)]
        minima = min(self.seconds[slow]) / min(self.seconds[fast])
        return {"median": self.median(slow) / self.median(fast), "of_minima": minima, "smallest": min(rounds)}

    def summary(self) -> dict[str, dict[str, Any]]:
        """Median, minimum and number of rounds of every rival."""
        return {
            name: {"median": self.median(name), "min": min(found), "rounds": len(found)}
            for name, found in self.seconds.items()
        }
