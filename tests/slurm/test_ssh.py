"""A job through a real ssh and a real Slurm; the stand-in for ssh is in tests/inrc."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spikegen.program import save
from tests.cli.commands import succeed, summary
from tests.runtime.programs import tiny
from tests.slurm.conftest import free_port

SERVER = """Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile {folder}/pid
AuthorizedKeysFile {folder}/key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
SetEnv SLURM_CONF={slurm}
"""
CLIENT = """Host inrc
  HostName 127.0.0.1
  Port {port}
  User root
  IdentityFile {folder}/key
  UserKnownHostsFile /dev/null
  StrictHostKeyChecking no
  LogLevel ERROR
"""


@pytest.fixture
def ssh(slurm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A host that ssh reaches, which is this machine behind a server of its own."""
    server = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    client, keygen = shutil.which("ssh"), shutil.which("ssh-keygen")
    if server is None or client is None or keygen is None:
        pytest.skip("no ssh server is installed (openssh-server): a real ssh is not tried")
    folder, port = tmp_path / "ssh", free_port()
    folder.mkdir()
    for name in ("host", "key"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "server").write_text(SERVER.format(port=port, folder=folder, slurm=os.environ["SLURM_CONF"]))
    (folder / "client").write_text(CLIENT.format(port=port, folder=folder))
    (folder / "bin").mkdir()
    (folder / "bin/ssh").write_text(f'#!/bin/sh\nexec {client} -F {folder}/client "$@"\n')  # our keys and port
    (folder / "bin/ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    Path("/run/sshd").mkdir(exist_ok=True)
    subprocess.run([server, "-f", folder / "server", "-E", folder / "log"], check=True)
    yield "inrc"
    os.kill(int((folder / "pid").read_text()), signal.SIGTERM)


def test_there_and_back(ssh: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(tiny(), "tiny.h5")
    options = ("-n", 5, "--steps", 3, "--seed", 2)
    place = ("--partition", "oheogulch", "--backend", "simulator", "--python", sys.executable)
    succeed("deploy", "tiny.h5", *place, *options, "--shards", 2, "-o", "job")
    remote = tmp_path / "there" / "my job's folder"
    assert summary("submit", "job", "--ssh", ssh, "--remote-dir", remote)["shards"] == [0, 1]
    done = summary("status", "job", "--wait", "--interval", 0.2)
    assert [shard["stage"] for shard in done["shards"]] == ["finished", "finished"]
    assert list(Path("job/results").iterdir()) == []
    succeed("fetch", "job", "-o", "job.png", "--npy", "job.npy", "--counts", "job.json")
    succeed("sample", "tiny.h5", *options, "-o", "here.png", "--npy", "here.npy", "--counts", "here.json")
    for suffix in ("png", "npy", "json"):
        assert Path(f"job.{suffix}").read_bytes() == Path(f"here.{suffix}").read_bytes(), suffix
    assert summary("submit", "job")["shards"] == []
