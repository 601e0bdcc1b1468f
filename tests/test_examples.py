"""The examples run as they are, at a small size."""

import contextlib
import importlib
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import spikegen
from tests.cli.commands import succeed, summary

EXAMPLES = Path(spikegen.__file__).parents[1] / "examples"


def test_sample_digits_in_under_40_lines(tmp_path: Path) -> None:
    script = EXAMPLES / "sample_digits.py"
    command = [sys.executable, str(script), str(tmp_path / "out"), "2", "2"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "4/4 evaluations" in result.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["digits.h5", "digits.png"]
    lines = [line for line in script.read_text().splitlines() if line.strip()]
    assert len(lines) < 40, "the example is meant to be read at a glance"


def test_a_spikingjelly_network_on_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    example = importlib.import_module("spikingjelly_digits")
    with contextlib.redirect_stdout(io.StringIO()):
        example.main(tmp_path, epochs=3)
    files = {name: tmp_path / f"{name}.npy" for name in ("x", "labels", "y")}
    options = ("--input", "1x8x8", "-T", 8, "--weights", tmp_path / "csnn.pt", "--calibration", files["x"])
    exported = summary("export", "spikingjelly_digits:csnn", *options, "-o", tmp_path / "csnn.h5")
    agreement = exported["networks"]["network"]["float_agreement"]["spikes"]
    assert set(agreement) == {"layers.2", "layers.6", "layers.10"}
    assert min(agreement.values()) > 0.8
    succeed("run", tmp_path / "csnn.h5", "--input", files["x"], "-o", files["y"])
    right = np.mean(np.load(files["y"]).reshape(-1, 10).argmax(axis=1) == np.load(files["labels"]))
    assert right > 0.7
