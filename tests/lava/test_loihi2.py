"""The way to Loihi 2, walked with a STAND-IN for Intel's lava-loihi (``standin``): no chip takes part."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lava.magma.core.resources import CPU, Loihi2NeuroCore
from lava.magma.core.run_configs import Loihi2HwCfg, Loihi2SimCfg

from spikegen.errors import BackendError, ProgramError
from spikegen.exporters.lava import LavaTarget, installation
from spikegen.exporters.lava.chip_engine import run_config
from spikegen.exporters.lava.installation import board_of, require_loihi2
from spikegen.exporters.lava.processes.adapters import (
    InputAdapter,
    NxInputAdapter,
    NxOutputAdapter,
    OutputAdapter,
    PyInputAdapter,
    PyOutputAdapter,
)
from spikegen.exporters.lava.processes.models import ChipModel
from spikegen.exporters.lava.processes.process import Network
from spikegen.program import Program, save
from spikegen.runtime import open_target
from spikegen.simulator import Simulator
from tests.cli.commands import run
from tests.lava import standin
from tests.lava.networks import assert_equal, everything, frames, tiny, unet, without_gains

pytestmark = pytest.mark.lava

ETHERNET = {"NOSLURM": "1", "NXSDKHOST": "192.0.2.7"}  # a board of one's own: there is no Slurm in these tests


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of Loihi 2 is set."""
    for name in installation.VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def stand_in(bare: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """A function that puts the stand-in into the way of this process and of its workers; its log."""

    def install(without: str = "", **environment: str) -> Path:
        folder, log = standin.write(tmp_path / "standin", without), tmp_path / "adapters.json"
        monkeypatch.syspath_prepend(str(folder))
        for name, value in {"PYTHONPATH": str(folder), standin.LOG: str(log), **ETHERNET, **environment}.items():
            monkeypatch.setenv(name, value)
        return log

    return install


def entries(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_the_program_comes_back_from_the_stand_in_as_from_the_simulator(stand_in: Callable[..., Path]) -> None:
    """Loihi2HwCfg, models for neuro-cores, adapters: all as on hardware, several runs and diffusion steps."""
    log = stand_in(LOIHI_GEN="N3C1", PARTITION="oheogulch", BOARD="ncl-ext-og-06")
    program = unet()
    with open_target("loihi2", program, images=2) as target:
        for step, images in ((0, 2), (2, 3), (2, 1)):
            sent = frames(program, images, seed=step)
            assert_equal(target.evaluate(sent, step), Simulator(program).evaluate(sent, step))
    found = entries(log)
    assert [{name: entry[name] for name in entry if name != "environment"} for entry in found] == [
        {"adapter": "NxToPyAdapter", "shape": [6, 8, 1], "bits": 24},
        {"adapter": "PyToN3ConvAdapter", "shape": [6, 8, 1], "bits": 16, "spike_exp": 0, "compression": "DENSE"},
        {"adapter": "PyToNxAdapter", "shape": [6, 8, 1], "bits": 24},
    ]
    given = {**ETHERNET, "LOIHI_GEN": "N3C1", "PARTITION": "oheogulch", "BOARD": "ncl-ext-og-06"}
    assert all(entry["environment"] == given for entry in found)


@pytest.mark.parametrize(
    ("program", "synapses"), [(everything(2), "conv"), (everything(4), "sparse")], ids=["conv", "sparse"]
)
def test_everything_observed_equals_the_simulator(
    program: Program, synapses: str, stand_in: Callable[..., Path]
) -> None:
    """Every message comes back through an adapter, those of 24 bits without their sign, as from a chip."""
    stand_in()
    program = without_gains(program)
    sent = frames(program, 2)
    with LavaTarget(
        program, images=2, model="chip", synapses=synapses, hardware=True, observed=True, timeout=120
    ) as target:
        assert_equal(target.evaluate(sent, 1, record=True), Simulator(program).evaluate(sent, 1, record=True))


def test_adapters_that_take_steps_are_found_and_can_be_allowed_for(stand_in: Callable[..., Path]) -> None:
    stand_in(**{standin.STEPS: "1"})
    program = tiny()
    sent = frames(program, 3)
    message = r"not exact: .* If its adapters take timesteps, set adapter_steps"
    with (
        LavaTarget(program, images=3, model="chip", hardware=True, timeout=60) as target,
        pytest.raises(BackendError, match=message),
    ):
        target.evaluate(sent, 0)
    with LavaTarget(program, images=3, model="chip", hardware=True, adapter_steps=(1, 1), timeout=60) as target:
        assert_equal(target.evaluate(sent, 0), Simulator(program).evaluate(sent, 0))


def test_a_process_without_a_model_for_neuro_cores_is_named(stand_in: Callable[..., Path]) -> None:
    """Lava itself would take the one for the CPU without a word."""
    stand_in(without="GradedVec")
    message = r"no model for neuro-cores of these processes: readout out \(GradedVec: PyGradedVecModelFixed\)"
    with pytest.raises(BackendError, match=message):
        LavaTarget(tiny(), images=1, model="chip", hardware=True, timeout=60)


def test_the_run_configuration_chooses_the_models() -> None:
    hardware, simulation = run_config(hardware=True), run_config(hardware=False)
    assert (type(hardware), type(simulation)) == (Loihi2HwCfg, Loihi2SimCfg)
    assert (hardware.select_tag, simulation.select_tag) == (None, "fixed_pt")
    chosen = {Network: ChipModel, InputAdapter: NxInputAdapter, OutputAdapter: NxOutputAdapter}
    assert hardware.exception_proc_model_map == chosen
    assert simulation.exception_proc_model_map[InputAdapter] is PyInputAdapter
    assert simulation.exception_proc_model_map[OutputAdapter] is PyOutputAdapter
    assert NxInputAdapter.required_resources == NxOutputAdapter.required_resources == [Loihi2NeuroCore]
    assert PyInputAdapter.required_resources == PyOutputAdapter.required_resources == [CPU]


def test_without_lava_loihi_the_error_says_what_is_missing(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "PROBE", "lava.utils.no_such_module")  # wherever these tests run
    monkeypatch.setenv("NOSLURM", "1")
    monkeypatch.setenv("LOIHI_GEN", "oheogulch")
    with pytest.raises(BackendError) as refused:
        open_target("loihi2", tiny(), images=1)
    text = str(refused.value)
    for part in (
        "lava-loihi is not installed (there is no module lava.utils.no_such_module)",
        "Intel Neuromorphic Research Community (INRC, inrc_interest@intel.com)",
        "PARTITION or BOARD with SLURM=1, or NXSDKHOST with NOSLURM=1, and LOIHI_GEN",
        "NOSLURM is set, but not NXSDKHOST",
        "LOIHI_GEN is oheogulch; it is the stepping of the chip, one of N2A2, N3B2, N3B3, N3C1, N3D1",
        "the environment has NOSLURM=1, LOIHI_GEN=oheogulch",
        "the backend loihi2-sim runs the same network here",
    ):
        assert part in text


def test_without_lava_that_is_what_is_missing(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_found", lambda _: False)
    with pytest.raises(BackendError, match=r"lava-nc 0.10.0 is not installed .*: pip install 'spikegen\[lava\]'"):
        require_loihi2(ETHERNET)


def test_the_command_line_ends_with_the_same_error(bare: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tests.runtime.programs import tiny as tiny_pipeline

    monkeypatch.setattr(installation, "PROBE", "lava.utils.no_such_module")
    save(tiny_pipeline(), tmp_path / "tiny.h5")
    result = run("sample", tmp_path / "tiny.h5", "-n", 1, "--steps", 1, "-o", tmp_path / "a.png", "--backend", "loihi2")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: the backend loihi2 cannot run here:\n  - lava-loihi is not installed")
    assert not (tmp_path / "a.png").exists()


def test_defaults_of_the_environment_are_those_of_lava(stand_in: Callable[..., Path], tmp_path: Path) -> None:
    stand_in()
    sinfo = tmp_path / "sinfo"
    sinfo.touch(mode=0o755)
    path = {"PATH": str(tmp_path)}
    binary = {"HOST_BINARY": "nxcore/bin/nx_driver_server"}
    assert require_loihi2(path) == {"SLURM": "1", "LOIHI_GEN": "N3B3"}
    assert require_loihi2({**path, "SLURM": "1", "LOIHI_GEN": "N3C1"}) == {}
    assert require_loihi2({**path, "PARTITION": "kp"}) == {"SLURM": "1", "LOIHI_GEN": "N3C1"}
    assert require_loihi2(ETHERNET) == {"LOIHI_GEN": "N3B3", **binary}
    sinfo.unlink()
    with pytest.raises(BackendError, match="Slurm, which lends the boards of the INRC, is not installed"):
        require_loihi2(path)
    with pytest.raises(BackendError, match="SLURM and NOSLURM are both set"):
        require_loihi2({**ETHERNET, "SLURM": "1"})


@pytest.mark.parametrize(
    ("environment", "board"),
    [
        ({}, "halapoint"),
        ({"PARTITION": "oheogulch_20m"}, "oheogulch"),
        ({"PARTITION": "kp"}, "kapohopoint"),
        ({"BOARD": "ncl-ext-og-04"}, "oheogulch"),
        ({"PARTITION": "unheard-of", "BOARD": "elsewhere"}, "halapoint"),
    ],
)
def test_the_board_is_the_one_of_the_environment(environment: dict[str, str], board: str) -> None:
    assert board_of(environment).name == board


def test_looking_for_lava_loihi_has_no_side_effects() -> None:
    """lava.utils.system, which others ask, sets SLURM and LOIHI_GEN."""
    code = (
        "import os, sys; before = dict(os.environ)\n"
        "from spikegen.errors import BackendError\n"
        "from spikegen.exporters.lava.installation import require_loihi2\n"
        "try: require_loihi2({})\n"
        "except BackendError: pass\n"
        "lava = [module for name, module in sys.modules.items() if name.startswith('lava.')]\n"
        "sys.exit(os.environ != before or any(module.__spec__.has_location for module in lava))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, env=dict(os.environ)).returncode == 0


def test_a_program_is_checked_before_anything_is_looked_for(bare: None) -> None:
    with pytest.raises(ProgramError, match="timesteps, a power of two: 3, the limit is 2"):
        open_target("loihi2", tiny(3), images=1)


def test_the_size_is_checked_against_the_board_unless_somebody_has_done_so(
    stand_in: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A convolution of 58 pixels: "it may run, but" is what the check says."""
    program = tiny()
    wide = dataclasses.replace(program.populations[0], shape=(2, 1, 58))
    out = dataclasses.replace(program.populations[1], shape=(1, 1, 58))
    port = dataclasses.replace(program.input, shape=(1, 1, 58))
    program = dataclasses.replace(program, input=port, populations=(wide, out))
    stand_in(PARTITION="oheogulch")
    with pytest.raises(ProgramError, match=r"in>a: pixels of a side: 58, the limit is 57 \(conv_input\)"):
        open_target("loihi2", program, images=1)
    with open_target("loihi2", program, images=1, check_size=False) as target:
        sent = frames(program, 1)
        assert_equal(target.evaluate(sent, 0), Simulator(program).evaluate(sent, 0))
    with open_target("loihi2-sim", program, images=1):
        pass


def test_a_pipeline_of_the_stand_in_draws_the_images_of_the_simulator(
    stand_in: Callable[..., Path], tmp_path: Path
) -> None:
    from tests.runtime.programs import tiny as tiny_pipeline

    stand_in()
    save(tiny_pipeline(), tmp_path / "tiny.h5")
    for backend in ("simulator", "loihi2"):
        files = ("-o", tmp_path / f"{backend}.png", "--counts", tmp_path / f"{backend}.json")
        result = run("sample", tmp_path / "tiny.h5", "-n", 2, "--steps", 3, "--backend", backend, *files, "--quiet")
        assert result.exit_code == 0, result.output
    for suffix in ("png", "json"):
        written = [(tmp_path / f"{backend}.{suffix}").read_bytes() for backend in ("simulator", "loihi2")]
        assert written[0] == written[1]
