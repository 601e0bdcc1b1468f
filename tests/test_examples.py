"""The examples run as they are, at a small size."""

import subprocess
import sys
from pathlib import Path

import spikegen

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
