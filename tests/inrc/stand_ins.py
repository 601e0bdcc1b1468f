"""Stand-ins for Slurm's commands and for ssh: scripts that answer what a test has written down. Nothing is queued."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

SBATCH = """#!/bin/sh
# A stand-in: notes its arguments, gives the next number.
echo "$@" >> {folder}/submitted
[ -f {folder}/refusal ] && {{ cat {folder}/refusal >&2; exit 1; }}
wc -l < {folder}/submitted
"""
ANSWER = """#!/bin/sh
# A stand-in: answers what the test has written.
echo "{name} $@" >> {folder}/asked
[ -f {folder}/{name} ] && exec cat {folder}/{name}
echo "{refusal}" >&2
exit 1
"""
SSH = """#!/bin/sh
# A stand-in: notes its arguments, runs the command of the other machine here, in a home of its own.
printf '%s\\n' "$*" >> {folder}/ssh
[ -f {folder}/ssh-refusal ] && {{ cat {folder}/ssh-refusal >&2; exit 255; }}
while [ "$1" != "--" ]; do shift; done
cd {home} && exec sh -c "$3"
"""


@dataclass(frozen=True)
class Queue:
    """What the stand-ins answer, and what they were asked."""

    folder: Path

    @property
    def submitted(self) -> list[str]:
        """Arguments of every call of sbatch."""
        path = self.folder / "submitted"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def asked(self) -> list[str]:
        """Every call of squeue and sacct."""
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []

    def answer(self, *tasks: str, sacct: tuple[str, ...] | None = None) -> None:
        """squeue says ``tasks``; sacct its own, or that the site keeps no accounts."""
        (self.folder / "squeue").write_text("".join(f"{task}\n" for task in tasks))
        (self.folder / "sacct").unlink(missing_ok=True)
        if sacct is not None:
            (self.folder / "sacct").write_text("".join(f"{task}\n" for task in sacct))

    def refuse(self, text: str) -> None:
        """sbatch refuses from now on."""
        (self.folder / "refusal").write_text(text)


def write_queue(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Queue:
    answers = folder / "answers"
    answers.mkdir(parents=True, exist_ok=True)
    _script(folder / "sbatch", SBATCH.format(folder=answers))
    for name, refusal in (("squeue", "squeue: error: cannot connect"), ("sacct", "Slurm accounting storage is off")):
        _script(folder / name, ANSWER.format(name=name, folder=answers, refusal=refusal))
    _on_path(folder, monkeypatch)
    queue = Queue(answers)
    queue.answer()
    return queue


def write_ssh(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder.mkdir(exist_ok=True)
    home.mkdir()
    _script(folder / "ssh", SSH.format(folder=home.parent, home=home))
    _on_path(folder, monkeypatch)
    return home


def only(folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """PATH holds nothing but ``names``."""
    folder.mkdir()
    for name in names:
        _script(folder / name, "#!/bin/sh\nexit 0\n")
    monkeypatch.setenv("PATH", str(folder))


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join((str(folder), os.environ["PATH"])))
