"""The masked cross-entropy against its formula, the tokens it learns, and which task a stage gets."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from spikegen.errors import ConfigError
from spikegen.models import SpikingDiffusion, SpikingUNet, build_model
from spikegen.models.sdid import SDID
from spikegen.training import load_images, tasks
from spikegen.training.datasets import split
from spikegen.training.tasks import NoisePrediction, TokenDenoising, VectorQuantisation, encode, make_task
from tests.training.networks import settle, small_autoencoder, small_pixels
from tests.training.recipes import TINY, TINY_TOKENS

CODES, STEPS, SIDE = 5, 9, 3


class Given(SDID):
    """Answers with given logits and keeps what it was asked."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__((1,), CODES, 1)
        self.logits = logits

    def forward(self, x: Tensor) -> Tensor:
        self.asked = x
        return self.logits


def example(t: list[int], seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, tokens, steps and a mask with about half of the sites."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(t), CODES, SIDE, SIDE, generator=generator)
    tokens = torch.randint(CODES, (len(t), SIDE, SIDE), generator=generator)
    return logits, tokens, torch.tensor(t), torch.rand(tokens.shape, generator=generator) < 0.5


def task(batch_size: int = 4, tokens: Tensor | None = None) -> TokenDenoising:
    return TokenDenoising(torch.zeros(2, SIDE, SIDE).long() if tokens is None else tokens, CODES, STEPS, batch_size)


def slow_loss(logits: Tensor, tokens: Tensor, t: Tensor, masked: Tensor) -> float:
    bits = 0.0
    for image in range(len(tokens)):
        for y in range(SIDE):
            for x in range(SIDE):
                if masked[image, y, x]:
                    powers = [math.exp(float(value)) for value in logits[image, :, y, x]]
                    probability = powers[int(tokens[image, y, x])] / sum(powers)
                    bits -= math.log2(probability) * (STEPS - int(t[image]) + 1) / STEPS
    return bits / (len(tokens) * SIDE * SIDE)


@pytest.mark.parametrize("t", [[1, 5, 9, 3], [9], [1], [9, 9]], ids=str)
def test_the_loss_is_the_weighted_cross_entropy_in_bits_per_site(t: list[int]) -> None:
    logits, *batch = example(t)
    loss = task().loss(Given(logits), tuple(batch))
    assert float(loss) == pytest.approx(slow_loss(logits, *batch), rel=1e-5)
    assert float(loss) > 0  # the last step, where all is masked, is learnt too


def test_guessing_costs_the_bits_of_a_token() -> None:
    _, tokens, t, _ = example([1] * 3)
    everywhere = torch.ones_like(tokens).bool()
    flat = Given(torch.zeros(3, CODES, SIDE, SIDE))
    assert float(task().loss(flat, (tokens, t, everywhere))) == pytest.approx(math.log2(CODES))
    last = torch.full_like(t, STEPS)
    assert float(task().loss(flat, (tokens, last, everywhere))) == pytest.approx(math.log2(CODES) / STEPS)


def test_only_masked_sites_count() -> None:
    logits, tokens, t, masked = example([2, 7, 9])
    logits.requires_grad_()
    loss = task().loss(Given(logits), (tokens, t, masked))
    loss.backward()
    assert logits.grad is not None
    moved = logits.grad.abs().amax(1) > 0
    assert torch.equal(moved, masked)
    hidden = torch.where(masked[:, None], logits.detach(), 1e3 * torch.randn_like(logits))
    assert float(task().loss(Given(hidden), (tokens, t, masked))) == pytest.approx(float(loss), rel=1e-6)
    assert float(task().loss(Given(hidden), (tokens, t, torch.zeros_like(masked)))) == 0.0


def test_the_network_sees_the_mask_and_the_step() -> None:
    logits, tokens, t, masked = example([2, 7, 9])
    model = Given(logits)
    task().loss(model, (tokens, t, masked))
    assert model.asked.dtype == torch.float32
    assert torch.equal(model.asked[:, 0], torch.where(masked, torch.tensor(CODES), tokens).float())
    assert torch.equal(model.asked[:, 1], t[:, None, None].expand(3, SIDE, SIDE).float())


def test_a_batch_masks_each_site_with_probability_t_over_the_number_of_steps() -> None:
    data = torch.arange(7 * SIDE * SIDE).reshape(7, SIDE, SIDE) % CODES
    many = task(20_000, data)
    tokens, t, masked = many.batch(torch.Generator().manual_seed(0))
    assert tokens.shape == masked.shape == (20_000, SIDE, SIDE)
    assert t.unique().tolist() == list(range(1, STEPS + 1))
    for step in range(1, STEPS + 1):
        chosen = masked[t == step].double()
        assert len(chosen) == pytest.approx(20_000 / STEPS, rel=0.1)
        assert float(chosen.mean()) == pytest.approx(step / STEPS, abs=0.02)
        # site by site, and each by itself: no site says anything about the next
        if step < STEPS:
            assert abs(float(torch.corrcoef(chosen.flatten(1).T)[0, 1])) < 0.1
    assert bool(masked[t == STEPS].all())
    for name, again in zip(("tokens", "t", "masked"), many.batch(torch.Generator().manual_seed(0)), strict=True):
        assert torch.equal(again, {"tokens": tokens, "t": t, "masked": masked}[name])


def test_another_network_is_refused() -> None:
    _, *batch = example([1])
    with pytest.raises(TypeError, match=r"^this task trains a SDID, not a VQSVAE$"):
        task().loss(small_autoencoder(), tuple(batch))


def calibrated() -> SpikingDiffusion:
    """An autoencoder whose statistics fit its images, so that its tokens differ."""
    torch.manual_seed(0)
    model = build_model(TINY_TOKENS.model)
    assert isinstance(model, SpikingDiffusion)
    settle(model.autoencoder, torch.from_numpy(load_images("digits")[:64]) / 2)
    return model


def test_every_stage_gets_its_task() -> None:
    unet = build_model(TINY.model)
    assert isinstance(unet, SpikingUNet)
    noise = make_task(TINY, TINY.stages[0], unet)
    assert isinstance(noise, NoisePrediction)
    np.testing.assert_array_equal(noise.images[:], split(load_images("digits"), 0)[0][:])
    assert len(noise.alphas_cumprod) == 10

    model = calibrated()
    model.train()
    autoencoder, denoiser = (make_task(TINY_TOKENS, stage, model) for stage in TINY_TOKENS.stages)
    trained = torch.from_numpy(split(load_images("digits"), 1790)[0][:]) / 2
    assert isinstance(autoencoder, VectorQuantisation)
    assert torch.equal(autoencoder.pixels, trained)
    assert (float(trained.min()), float(trained.max())) == (-0.5, 0.5)
    assert isinstance(denoiser, TokenDenoising)
    assert model.autoencoder.training  # as it was: the tokens come from a copy in evaluation mode
    assert torch.equal(denoiser.tokens, encode(model.autoencoder.eval(), trained))
    assert (denoiser.codes, denoiser.diffusion_steps, denoiser.batch_size) == (6, 16, 5)
    assert denoiser.tokens.shape == (7, 4, 4)


def test_a_task_needs_data_to_train_on() -> None:
    recipe = dataclasses.replace(TINY, held_out=1796)
    with pytest.raises(ConfigError, match=r"^1796 held-out images leave 1 of 1797 to train on$"):
        make_task(recipe, recipe.stages[0], build_model(recipe.model))


def test_the_tokens_of_an_image_do_not_depend_on_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "ENCODING_BATCH", 4)
    autoencoder = calibrated().autoencoder
    pixels = torch.from_numpy(load_images("digits")[:12]) / 2
    tokens = encode(autoencoder, pixels)
    assert tokens.dtype == torch.int64
    assert tokens.shape == (12, 4, 4)
    assert len(tokens.unique()) >= 4
    # what was in the batch before leaves nothing behind in the neurons
    assert torch.equal(encode(autoencoder, pixels[4:]), tokens[4:])
    assert torch.equal(encode(autoencoder, pixels.flip(0)).flip(0), tokens)
    # nor do the images beside it count
    others = torch.cat([pixels[:1], small_pixels(3)])
    assert torch.equal(encode(autoencoder, others)[:1], tokens[:1])


def test_noisy_images_are_the_forward_process() -> None:
    noise = make_task(TINY, dataclasses.replace(TINY.stages[0], batch_size=64), build_model(TINY.model))
    assert isinstance(noise, NoisePrediction)
    noisy, t, added = noise.batch(torch.Generator().manual_seed(0))
    alpha = noise.alphas_cumprod[t][:, None, None, None]
    clean = (noisy - (1 - alpha).sqrt() * added) / alpha.sqrt()
    # every clean image is one of the data set, up to float32
    distance = (clean[:, None] - torch.from_numpy(noise.images[:])[None]).abs().amax(dim=(2, 3, 4)).min(dim=1).values
    assert float(distance[alpha.flatten() > 0.1].max()) < 1e-3
    assert 0 <= int(t.min()) < int(t.max()) < 10


def test_the_loss_of_the_noise_is_its_mean_squared_error() -> None:
    model = build_model(TINY.model).eval()
    noise = make_task(TINY, TINY.stages[0], model)
    noisy, t, added = noise.batch(torch.Generator().manual_seed(0))
    with torch.no_grad():
        predicted = model(noisy, t).double().numpy()
        loss = float(noise.loss(model, (noisy, t, added)))
    assert loss == pytest.approx(((predicted - added.double().numpy()) ** 2).mean(), rel=1e-5)
    with pytest.raises(TypeError, match=r"^this task trains a ImageDenoiser, not a VQSVAE$"):
        noise.loss(small_autoencoder(), (noisy, t, added))
