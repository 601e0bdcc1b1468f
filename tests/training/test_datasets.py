"""Data sets and recipes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from spikegen.errors import ConfigError
from spikegen.training import DATASETS, RECIPES, Recipe, load_images


def test_the_digits_are_real_images_in_range() -> None:
    images = load_images("digits")
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (-1.0, 1.0)
    assert len(np.unique(images)) == 17  # grey values 0..16


def test_an_unknown_data_set_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown data set 'faces'; known: digits"):
        load_images("faces")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_fits_its_data(name: str) -> None:
    recipe = RECIPES[name]
    size = recipe.model.image_size
    assert load_images(recipe.dataset).shape[1:] == (recipe.model.channels, size, size)
    assert recipe.dataset in DATASETS


@pytest.mark.parametrize(
    "field",
    [
        {"iterations": 0},
        {"batch_size": 1},
        {"warmup": -1},
        {"seed": -1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"gradient_clip": -1.0},
        {"ema_decay": 1.0},
        {"ema_decay": float("nan")},
    ],
    ids=str,
)
def test_a_recipe_out_of_range_is_refused(field: dict[str, Any]) -> None:
    (name,) = field
    with pytest.raises(ConfigError, match=rf"Recipe\.{name} is"):
        dataclasses.replace(Recipe(), **field)
