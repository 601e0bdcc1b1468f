"""`spikegen report`, driven as a user does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from spikegen.cli.report import report
from spikegen.energy.units import joules
from spikegen.errors import OutputError, ProgramFileError, RecordError
from spikegen.program import Conditioning, Conv, ImageDiffusion, Input, Lif, Pipeline, Program, Readout, load, save
from spikegen.runtime import write_counts
from spikegen.simulator import Simulator


@pytest.fixture
def pipeline_file(tmp_path: Path) -> Path:
    kernel = np.ones((1, 1, 1, 1), dtype=np.int8)
    program = Program(
        name="tiny[red]",
        timesteps=2,
        input=Input("in", (1, 2, 2), bits=8, scale=1 / 64),
        populations=(
            Lif("a", (1, 2, 2), vth=1, du=4095, dv=0, bias_mant=np.zeros(1, dtype=np.int16), bias_exp=0),
            Readout("out", (1, 2, 2), weights=np.ones(2), bias=np.zeros(1)),
        ),
        projections=(Conv("in>a", "in", "a", kernel, exponent=0), Conv("a>out", "a", "out", kernel, exponent=0)),
        conditioning=Conditioning(1000),
        ann_macs=8,
    )
    path = tmp_path / "tiny.h5"
    save(Pipeline("tiny[red]", ImageDiffusion(), {"denoiser": program}), path)
    return path


@pytest.fixture
def counts_file(pipeline_file: Path) -> Path:
    """Three images at each of the diffusion steps 500 and 0: every neuron fires at both timesteps."""
    pipeline = load(pipeline_file)
    frames = np.full((3, 1, 2, 2), 9, dtype=np.int32)
    with Simulator(pipeline.network("denoiser")) as simulator:
        steps = [(step, simulator.evaluate(frames, step).counts) for step in (500, 0)]
    path = pipeline_file.with_name("counts.json")
    write_counts(path, pipeline, {"denoiser": steps})
    return path


def _run(*arguments: object) -> Result:
    # wide enough that no table folds; exceptions of ours pass, the group turns them into messages
    return CliRunner().invoke(report, [str(a) for a in arguments], env={"COLUMNS": "200"})


def test_tables(pipeline_file: Path, counts_file: Path) -> None:
    result = _run(pipeline_file, "--counts", counts_file)
    assert result.exit_code == 0, result.output
    assert "denoiser, T = 2, 3 samples x 2 steps: per evaluation, by population" in " ".join(result.output.split())
    lines = {line.split("│")[1].strip(): line for line in result.output.splitlines() if line.startswith("│")}
    # 4 neurons x 2 timesteps fire: 8 events, rate 1, one synapse each
    assert [cell.strip() for cell in lines["a"].split("│")[2:-1]] == ["Lif", "4", "8", "1.000", "8"]
    assert [cell.strip() for cell in lines["binary_synops"].split("│")[2:-1]] == ["8", "16"]
    # twice 8 x 0.9 + 8 x 4.6 = 44.0 pJ for a sample of two evaluations; the ANN costs twice 8 x 4.6 = 36.8 pJ
    assert [cell.strip() for cell in lines["horowitz45_fp32"].split("│")[2:-1]] == ["88 pJ"]
    assert "73.6 pJ" in result.output
    # 8-bit integers: 2 x (8 x 0.03 + 8 x 0.23) = 4.16, or with additions of 32 bits 2 x (8 x 0.1 + 8 x 0.3) = 6.4
    assert [cell.strip() for cell in lines["horowitz45_int8"].split("│")[2:-1]] == ["4.16 to 6.4 pJ"]
    # 2 x (16 x 23.6 + (8 + 8 of the readout) x 52 or 81 + 8 messages in the tile x 1.7) = 2446.4 or 3374.4 pJ
    assert "2.45 to 3.37 nJ" in result.output
    assert "Horowitz" in result.output
    assert "Davies" in result.output


def test_every_figure_of_a_sample_says_how_many_steps_it_is_of(pipeline_file: Path, counts_file: Path) -> None:
    result = _run(pipeline_file, "--counts", counts_file)
    lines = {line.split("│")[1].strip(): line for line in result.output.splitlines() if line.startswith("│")}
    cells = {name: [cell.strip() for cell in line.split("│")[2:-1]] for name, line in lines.items()}
    assert result.output.count("per sample (x 2 steps)") == 2  # operations, formula
    assert "denoiser (x 2 steps)" in result.output  # energy
    # 4 MACs of the image once x 4.6 pJ; 4 MACs at rate 1 in T = 2 timesteps x 0.9 pJ
    assert cells["driven by the image: MACs, once"] == ["18.4 pJ", "36.8 pJ"]
    assert cells["driven by spikes: rate x T x MACs as additions"] == ["7.2 pJ", "14.4 pJ"]
    assert cells["the formula"] == ["25.6 pJ", "51.2 pJ"]
    assert cells["real-valued: MACs at each timestep, not in the formula"] == ["0 pJ", "0 pJ"]
    assert cells["the formula and the real-valued layers"] == ["25.6 pJ", "51.2 pJ"]
    assert "arXiv 2306.17046" in result.output


@pytest.mark.parametrize("by", ["projection", "step"])
def test_other_rows(pipeline_file: Path, counts_file: Path, by: str) -> None:
    result = _run(pipeline_file, "--counts", counts_file, "--by", by)
    assert result.exit_code == 0, result.output
    assert ("a>out" in result.output) == (by == "projection")
    assert ("│ 500" in result.output) == (by == "step")


def test_json_to_a_file_and_to_stdout_are_equal(pipeline_file: Path, counts_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    assert _run(pipeline_file, "--counts", counts_file, "--json", target).exit_code == 0
    result = _run(pipeline_file, "--counts", counts_file, "--json", "-")
    assert json.loads(result.stdout) == json.loads(target.read_text())
    document = json.loads(result.stdout)
    assert document["energy"]["horowitz45_fp32"]["per_sample"]["low_pj"] == pytest.approx(88.0)
    assert list(document["networks"]) == ["denoiser"]
    assert document["generator"] is None


def test_without_counts_a_small_run_is_counted_and_says_so(pipeline_file: Path) -> None:
    result = _run(pipeline_file, "-n", 2, "--steps", 3, "--seed", 1)
    assert result.exit_code == 0, result.output
    assert "No --counts: counting 2 images x 3 steps, seed 1, on the simulator." in result.output
    assert "2 samples x 3 steps" in result.output


def test_options_of_the_small_run_are_refused_with_counts(pipeline_file: Path, counts_file: Path) -> None:
    result = _run(pipeline_file, "--counts", counts_file, "--steps", 3, "-n", 2)
    assert result.exit_code == 2
    assert "-n, --steps" in result.output


def test_usage_errors(pipeline_file: Path) -> None:
    assert _run(pipeline_file, "-n", 0).exit_code == 2
    assert _run(pipeline_file, "--by", "colour").exit_code == 2
    assert _run().exit_code == 2


def test_more_steps_than_there_are_is_an_error_of_the_command_line(pipeline_file: Path) -> None:
    result = _run(pipeline_file, "--steps", 1001)
    assert result.exit_code == 2
    assert "number of solver steps is 1001" in result.output


def test_what_is_read_is_never_replaced(pipeline_file: Path, counts_file: Path) -> None:
    before = pipeline_file.read_bytes(), counts_file.read_bytes()
    for target in (pipeline_file, counts_file):
        result = _run(pipeline_file, "--counts", counts_file, "--json", target)
        assert result.exit_code == 2
        assert "PIPELINE, --counts, --samples, --json, --html must be different files" in result.output
    assert (pipeline_file.read_bytes(), counts_file.read_bytes()) == before


def test_bad_files_are_named(pipeline_file: Path, counts_file: Path, tmp_path: Path) -> None:
    absent = tmp_path / "absent.h5"
    assert isinstance(_run(absent).exception, ProgramFileError)
    assert isinstance(_run(pipeline_file, "--counts", tmp_path / "absent.json").exception, RecordError)
    assert isinstance(_run(pipeline_file, "--json", tmp_path / "absent" / "r.json").exception, OutputError)
    counts_file.write_text(counts_file.read_text()[:100])
    assert isinstance(_run(pipeline_file, "--counts", counts_file).exception, RecordError)


@pytest.mark.parametrize(
    ("picojoules", "text"),
    [
        (0, "0 pJ"),
        (0.9, "0.9 pJ"),
        (1234.5, "1.23 nJ"),
        (2.5e6, "2.5 µJ"),
        (10.97e9, "11 mJ"),
        (2e12, "2 J"),
        (5e15, "5e+03 J"),
    ],
)
def test_joules(picojoules: float, text: str) -> None:
    assert joules(picojoules) == text


def test_time_and_messages_are_in_the_tables(pipeline_file: Path, counts_file: Path) -> None:
    result = _run(pipeline_file, "--counts", counts_file, "--by", "core")
    assert result.exit_code == 0, result.output
    cells = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:-1]]
        for line in result.output.splitlines()
        if line.startswith("│")
    }
    # one core: 4 updates, 4 synaptic operations, 4 messages to the readout's core, 4 from the host
    assert cells["a"] == ["1", "4", "4", "4", "4"]
    assert cells["out"] == ["1", "4", "4", "0", "4"]
    assert "on 2 cores of 1 chip of Loihi 2 (estimated)" in " ".join(result.output.split())
    assert cells["messages"] == ["8", "16"]
    # 4 x 4 ns + 4 x 0.66 ns + 10 us; depth 2: 4 timesteps alone, 8 for three images
    timestep = 10_000 + 4 * 4 + 4 * 0.66
    assert cells["loihi2_n3b3"] == ["10 µs", "80.1 µs", f"{2 * 8 / 3 * timestep / 1000:.3g} µs"]
    assert f"{2 * 4 * timestep / 1000:.3g}" == "80.1"
    said = " ".join(result.output.split())
    assert "2 diffusion steps x 4 timesteps for one image, x 8 for 3 streamed (T = 2, depth 2" in said
    assert "408.91 fps measured" in said
    assert "21 % less than measured" in said


def test_the_report_needs_neither_torch_nor_lava(pipeline_file: Path, counts_file: Path) -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'lava', 'numba'))); "
        "from spikegen.cli import main; main(sys.argv[1:])"
    )
    arguments = ["report", str(pipeline_file), "--counts", str(counts_file), "--json", "-"]
    found = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    document = json.loads(found.stdout)
    assert set(document["time"]) == {"davies2018_loihi1", "loihi2_n3b3", "sanafe_loihi1"}
    assert document["networks"]["denoiser"]["mapping"]["cores"] == 2
    assert document["measured"] is None


def test_no_price_of_loihi_2_is_in_the_json(pipeline_file: Path, counts_file: Path) -> None:
    document = json.loads(_run(pipeline_file, "--counts", counts_file, "--json", "-").stdout)
    assert not [name for name in document["energy"] if "loihi2" in name]
    assert "Loihi 2" not in json.dumps(document["models"])
