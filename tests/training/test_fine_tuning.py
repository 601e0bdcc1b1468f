"""Training that goes on from a checkpoint, with and without SDM's gains."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from spikegen.cli import main
from spikegen.errors import ConfigError
from spikegen.models import (
    Checkpoint,
    FSDDIMConfig,
    SpikingUNet,
    UNetConfig,
    build_model,
    load_checkpoint,
    save_checkpoint,
)
from spikegen.training import Recipe, Trainer, fine_tuning
from tests.training.recipes import TINY

SMALL = UNetConfig(
    image_size=8, width=2, multipliers=(1, 2), timesteps=2, diffusion_steps=10, neuron="hard-reset", tail="swish"
)


@pytest.fixture
def trained(tmp_path: Path) -> Checkpoint:
    folder = tmp_path / "trained"
    Trainer(dataclasses.replace(TINY, model=SMALL), folder).run(until=2)
    return load_checkpoint(folder)


def short(recipe: Recipe) -> Recipe:
    return dataclasses.replace(recipe, stages=(dataclasses.replace(recipe.stages[0], iterations=3, batch_size=4),))


def unet(checkpoint: Checkpoint) -> SpikingUNet:
    model = checkpoint.model
    if not isinstance(model, SpikingUNet):
        raise TypeError(type(model))
    return model


def test_gains_of_1_change_nothing_at_first(trained: Checkpoint, tmp_path: Path) -> None:
    trainer = Trainer(fine_tuning(trained, tsm=True), tmp_path / "tsm", trained)
    x, t = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 4, 9])
    before, after = unet(trained).eval(), trainer.model.eval()
    assert isinstance(after, SpikingUNet)
    assert after.config == dataclasses.replace(SMALL, tsm=True)
    with torch.no_grad():
        torch.testing.assert_close(after(x, t), before(x, t), rtol=0, atol=0)


def test_training_moves_weights_and_gains(trained: Checkpoint, tmp_path: Path) -> None:
    recipe = short(fine_tuning(trained, tsm=True))
    Trainer(recipe, tmp_path / "tsm", trained).run()
    loaded = load_checkpoint(tmp_path / "tsm")
    own, before = loaded.model.state_dict(), trained.model.state_dict()
    gains = [value for name, value in own.items() if name.endswith("gains")]
    assert gains
    assert all((value != 1).any() for value in gains)
    assert any((own[name] != before[name]).any() for name in before if name.endswith("weight"))
    assert loaded.dataset == trained.dataset
    assert loaded.training["start"] == trained.digest


def test_a_killed_run_goes_on(trained: Checkpoint, tmp_path: Path) -> None:
    recipe = short(fine_tuning(trained))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    Trainer(recipe, whole, trained).run()
    Trainer(recipe, parts, trained).run(until=1)
    Trainer(recipe, parts, trained).run()
    assert load_checkpoint(parts).digest == load_checkpoint(whole).digest


def test_the_weights_must_be_those_of_the_recipe(trained: Checkpoint, tmp_path: Path) -> None:
    recipe = fine_tuning(trained)
    with pytest.raises(ConfigError, match=f"starts from the weights {trained.digest}"):
        Trainer(recipe, tmp_path / "tuned")
    with pytest.raises(ConfigError, match="starts from the weights of no checkpoint"):
        Trainer(TINY, tmp_path / "tuned", trained)
    wider = dataclasses.replace(recipe, model=dataclasses.replace(SMALL, width=4))
    with pytest.raises(ConfigError, match="not a checkpoint of this network"):
        Trainer(wider, tmp_path / "tuned", trained)


def test_what_cannot_be_tuned(trained: Checkpoint) -> None:
    gained = dataclasses.replace(trained, model=build_model(dataclasses.replace(SMALL, tsm=True)))
    with pytest.raises(ConfigError, match="has TSM's gains already"):
        fine_tuning(gained, tsm=True)
    binary = dataclasses.replace(trained, model=build_model(FSDDIMConfig(width=2, multipliers=(1,))), source="spikes")
    with pytest.raises(ConfigError, match="spikes: its FSDDIMConfig has no gains"):
        fine_tuning(binary, tsm=True)
    with pytest.raises(ConfigError, match="digits-vq: only networks that predict the noise"):
        fine_tuning(load_checkpoint("digits-vq"))


def test_the_command(trained: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "start", trained)
    common = ["--iterations", "2", "--batch-size", "2", "--sample-every", "9", "--quiet", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(main, ["train", "--from", str(tmp_path / "start"), "--tsm", *common])
    assert result.exit_code == 0, result.output
    tuned = load_checkpoint(tmp_path / "out").model
    assert isinstance(tuned, SpikingUNet)
    assert tuned.config.tsm
    for arguments, message in (
        ([], "give the name of a recipe, or --from"),
        (["digits-unet", "--from", "digits-unet"], "not both"),
        (["digits-unet", "--tsm"], "give it with --from"),
    ):
        refused = CliRunner().invoke(main, ["train", *arguments, *common], env={"COLUMNS": "200"})
        assert refused.exit_code != 0
        assert message in " ".join(refused.output.split())
