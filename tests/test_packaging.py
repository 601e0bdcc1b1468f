"""What users install: the sdist, the wheel made from it, and the metadata."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import tomli

import spikegen

ROOT = Path(__file__).parent.parent
PROJECT = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IN_CHECKOUT = (ROOT / ".git").exists()


def _build(source: Path, kind: str, target: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (made,) = target.glob("*.tar.gz" if kind == "sdist" else "*.whl")
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel built from the sdist."""
    folder = tmp_path_factory.mktemp("packaging")
    with tarfile.open(_build(ROOT, "sdist", folder / "sdist")) as archive:
        archive.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    return zipfile.ZipFile(_build(source, "wheel", folder / "wheel"))


def test_the_wheel_holds_every_module(wheel: zipfile.ZipFile) -> None:
    expected = set()
    for folder, _, files in os.walk(ROOT / "spikegen", followlinks=True):
        relative = Path(folder).relative_to(ROOT)
        if "__pycache__" not in relative.parts:
            expected |= {(relative / file).as_posix() for file in files if file.endswith(".py")}
    assert {name for name in wheel.namelist() if name.endswith(".py")} == expected
    assert "spikegen/hardware/__init__.py" in expected
    assert "spikegen/exporters/lava/__init__.py" in expected


def test_the_wheel_holds_the_data(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert "spikegen/py.typed" in names
    assert "spikegen/models/checkpoints/digits-unet/model.safetensors" in names
    assert "spikegen/models/checkpoints/digits-unet/config.json" in names
    assert {"spikegen/report/templates/page.html", "spikegen/report/templates/page.css"} <= set(names)


def test_the_wheel_installs_nothing_beside_spikegen(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"spikegen", f"spikegen-{spikegen.__version__}.dist-info"}


def test_the_command_is_declared(wheel: zipfile.ZipFile) -> None:
    entry = wheel.read(f"spikegen-{spikegen.__version__}.dist-info/entry_points.txt").decode()
    assert "spikegen = spikegen.cli:main" in entry


@pytest.mark.parametrize("name", ["hardware", "exporters"])
def test_the_links_are_relative_and_guarded(name: str) -> None:
    if IN_CHECKOUT:
        assert os.readlink(ROOT / "spikegen" / name) == f"../{name}"
        command = [sys.executable, "-c", f"import {name}"]
        probe = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert probe.returncode == 1
        assert "relative import" in probe.stderr
    subprocess.run([sys.executable, "-c", f"import spikegen.{name}"], cwd=ROOT, check=True)


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-py311.txt"])
def test_the_constraints_are_exact_and_hold_no_address(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert "://" not in "\n".join(lines)
    assert len(pins) == len(set(pins)) > 50
    for line in pins:
        assert re.fullmatch(r"[a-z0-9-]+==[A-Za-z0-9.]+", line), line


def test_every_dependency_is_pinned() -> None:
    pinned = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
    needed = [*PROJECT["dependencies"], *(d for extra in PROJECT["optional-dependencies"].values() for d in extra)]
    names = {re.split(r"[\[<>=!~]", requirement)[0] for requirement in needed} - {"spikegen"}
    assert names <= pinned


def test_above_python_3_10_nothing_needs_lava() -> None:
    needed = [*PROJECT["dependencies"], *(d for extra in PROJECT["optional-dependencies"].values() for d in extra)]
    lava = [requirement for requirement in needed if requirement.startswith("lava")]
    assert len(lava) == 2
    assert all(requirement.endswith("; python_version < '3.11'") for requirement in lava)
    pins = (ROOT / "constraints-py311.txt").read_text(encoding="utf-8")
    assert "lava" not in re.sub(r"^#.*$", "", pins, flags=re.MULTILINE)
    assert "\ntorch==2.13.0\n" in pins


def test_the_core_needs_neither_torch_nor_lava() -> None:
    assert not [d for d in PROJECT["dependencies"] if re.match(r"torch|lava|safetensors|scikit", d)]


def test_the_changelog_names_the_version_and_what_it_works_with() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert spikegen.__version__ in changelog
    assert "lava-nc 0.10.0, lava-dl 0.6.0, torch 2.3.1" in changelog
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    for pin in ("lava-nc==0.10.0", "lava-dl==0.6.0", "torch==2.3.1"):
        assert pin in pins


def test_no_module_is_too_long() -> None:
    for folder in ("spikegen", "hardware", "exporters"):
        for path in (ROOT / folder).rglob("*.py"):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            assert lines < 400, f"{path.relative_to(ROOT)} has {lines} lines, the limit is 399"
