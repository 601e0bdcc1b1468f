"""Rivals timed in turn, so that whatever else the machine does meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

Runs = Mapping[str, Callable[[], object]]


def interleaved(rivals: Runs, rounds: int, warm_up: int = 1, finished: Callable[[], None] = lambda: None) -> Timings:
    """Every rival once a round, in the same order, after ``warm_up`` rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(-warm_up, rounds):
        for name, run in rivals.items():
            start = time.perf_counter()
            run()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
            finished()
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
