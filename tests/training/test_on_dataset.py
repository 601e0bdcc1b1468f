"""A recipe takes the size and the channels of another data set."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from spikegen.errors import ConfigError
from spikegen.models import build_model
from spikegen.training import RECIPES, Recipe, Trainer, on_dataset
from tests.training.recipes import TINY_TOKENS


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_keeps_all_but_size_and_channels(name: str) -> None:
    recipe = RECIPES[name]
    found = on_dataset(recipe, "noise:3x16x16")
    assert found.dataset == "noise:3x16x16"
    model = dataclasses.replace(found.model, channels=recipe.model.channels, image_size=recipe.model.image_size)
    assert dataclasses.replace(found, dataset=recipe.dataset, model=model) == recipe
    assert (found.model.channels, found.model.image_size) == (3, 16)
    build_model(found.model)


def test_the_same_data_set_changes_nothing() -> None:
    assert on_dataset(Recipe(), "digits") == Recipe()


def test_tokens_are_trained_on_other_images(tmp_path: Path) -> None:
    recipe = on_dataset(dataclasses.replace(TINY_TOKENS, held_out=1000), "noise:3x4x4")
    checkpoint = Trainer(recipe, tmp_path).run()
    assert checkpoint.dataset == "noise:3x4x4"
    assert checkpoint.model.config.diffusion_steps == 4  # sites of the grid


@pytest.mark.parametrize(
    ("recipe", "dataset", "message"),
    [
        ("digits-unet", "noise:1x7x7", "FSDDIMConfig.image_size is 7; 2 levels need a multiple of 2"),
        ("digits-vq", "digits@9", "the images of digits@9: .*image_size"),
        ("digits-vq", "noise:1x4x8", "noise:1x4x8 are 4 x 8 pixels"),
        ("digits-ann", "dragons", "unknown data set 'dragons'"),
    ],
)
def test_images_that_no_model_takes(recipe: str, dataset: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        on_dataset(RECIPES[recipe], dataset)
