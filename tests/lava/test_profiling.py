"""Measuring with Lava's profiler: its public signatures as a STAND-IN, since the profiler is a part of lava-loihi."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from spikegen.cli.report import report
from spikegen.cli.sample import sample
from spikegen.energy import MeasuredNetwork, read_measurements
from spikegen.errors import BackendError, ConfigError
from spikegen.exporters.lava import profiling
from spikegen.exporters.lava.form import Form
from spikegen.exporters.lava.profiling import at_step, missing_profiler, profile
from spikegen.exporters.lava.wire import SHARED_MEMORY
from spikegen.program import Conditioning, Program, load, save
from spikegen.simulator import Simulator
from tests.lava import standin
from tests.runtime.programs import tiny

pytestmark = pytest.mark.lava
PIPELINE = tiny()
DENOISER = PIPELINE.network("denoiser")

# The signatures of public code: lava-optimization (solvers/generic/solver.py), NECOTIS/TemporalLearningInRSNNs
# (loihi_experiment/delay.py), R-Gaurav/lsnn-on-loihi2. Every probe writes a line to the file in STANDIN_PROBES.
STANDIN = '''
import json
import math
import os

import numpy as np


class Loihi2HWProfiler:
    """A STAND-IN for the class of lava-loihi: nothing is measured."""

    def __init__(self, run_cfg):
        self.run_cfg = run_cfg
        self.probes = []

    def _probe(self, kind, num_steps):
        if self.probes:
            raise RuntimeError("one probe disturbs the other")
        self.probes.append(kind)
        with open(os.environ["STANDIN_PROBES"], "a") as log:
            log.write(json.dumps([kind, num_steps, os.getpid()]) + "\\n")

    def execution_time_probe(self, num_steps, t_start=None, t_end=None, dt=1, buffer_size=1024):
        self._probe("time", num_steps)
        self.execution_time = np.full(num_steps, 2e-4)  # seconds per step
        self.host_time = np.full(num_steps, 5e-5)

    def energy_probe(self, num_steps):
        self._probe("power", num_steps)
        self.power, self.static_power, self.dynamic_power = 0.275709, 0.281775, -0.006066  # PilotNet SDNN, published
        self.vdd_power = 0.1
'''


@pytest.fixture
def chip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which lava-loihi seems to be installed, with a board of its own; the file of all probes."""
    folder = standin.write(tmp_path / "standin")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    for name in ("SLURM", "PARTITION", "BOARD"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("NOSLURM", "1"), ("NXSDKHOST", "192.0.2.1"), ("LOIHI_GEN", "N3B3")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STANDIN_PROBES", str(tmp_path / "probes"))
    return tmp_path / "probes"


@pytest.fixture
def profiler(chip: Path, tmp_path: Path) -> Path:
    """The same machine with a profiler."""
    (tmp_path / "standin" / "lava" / "utils" / "loihi2_profiler_api.py").write_text(STANDIN)
    return chip


def frames(images: int = 2) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    shape = (images, *DENOISER.input.shape)
    return np.arange(math.prod(shape), dtype=np.int32).reshape(shape) % 7


def conditioned() -> Program:
    """Biases of which those of step 1 make every neuron of the first population fire."""
    first = next(p.name for p in DENOISER.populations if hasattr(p, "vth"))
    channels = DENOISER.nodes[first].shape[0]
    table = np.array([[0] * channels, [4000] * channels], dtype=np.int16)
    return dataclasses.replace(DENOISER, conditioning=Conditioning(2, {first: table}))


def test_a_program_at_one_step_is_what_it_is_at_that_step() -> None:
    program = conditioned()
    expected = [Simulator(program).evaluate(frames(), step) for step in (0, 1)]
    assert expected[0].counts.events != expected[1].counts.events
    for step, evaluation in enumerate(expected):
        pinned = at_step(program, step)
        assert pinned.conditioning.steps == 1
        found = Simulator(pinned).evaluate(frames(), 0)
        assert found.counts == evaluation.counts
        for name, currents in evaluation.readouts.items():
            np.testing.assert_array_equal(found.readouts[name], currents)


def test_time_and_power_are_measured_in_runs_of_their_own(profiler: Path) -> None:
    found = {kind: profile(conditioned(), frames(), 1, kind, repeats=3) for kind in ("time", "power")}
    (first, second) = (json.loads(line) for line in profiler.read_text().splitlines())
    assert [first[0], second[0]] == ["time", "power"]
    assert first[2] != second[2]  # another process
    # T timesteps before the run, then three times the whole windows of T that hold 2 images and the depth
    own = DENOISER.timesteps
    steps = own + 3 * own * -(-(2 * own + DENOISER.depth) // own)
    assert first[1] == second[1] == found["time"].timesteps == steps
    assert found["time"].values == pytest.approx({"execution_s": 2e-4 * steps, "host_s": 5e-5 * steps})
    assert found["power"].values == pytest.approx(
        {"total_w": 0.275709, "static_w": 0.281775, "dynamic_w": -0.006066, "vdd_w": 0.1}  # negative as it is
    )
    assert found["power"].machine == {"NOSLURM": "1", "NXSDKHOST": "192.0.2.1", "LOIHI_GEN": "N3B3"}


def test_a_missing_profiler_is_said(chip: Path) -> None:
    assert "loihi2_profiler_api" in missing_profiler()
    with pytest.raises(BackendError, match="profiler is missing"):
        profile(DENOISER, frames(), 0, "time")
    assert not chip.exists()


def test_an_argument_that_is_wrong_is_said() -> None:
    with pytest.raises(ConfigError, match="'heat', it must be one of time, power"):
        profile(DENOISER, frames(), 0, "heat")
    with pytest.raises(ConfigError, match="repeated 0 times"):
        profile(DENOISER, frames(), 0, "time", repeats=0)


def test_a_simulated_chip_has_no_profiler() -> None:
    with pytest.raises(BackendError, match="no profiler here: There is currently no implementation"):
        profile(DENOISER, frames(), 0, "time", repeats=1, form=Form.choose("chip", None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("self.execution_time =", "self.other ="), "the profiler of this Lava has no execution_time"),
        (('self._probe("time", num_steps)', "raise OSError('no board')"), "OSError: no board"),
        (('self._probe("time", num_steps)', "os._exit(7)"), "it ended with 7"),
    ],
)
def test_a_measurement_that_fails_is_one_error(
    profiler: Path, tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    module = tmp_path / "standin" / "lava" / "utils" / "loihi2_profiler_api.py"
    module.write_text(STANDIN.replace(*change))
    with pytest.raises(BackendError, match=message):
        profile(DENOISER, frames(), 0, "time", repeats=1)


def test_a_measurement_that_takes_too_long_is_ended(profiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[Path] = []
    end = profiling._end

    def watched(process: subprocess.Popen[bytes], workspace: Path) -> None:
        names = json.loads((workspace / "segments.json").read_text())
        left.extend(SHARED_MEMORY / name for name in names)
        assert all(path.exists() for path in left)
        end(process, workspace)

    monkeypatch.setattr(profiling, "_end", watched)
    with pytest.raises(BackendError, match="more than 8 seconds"):
        profile(DENOISER, frames(), 0, "time", repeats=10**6, timeout=8)
    assert left
    assert not any(path.exists() for path in left)


def test_readouts_that_are_not_exact_are_no_measurement(profiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(standin.STEPS, "1")  # adapters that take a step the schedule does not know of
    with pytest.raises(BackendError, match="not the network: the currents of"):
        profile(DENOISER, frames(), 0, "power", repeats=1)


def test_sample_writes_files_that_report_shows(profiler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikegen.exporters.lava.profiling.REPEATS", 5)
    save(PIPELINE, tmp_path / "p.h5")
    arguments = ["p.h5", "-o", "i.png", "-n", "2", "--steps", "2", "--backend", "loihi2", "--counts", "c.json"]
    result = _run(sample, tmp_path, [*arguments, "--profile", "profile"])
    assert result.exit_code == 0, (result.output, result.exception)
    assert "measuring power of the denoiser: 5 x 2 images" in result.output
    files = sorted(path.name for path in (tmp_path / "profile").iterdir())
    assert files == ["denoiser-power.json", "denoiser-time.json"]
    measured = read_measurements([tmp_path / "profile"], load(tmp_path / "p.h5"))
    network: MeasuredNetwork = measured.networks["denoiser"]
    assert network.time is not None
    seconds = 2e-4 * network.time.timesteps / (2 * 5)
    assert network.per_evaluation()["dynamic_j"] == pytest.approx(-0.006066 * seconds)
    shown = _run(report, tmp_path, ["p.h5", "--counts", "c.json", "--measured", "profile", "--json", "r.json"])
    assert shown.exit_code == 0, (shown.output, shown.exception)
    assert "-0.006066 W" in shown.output
    document = json.loads((tmp_path / "r.json").read_text())
    assert document["measured"]["per_sample"]["total_j"] == pytest.approx(2 * 0.275709 * seconds)
    again = _run(sample, tmp_path, [*arguments, "--profile", "profile"])
    assert "must be empty" in str(again.exception)


def test_sample_without_a_profiler_says_so_and_keeps_the_images(chip: Path, tmp_path: Path) -> None:
    save(PIPELINE, tmp_path / "p.h5")
    arguments = ["p.h5", "-o", "i.png", "-n", "1", "--steps", "1", "--backend", "loihi2", "--profile", "profile"]
    result = _run(sample, tmp_path, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    assert "nothing was measured" in result.output
    assert (tmp_path / "i.png").is_file()


def test_profile_is_refused_where_there_is_no_chip(tmp_path: Path) -> None:
    save(PIPELINE, tmp_path / "p.h5")
    for backend in ("simulator", "loihi2-sim"):
        result = _run(sample, tmp_path, ["p.h5", "-o", "i.png", "--backend", backend, "--profile", "profile"])
        assert result.exit_code == 2
        assert f"the backend loihi2, not {backend}" in " ".join(result.output.split())
    assert not (tmp_path / "profile").exists()


def _run(command: click.Command, folder: Path, arguments: list[str]) -> Result:
    before = Path.cwd()
    os.chdir(folder)
    try:
        return CliRunner().invoke(command, arguments, env={"COLUMNS": "200"})
    finally:
        os.chdir(before)
