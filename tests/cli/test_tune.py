"""`spikegen tune`: a tuned pipeline file, or one clear error."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from spikegen.program import ImageDiffusion, load, save
from tests.cli.commands import refuse, succeed, summary

FEW = ("--iterations", 2, "--batch-size", 4)


def test_a_pipeline_is_tuned(made: Path, working_folder: Path) -> None:
    old = load(made / "small.h5")
    assert isinstance(old.host, ImageDiffusion)
    measured = dataclasses.replace(old, host=dataclasses.replace(old.host, noise_power=np.ones(20)))
    save(measured, "measured.h5")
    done = summary("tune", "measured.h5", "-o", "tuned.h5", *FEW, "--quiet", "--threads", 1)
    assert (done["output"], done["state"]) == ("tuned.h5", "tuned.h5.state")
    assert (done["iterations"], done["noise_power_dropped"]) == (2, True)
    new = load("tuned.h5")
    assert new.provenance.keys() - old.provenance.keys() == {"tuned_from", "tuning"}
    # again, from its state: the same file; and as text
    first = Path("tuned.h5").read_bytes()
    result = succeed("tune", "measured.h5", "-o", "tuned.h5", *FEW)
    assert Path("tuned.h5").read_bytes() == first
    wrote = f"noise {done['loss_before']:.4f} -> {done['loss_after']:.4f} after 2 iterations"
    assert result.stdout.startswith("Wrote tuned.h5: ")
    assert wrote in result.stdout
    assert "Note: the measured power of the predicted noise was dropped" in result.stderr


def test_a_teacher_and_a_folder_for_the_state(made: Path, working_folder: Path) -> None:
    done = summary(
        "tune", made / "small.h5", "-o", "tuned.h5", "--teacher", made / "small", "--state", "kept", *FEW, "--quiet"
    )
    assert done["state"] == "kept"
    assert sorted(path.name for path in Path("kept").iterdir()) == ["log.jsonl", "state.pt"]
    message = "the state of another run (pipeline, teacher or settings); delete it to begin again"
    refuse(1, message, "tune", made / "small.h5", "-o", "tuned.h5", "--state", "kept", *FEW, "--quiet")


@pytest.mark.parametrize(("option", "default"), [("teacher_weight", 10), ("bias_weight", 100)])
def test_the_weights_of_the_teacher(made: Path, working_folder: Path, option: str, default: float) -> None:
    tune = ("tune", made / "small.h5", "--teacher", made / "small", *FEW, "--quiet")
    flag = f"--{option.replace('_', '-')}"
    for weight in (0, 5):
        succeed(*tune, "-o", f"{weight}.h5", flag, weight)
    succeed(*tune, "-o", "default.h5")
    found = {name: json.loads(load(f"{name}.h5").provenance["tuning"])["tuning"] for name in (0, 5, "default")}
    assert {name: settings[option] for name, settings in found.items()} == {0: 0, 5: 5, "default": default}
    refuse(2, "-1.0 is not in the range x>=0", *tune, "-o", "x.h5", flag, -1)
    refuse(1, f"Tuning.{option} is inf", *tune, "-o", "x.h5", flag, "inf")


@pytest.mark.usefixtures("working_folder")
def test_what_cannot_be_tuned(made: Path, made_tokens: Path) -> None:
    refuse(1, "only the denoiser of an ImageDiffusion can be tuned", "tune", made_tokens / "vq.h5", "-o", "x.h5")
    refuse(1, "there is no such pipeline file", "tune", "missing.h5", "-o", "x.h5")
    refuse(1, "does not exist", "tune", made / "small.h5", "-o", "missing/x.h5")
    refuse(1, "no such", "tune", made / "small.h5", "-o", "x.h5", "--teacher", "nobody")
    refuse(2, "must be different files", "tune", made / "small.h5", "-o", made / "small.h5")
    pipeline = load(made / "small.h5")
    save(dataclasses.replace(pipeline, provenance={"dataset": "dragons"}), "dragons.h5")
    refuse(1, "unknown data set 'dragons'", "tune", "dragons.h5", "-o", "x.h5")
