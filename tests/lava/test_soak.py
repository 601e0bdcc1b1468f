"""A short soak of the fused network, and that a soak finds what it looks for."""

from __future__ import annotations

import mmap
from typing import Any

import pytest
from rich.console import Console

from benchmarks import soak
from spikegen.exporters.lava import LavaTarget

pytestmark = pytest.mark.lava
CONSOLE = Console(quiet=True)


def test_fifty_runs_are_equal_and_leave_nothing() -> None:
    assert soak.soak(50, CONSOLE) == []


def test_a_soak_finds_growth_and_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    evaluate = LavaTarget.evaluate

    def leaking(self: LavaTarget, *arguments: Any) -> Any:
        file = open("/dev/null")  # noqa: SIM115 - it is left open on purpose
        pages = mmap.mmap(-1, 4 << 20)  # the heap might have such pages left over
        pages.write(b"x" * len(pages))
        kept.append((file, pages))
        return evaluate(self, *arguments)

    monkeypatch.setattr(LavaTarget, "evaluate", leaking)
    try:
        found = soak.soak(30, CONSOLE)
    finally:
        for file, pages in kept:
            file.close()
            pages.close()
    assert [line.split()[0] for line in found] == ["own:", "descriptors:"]
    monkeypatch.setattr(LavaTarget, "evaluate", lambda self, frames, step: evaluate(self, frames, (step + 1) % 3))
    assert soak.soak(30, CONSOLE) == ["run 0 differs from the simulator"]
