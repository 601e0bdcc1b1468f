"""A working folder with small pipelines, and stand-ins for Slurm and ssh."""

from pathlib import Path

import pytest

from spikegen.program import save
from tests.inrc.stand_ins import Queue, write_queue, write_ssh
from tests.runtime.programs import tiny, tiny_tokens


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the pipeline files tiny.h5 and tokens.h5."""
    working = tmp_path / "work"
    working.mkdir()
    monkeypatch.chdir(working)
    save(tiny(), "tiny.h5")
    save(tiny_tokens(), "tokens.h5")
    return working


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Queue:
    """Stand-ins for sbatch, squeue and sacct on PATH."""
    return write_queue(tmp_path / "bin", monkeypatch)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for ssh on PATH; returns the home folder of every machine behind it."""
    return write_ssh(tmp_path / "bin", tmp_path / "home", monkeypatch)
