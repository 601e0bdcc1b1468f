"""`--dataset` of `spikegen export` and `spikegen train`: other images than the checkpoint's or the recipe's."""

import json
import shutil
from pathlib import Path

import pytest

from spikegen.models import load_checkpoint
from spikegen.program import load
from tests.cli.commands import refuse, succeed, summary

FEW = ("--iterations", 1, "--batch-size", 2, "--quiet")


def test_an_export_is_calibrated_on_other_images(made: Path, working_folder: Path) -> None:
    summary("export", made / "small", "-o", "noise.h5", "--dataset", "noise:1x8x8")
    noise, digits = load("noise.h5"), load(made / "small.h5")
    assert noise.provenance["dataset"] == "noise:1x8x8"
    assert noise.provenance["trained_on"] == "digits"
    assert "trained_on" not in digits.provenance
    rows = [p.network("denoiser").report["quantisation"] for p in (noise, digits)]
    assert rows[0] != rows[1]
    # the data set of the checkpoint, named
    summary("export", made / "small", "-o", "same.h5", "--dataset", "digits")
    assert load("same.h5").provenance == {**digits.provenance, "checkpoint": str(made / "small")}
    # what follows an export takes the data set that was named
    found = summary("statistics", "noise.h5", "-o", "measured.h5", "-n", 2, "--every", 19)
    assert found["dataset"] == "noise:1x8x8"


def test_a_checkpoint_whose_data_are_not_at_hand(
    made: Path, working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPIKEGEN_DATA", "nothing")
    shutil.copytree(made / "small", "faces")
    config = json.loads(Path("faces/config.json").read_text())
    Path("faces/config.json").write_text(
        json.dumps({**config, "dataset": "celeba@8", "training": {"held_out": 100_000}})
    )
    refuse(1, "the data set celeba is not in nothing", "export", "faces", "-o", "faces.h5")
    succeed("export", "faces", "-o", "faces.h5", "--dataset", "noise:1x8x8")
    provenance = load("faces.h5").provenance
    assert (provenance["trained_on"], provenance["held_out"]) == ("celeba@8", "0")
    succeed("tune", "faces.h5", "-o", "tuned.h5", *FEW)
    assert summary("verify", "faces.h5", "-n", 1, "--at", 3, "--no-lava")["equal"]


def test_nothing_of_another_data_set_was_held_out(made_tokens: Path, working_folder: Path) -> None:
    succeed("export", made_tokens / "vq", "-o", "noise.h5", "--dataset", "noise:1x8x8")
    assert load("noise.h5").provenance["held_out"] == "0"
    assert load(made_tokens / "vq.h5").provenance["held_out"] == "297"


def test_images_that_an_export_cannot_take(made: Path, working_folder: Path) -> None:
    export = ("export", made / "small", "-o", "x.h5", "--dataset")
    refuse(1, "unknown data set 'faces'", *export, "faces")
    message = (
        "the images of noise:3x8x8 are 3 x 8 x 8, the model takes 1 x 8 x 8 (channels x height x width); @8 behind"
    )
    refuse(1, message, *export, "noise:3x8x8")


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training of one iteration that takes no longer than it must."""
    monkeypatch.setattr("spikegen.cli.train.GRID_IMAGES", 1)
    monkeypatch.setattr("spikegen.training.trainer.RECALIBRATION_BATCHES", 2)


@pytest.mark.usefixtures("_short")
def test_a_recipe_is_trained_on_images_of_another_shape(working_folder: Path) -> None:
    train = ("train", "digits-unet", "-o", "run", *FEW)
    succeed(*train, "--dataset", "noise:3x4x4")
    checkpoint = load_checkpoint("run")
    config = checkpoint.model.config
    assert (config.channels, config.image_size, checkpoint.dataset) == (3, 4, "noise:3x4x4")
    refuse(1, "another recipe", *train)


@pytest.mark.usefixtures("_short")
def test_a_checkpoint_is_fine_tuned_on_other_images(made: Path, working_folder: Path) -> None:
    train = ("train", "--from", made / "small", "-o", "run", *FEW)
    refuse(1, "the images of digits@16 are 1 x 16 x 16, the model takes 1 x 8 x 8", *train, "--dataset", "digits@16")
    succeed(*train, "--dataset", "noise:1x8x8")
    assert load_checkpoint("run").dataset == "noise:1x8x8"


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("faces", "unknown data set 'faces'"),
        ("noise:1x8x6", "the images of noise:1x8x6 are 8 x 6 pixels, a model takes squares; @SIZE behind the name"),
        (
            "digits@9",
            "digits@9: FSDDIMConfig.image_size is 9; 2 levels need a multiple of 2; @SIZE behind the name of a data",
        ),
    ],
)
def test_images_that_a_recipe_cannot_be_trained_on(working_folder: Path, dataset: str, message: str) -> None:
    refuse(1, message, "train", "digits-unet", "-o", "run", "--dataset", dataset, *FEW)
