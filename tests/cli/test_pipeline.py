"""`spikegen export`, `inspect`, `verify`, `sample` and `report` in a row, as a user runs them, and what they refuse."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from spikegen.cli import main
from spikegen.program import load, save
from tests.cli.models import small_checkpoint
from tests.runtime.programs import tiny


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint and its Program."""
    folder = tmp_path_factory.mktemp("pipeline")
    small_checkpoint(folder / "small")
    result = run("export", folder / "small", "-o", folder / "small.h5", "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["timesteps"] == 2
    assert summary["overflow"] == "impossible"
    return folder


def test_inspect_shows_populations_and_stream_decisions(made: Path) -> None:
    result = run("inspect", made / "small.h5")
    assert result.exit_code == 0, result.output
    assert "down.0.neuron1" in result.stdout
    assert "composed" in result.stdout
    assert "overflow is impossible" in result.stdout
    described = json.loads(run("inspect", made / "small.h5", "--json").stdout)
    assert {row["name"] for row in described["populations"]} == set(load(made / "small.h5").nodes)
    assert described["streams"]
    for stream in described["streams"]:
        composed, relayed = stream["composed_operations"], stream["relay_operations"]
        assert stream["relay"] == (relayed < composed)
        assert f"{composed:,.0f}" in result.stdout
        assert f"{relayed:,.0f}" in result.stdout
    assert described["provenance"]["dataset"] == "digits"


def test_verify_finds_no_difference_on_any_target(made: Path) -> None:
    result = run("verify", made / "small.h5", "-n", 2, "--at", 3, "--at", 15, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["equal"]
    assert {row["slayer"] for row in found["populations"]} == {0}
    assert {row["lava"] for row in found["populations"]} == {0}
    assert sum(row["events"] for row in found["populations"]) > 1000
    spiking = [row for row in found["populations"] if row["agreement_with_float"] is not None]
    assert min(row["agreement_with_float"] for row in spiking) > 0.8
    assert all(0 < row["noise_error"] < 1 for row in found["steps"])


def test_verify_exits_with_1_when_a_target_differs(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spikegen.verification import SlayerTarget

    right = SlayerTarget.evaluate

    def wrong(self: SlayerTarget, frames: Any, step: int, record: bool = False) -> Any:
        evaluation = right(self, frames, step, record)
        next(iter(evaluation.readouts.values()))[0, 0, 0, 0, 0] += 1
        return evaluation

    monkeypatch.setattr(SlayerTarget, "evaluate", wrong)
    result = run("verify", made / "small.h5", "-n", 1, "--at", 3, "--no-lava")
    assert result.exit_code == 1
    assert "NOT EQUAL" in result.stdout


def test_sample_and_report_follow(made: Path) -> None:
    program = made / "small.h5"
    sampled = run(
        "sample", program, "-n", 3, "--steps", 2, "-o", made / "a.png", "--counts", made / "a.json", "--quiet"
    )
    assert sampled.exit_code == 0, sampled.output
    reported = run("report", program, "--counts", made / "a.json")
    assert reported.exit_code == 0, reported.output
    assert "dense ANN" in reported.stdout


def test_verify_refuses_another_checkpoint(made: Path, tmp_path: Path) -> None:
    from spikegen.models import load_checkpoint, save_checkpoint

    other = load_checkpoint(made / "small")
    with torch.no_grad():
        next(other.model.parameters()).add_(1.0)
    save_checkpoint(tmp_path / "other", other)
    result = run("verify", made / "small.h5", "--checkpoint", tmp_path / "other")
    assert result.exit_code == 1
    assert "not the checkpoint that the Program was made from" in result.stderr
    save(tiny(), tmp_path / "tiny.h5")
    nameless = run("verify", tmp_path / "tiny.h5")
    assert nameless.exit_code == 1
    assert "does not name the checkpoint" in nameless.stderr


@pytest.mark.parametrize("command", ["inspect", "verify", "sample", "report"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "altered"])
def test_bad_program_files_are_one_error(made: Path, tmp_path: Path, command: str, damage: str) -> None:
    path = tmp_path / "bad.h5"
    if damage != "missing":
        data = bytearray((made / "small.h5").read_bytes())
        if damage == "altered":
            data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
        path.write_bytes(data if damage == "altered" else data[: len(data) // 2])
    extra = ["-o", tmp_path / "x.png"] if command == "sample" else []
    result = run(command, path, *extra)
    assert result.exit_code == 1
    assert result.stderr.count("Error") == 1
    assert "bad.h5" in result.stderr
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["export", "no-such-checkpoint", "-o", "x.h5"], 1, "no such checkpoint"),
        (["export", "digits-unet"], 2, "--output"),
        (["export", "digits-unet", "-o", "no/such/folder/x.h5"], 1, "no/such/folder"),
        (["verify", "small.h5", "--at", "20"], 2, "0..19"),
        (["verify", "small.h5", "-n", "0"], 2, "-n"),
        (["sample", "small.h5", "-n", "0", "-o", "x.png"], 2, "-n"),
        (["sample", "small.h5", "--backend", "gpu", "-o", "x.png"], 2, "gpu"),
        (["sample", "small.h5", "--solver", "euler", "-o", "x.png"], 2, "euler"),
        (["sample", "small.h5", "--steps", "21", "-o", "x.png"], 2, "21"),
        (["train", "no-such-recipe", "-o", "runs"], 2, "no-such-recipe"),
        (["train", "digits-unet", "-o", "small.h5/runs"], 1, "small.h5/runs"),
    ],
)
def test_bad_arguments(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(made / "small.h5", tmp_path)
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["small.h5"]


def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: Any, **__: Any) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr("spikegen.lowering.export_checkpoint", work)
    result = run("export", made / "small", "-o", tmp_path / "no" / "x.h5")
    assert result.exit_code == 1
    assert "the work has begun" not in repr(result.exception)
    assert str(tmp_path / "no") in result.stderr.replace("\n", "")


def test_a_pickle_is_never_read(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(made / "small", folder)
    torch.save({"weight": torch.zeros(1)}, folder / "model.safetensors")
    result = run("export", folder, "-o", tmp_path / "x.h5")
    assert result.exit_code == 1
    assert "pickle" in result.stderr
    assert not (tmp_path / "x.h5").exists()


def test_train_goes_on_where_it_stopped_and_its_result_can_be_exported(tmp_path: Path) -> None:
    train = ("train", "digits-unet", "-o", tmp_path / "run", "--iterations", 2, "--batch-size", 4, "--quiet")
    result = run(*train)
    assert result.exit_code == 0, result.output
    first = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert {path.name for path in (tmp_path / "run" / "samples").iterdir()} == {"000002.png"}
    assert run(*train).exit_code == 0
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == first
    other = run(*train, "--seed", 5)
    assert other.exit_code == 1
    assert "another recipe" in other.stderr
    assert run("export", tmp_path / "run", "-o", tmp_path / "run.h5").exit_code == 0
    assert np.isfinite([p.scale for p in load(tmp_path / "run.h5").populations]).all()
