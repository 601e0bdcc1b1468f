"""What the errors say of Lava, on the Python that has it and on others."""

import subprocess
import sys

import pytest

from spikegen import requirements
from spikegen.requirements import how_to_get_lava

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


def test_where_lava_is_to_be_had_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "LAVA_PYTHON", sys.version_info[:2])
    assert how_to_get_lava("lava") == "pip install 'spikegen[lava]'"


def test_elsewhere_the_python_that_has_it_and_the_reason_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "LAVA_PYTHON", (3, 9))
    said = how_to_get_lava("torch")
    assert f"it exists for Python 3.10 only, and this is {HERE}: Lava is archived" in said
    assert "numpy < 2 and torch 2.3" in said
    assert "Install 'spikegen[torch]' with Python 3.10" in said


def test_nothing_but_a_neuron_imports_slayer() -> None:
    """A network of other neurons is lowered without lava-dl."""
    code = "import spikegen.lowering, spikegen.training, spikegen.verification, sys; sys.exit('lava' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
