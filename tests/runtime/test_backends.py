import subprocess
import sys
from pathlib import Path

import pytest

import spikegen
from spikegen.cli import _options
from spikegen.errors import ConfigError
from spikegen.exporters.lava import form
from spikegen.runtime import BACKENDS, backends, open_target
from spikegen.runtime.backends import BATCH_MAX, default_batch
from spikegen.simulator import Simulator
from tests.runtime.programs import tiny

PROGRAM = tiny().network("denoiser")


def test_the_simulator_is_the_embedded_target() -> None:
    assert isinstance(open_target("simulator", PROGRAM, images=3), Simulator)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    names = "lava, lava-unrolled, loihi2, loihi2-sim, onnx, simulator"
    with pytest.raises(ConfigError, match=f"backend 'loihi3' is unknown; known are {names}"):
        open_target("loihi3", PROGRAM, images=1)
    with pytest.raises(ConfigError, match="'dense' are unknown to lava-unrolled, which has fast-conv, sparse, conv"):
        open_target("lava-unrolled", PROGRAM, images=1, synapses="dense")
    with pytest.raises(ConfigError, match="the backend lava takes no synapses; lava-unrolled, loihi2, loihi2-sim do"):
        open_target("lava", PROGRAM, images=1, synapses="conv")


def test_the_kinds_of_synapses_are_those_of_the_exporter() -> None:
    chip = form.CHIP_SYNAPSES
    assert {"lava-unrolled": form.SYNAPSES, "loihi2": chip, "loihi2-sim": chip} == backends.SYNAPSES
    assert backends.SYNAPSES == _options.BACKEND_SYNAPSES


def test_default_batches_are_equal_parts() -> None:
    assert BATCH_MAX.keys() == BACKENDS.keys()
    assert [default_batch("lava-unrolled", n) for n in (1, 16, 32, 33, 64, 100)] == [1, 16, 32, 17, 32, 25]


def test_the_runtime_needs_neither_torch_nor_lava() -> None:
    script = (
        "import sys, spikegen.runtime, spikegen.diffusion, spikegen.energy; "
        "print([m for m in ('torch', 'lava', 'onnx') if m in sys.modules])"
    )
    root = Path(spikegen.__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
    assert result.stdout.strip() == "[]"
