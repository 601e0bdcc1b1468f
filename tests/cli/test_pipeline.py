"""`spikegen export`, `inspect`, `verify`, `sample` and `report` of an image model in a row, and what they refuse."""

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from spikegen.program import load, save
from spikegen.training import RECIPES
from tests.cli.commands import refuse, run, succeed, summary
from tests.runtime.programs import tiny


def test_inspect_shows_populations_and_stream_decisions(made: Path) -> None:
    result = succeed("inspect", made / "small.h5")
    host = "beta_schedule squaredcos_cap_v2, clip_sample True, noise_power not measured"
    assert f"small: ImageDiffusion ({host}), digest " in result.stdout
    assert re.search(r"denoiser: T = 2, depth \d+, biases for 20 diffusion steps", result.stdout)
    assert re.search(r"\d+ spiking layers in \d+ populations of [\d,]+ neurons, \d+ relays, \d+ proj", result.stdout)
    assert "down.0.neuron1" in result.stdout
    assert "composed" in result.stdout
    assert "overflow is impossible" in result.stdout
    described = summary("inspect", made / "small.h5")
    assert described["host"] == {
        "type": "ImageDiffusion",
        "beta_schedule": "squaredcos_cap_v2",
        "clip_sample": True,
        "noise_power": None,
    }
    network = described["networks"]["denoiser"]
    assert {row["name"] for row in network["populations"]} == set(load(made / "small.h5").network("denoiser").nodes)
    assert 0 < network["spiking_layers"] <= network["spiking_populations"]
    assert network["streams"]
    for stream in network["streams"]:
        composed, relayed = stream["composed_operations"], stream["relay_operations"]
        assert stream["relay"] == (relayed < composed)
        assert f"{composed:,.0f}" in result.stdout
        assert f"{relayed:,.0f}" in result.stdout
    assert described["provenance"]["dataset"] == "digits"


def test_export_can_relay_every_stream(made: Path, tmp_path: Path) -> None:
    relays = [
        summary("export", made / "small", "-o", tmp_path / "other.h5", "--streams", streams)["networks"]["denoiser"][
            "relays"
        ]
        for streams in ("composed", "relayed")
    ]
    assert relays[0] == 0 < relays[1]


@pytest.mark.lava
def test_verify_finds_no_difference_on_any_target(made: Path) -> None:
    found = summary("verify", made / "small.h5", "-n", 2, "--at", 3, "--at", 15)
    assert found["equal"]
    assert found["targets"] == ["SLAYER", "Lava (fused)", "Lava (conv)", "ONNX Runtime"]
    assert found["left_out"] == []
    assert found["generator"] is None
    network = found["networks"]["denoiser"]
    assert [row["differing"] for row in network["nodes"]] == [dict.fromkeys(found["targets"], 0)] * len(
        network["nodes"]
    )
    assert sum(row["events"] for row in network["nodes"]) > 1000
    spiking = [row for row in network["nodes"] if row["agreement"] is not None]
    assert min(row["agreement"] for row in spiking) > 0.8
    assert [step["step"] for step in network["steps"]] == [3, 15]
    assert all(0 < step["output_error"] < 1 for step in network["steps"])
    assert all(step["equal_counts"] == dict.fromkeys(found["targets"], True) for step in network["steps"])


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


def test_sample_and_report_follow(made: Path, working_folder: Path) -> None:
    pipeline = made / "small.h5"
    succeed("sample", pipeline, "-n", 3, "--steps", 2, "-o", "a.png", "--counts", "a.json", "--quiet")
    assert "dense ANN" in succeed("report", pipeline, "--counts", "a.json").stdout


def test_verify_refuses_another_checkpoint(made: Path, made_tokens: Path, working_folder: Path) -> None:
    from spikegen.models import load_checkpoint, save_checkpoint

    other = load_checkpoint(made / "small")
    with torch.no_grad():
        next(other.model.parameters()).add_(1.0)
    save_checkpoint("other", other)
    message = "not the checkpoint that the pipeline was made from"
    refuse(1, message, "verify", made / "small.h5", "--checkpoint", "other")
    save(tiny(), "tiny.h5")
    refuse(1, "does not name the checkpoint", "verify", "tiny.h5")
    for checkpoint in (made / "small", made_tokens / "vq"):
        refuse(1, "the checkpoint does not fit tiny", "verify", "tiny.h5", "--checkpoint", checkpoint)


@pytest.mark.parametrize("command", ["inspect", "verify", "sample", "reconstruct", "report"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "altered"])
def test_bad_pipeline_files_are_one_error(made: Path, working_folder: Path, command: str, damage: str) -> None:
    data = (made / "small.h5").read_bytes()
    if damage != "missing":
        Path("bad.h5").write_bytes(data if damage == "altered" else data[: len(data) // 2])
    if damage == "altered":
        with h5py.File("bad.h5", "r+") as file:
            file["document"][0] ^= 1
    refuse(1, "Error: bad.h5: ", command, "bad.h5", *(["-o", "x.png"] if command in ("sample", "reconstruct") else []))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["export", "no-such-checkpoint", "-o", "x.h5"], 1, "no such checkpoint"),
        (["export", "digits-unet"], 2, "--output"),
        (["export", "digits-unet", "-o", "no/such/folder/x.h5"], 1, "no/such/folder"),
        (["export", "digits-unet", "-o", "x.h5", "--input-bits", "1"], 2, "--input-bits"),
        (["export", "digits-unet", "-o", "x.h5", "--input-range", "0"], 2, "--input-range"),
        (["verify", "small.h5", "--at", "20"], 2, "diffusion step 20: the denoiser has steps 0..19"),
        (["verify", "small.h5", "-n", "0"], 2, "-n"),
        (["sample", "small.h5", "-n", "0", "-o", "x.png"], 2, "-n"),
        (["sample", "small.h5", "--backend", "gpu", "-o", "x.png"], 2, "gpu"),
        (["sample", "small.h5", "--solver", "euler", "-o", "x.png"], 2, "euler"),
        (["sample", "small.h5", "--steps", "21", "-o", "x.png"], 2, "21"),
        (["train", "no-such-recipe", "-o", "runs"], 2, "no-such-recipe"),
        (["train", "digits-unet", "-o", "small.h5/runs"], 1, "small.h5/runs"),
    ],
)
def test_bad_arguments(made: Path, working_folder: Path, arguments: list[str], code: int, message: str) -> None:
    shutil.copytree(made, ".", dirs_exist_ok=True)
    refuse(code, message, *arguments)


def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    made: Path, working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: Any, **__: Any) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr("spikegen.lowering.export_checkpoint", work)
    refuse(1, "the folder no does not exist", "export", made / "small", "-o", "no/x.h5")


def test_a_pickle_is_never_read(made: Path, working_folder: Path) -> None:
    shutil.copytree(made / "small", "pickled")
    torch.save({"weight": torch.zeros(1)}, "pickled/model.safetensors")
    refuse(1, "pickle", "export", "pickled", "-o", "x.h5")


def test_brackets_in_the_name_of_a_folder_are_printed_as_they_are(made: Path, working_folder: Path) -> None:
    shutil.copytree(made / "small", "run[/red]")
    assert "Wrote run[/red].h5" in succeed("export", "run[/red]", "-o", "run[/red].h5").stdout
    assert "run[/red] is a checkpoint" in succeed("inspect", "run[/red]").stderr
    assert "checkpoint: run[/red]" in succeed("inspect", "run[/red].h5").stdout


SMALL: dict[str, dict[str, Any]] = {
    "digits-unet": {"width": 8, "diffusion_steps": 40},
    "digits-vq": {"widths": (4, 6), "strides": (2, 1), "latent": 3, "codes": 5, "denoiser_widths": (4, 6, 4)},
}


@pytest.mark.parametrize(("recipe", "samples"), [("digits-unet", ["000002"]), ("digits-vq", ["000002", "000004"])])
def test_train_goes_on_where_it_stopped_and_its_result_can_be_exported(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, samples: list[str]
) -> None:
    """With the stages, data and noise schedule of the recipe, but a small model."""
    named = RECIPES[recipe]
    small = dataclasses.replace(named.model, **SMALL[recipe])
    monkeypatch.setitem(RECIPES, recipe, dataclasses.replace(named, model=small))
    train = ("train", recipe, "-o", "run", "--iterations", 2, "--batch-size", 4, "--quiet")
    succeed(*train)
    first = Path("run/model.safetensors").read_bytes()
    assert sorted(path.stem for path in Path("run/samples").iterdir()) == samples
    succeed(*train)
    assert Path("run/model.safetensors").read_bytes() == first
    refuse(1, "another recipe", *train, "--seed", 5)
    succeed("export", "run", "-o", "run.h5")
    scales = [p.scale for program in load("run.h5").networks.values() for p in program.populations]
    assert np.isfinite(scales).all()
