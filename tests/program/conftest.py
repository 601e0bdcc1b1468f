"""A saved pipeline for the tests of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from spikegen.program import save
from tests.program.examples import alone, every_primitive


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A saved example."""
    save(alone(every_primitive()), tmp_path / "pipeline.h5")
    return tmp_path / "pipeline.h5"
