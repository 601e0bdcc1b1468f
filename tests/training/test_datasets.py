"""Data sets and recipes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from spikegen.errors import ConfigError
from spikegen.models import SpikingDiffusion, build_model
from spikegen.training import RECIPES, Recipe, load_images
from spikegen.training.datasets import ImageSet, split
from spikegen.training.recipes import Stage
from spikegen.training.tasks import make_task


def test_the_digits_are_real_images_in_range() -> None:
    images = load_images("digits")
    assert images.shape == images[:].shape == (1797, 1, 8, 8)
    assert images[:].dtype == np.float32
    assert (images[:].min(), images[:].max()) == (-1.0, 1.0)
    assert len(np.unique(images[:])) == 17  # grey values 0..16


def test_the_enlarged_digits_are_the_digits_at_the_size_of_mnist() -> None:
    small, large = load_images("digits")[:], load_images("digits@28")[:]
    assert large.shape == (1797, 1, 28, 28)
    assert large.dtype == np.float32
    assert (large.min(), large.max()) == (-1.0, 1.0)
    # 28 = 3.5 * 8: bilinear interpolation at the centres of the new pixels, by hand
    centres = np.clip((np.arange(28) + 0.5) / 3.5 - 0.5, 0, 7)
    low = np.minimum(centres.astype(int), 6)
    share = centres - low
    rows = small[:, :, low] * (1 - share)[:, None] + small[:, :, low + 1] * share[:, None]
    expected = rows[..., low] * (1 - share) + rows[..., low + 1] * share
    np.testing.assert_allclose(large, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_fits_its_data(name: str) -> None:
    recipe = RECIPES[name]
    size = recipe.model.image_size
    assert load_images(recipe.dataset).shape[1:] == (recipe.model.channels, size, size)
    # every stage trains a part of the model that there is, on data that there are
    model = build_model(recipe.model)
    for stage in recipe.stages:
        model.get_submodule(stage.network)
        assert make_task(recipe, stage, model).batch_size == stage.batch_size
    assert recipe.iterations == sum(stage.iterations for stage in recipe.stages)
    assert recipe.beta_schedule == ("absorbing" if isinstance(model, SpikingDiffusion) else "squaredcos_cap_v2")


@pytest.mark.parametrize("held_out", [0, 1, 297, 1795])
def test_a_split_is_a_partition_and_always_the_same(held_out: int) -> None:
    images = load_images("digits")
    numbered = ImageSet.of(np.arange(len(images), dtype=np.float32)[:, None, None, None])
    trained, others = (side.rows for side in split(numbered, held_out))
    assert (len(trained), len(others)) == (len(images) - held_out, held_out)
    assert sorted([*trained, *others]) == list(range(len(images)))
    np.testing.assert_array_equal(split(numbered, held_out)[1].rows, others)
    np.testing.assert_array_equal(split(images, held_out)[1][:], images[:][others])
    # a random choice, not the first images; a larger one contains a smaller one
    assert held_out < 2 or others.tolist() != list(range(held_out))
    np.testing.assert_array_equal(split(numbered, 1796 - 1)[1].rows[:held_out], others)


@pytest.mark.parametrize("held_out", [1796, 1797, 5000])
def test_a_split_that_leaves_nothing_to_train_on_is_refused(held_out: int) -> None:
    message = rf"^{held_out} held-out images leave {1797 - held_out} of 1797 to train on$"
    with pytest.raises(ConfigError, match=message):
        split(load_images("digits"), held_out)


@pytest.mark.parametrize(
    "field",
    [
        {"iterations": 0},
        {"batch_size": 1},
        {"warmup": -1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"gradient_clip": -1.0},
        {"ema_decay": 1.0},
        {"ema_decay": float("nan")},
    ],
    ids=str,
)
def test_a_stage_out_of_range_is_refused(field: dict[str, Any]) -> None:
    (name,) = field
    with pytest.raises(ConfigError, match=rf"^Stage\.{name} is {field[name]}; it must be "):
        Stage(**field)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"seed": -1}, r"^Recipe\.seed is -1; it must be at least 0$"),
        ({"held_out": -1}, r"^Recipe\.held_out is -1; it must be at least 0$"),
        ({"stages": ()}, r"^Recipe\.stages is empty; a run needs at least one stage$"),
    ],
    ids=str,
)
def test_a_recipe_out_of_range_is_refused(field: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(Recipe(), **field)
