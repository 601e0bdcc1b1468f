"""A real Slurm of one node, started once for the tests in this folder."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
PARTITION = "oheogulch"
BETWEEN = 400  # tests that take a minute or more, and are the first worker's where pytest runs with several


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring the tests of this folder to the front, but the one that waits for the end of a minute after many others."""
    ours = [item for item in items if HERE in item.path.parents]
    first = [item for item in ours if item.get_closest_marker("after_a_minute") is None]
    last = [item for item in ours if item not in first]
    others = [item for item in items if item not in set(ours)]
    items[:] = [*first, *others[:BETWEEN], *last, *others[BETWEEN:]]


@pytest.fixture(scope="session")
def configuration() -> Iterator[str]:
    """Path of the configuration of a running Slurm."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
    missing = [name for name in NEEDED if shutil.which(name, path=path) is None]
    if missing:
        pytest.skip(f"Slurm is not installed ({', '.join(missing)} missing): apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("a Slurm of one's own needs root: slurmd and munged are started by the test")
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # short: it holds sockets
    try:
        subprocess.run([HERE / "start", folder, PARTITION], check=True)
        yield str(folder / "slurm.conf")
    finally:
        subprocess.run([HERE / "stop", folder], check=False)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def slurm(configuration: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A running Slurm whose commands find it (SLURM_CONF) during this test only; the name of its partition."""
    monkeypatch.setenv("SLURM_CONF", configuration)
    return PARTITION
