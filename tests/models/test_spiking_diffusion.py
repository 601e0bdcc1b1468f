"""Autoencoder and denoiser: shapes, nearest code vectors, what is connected to what, and the sizes of the paper."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikegen.models import SpikingDiffusion, SpikingDiffusionConfig, SpikingNeuron, build_model
from spikegen.models.sdid import SDID, denoiser_input
from spikegen.models.spiking_diffusion import PAPER
from spikegen.models.vqsvae import VQSVAE

CONFIGS = [
    SpikingDiffusionConfig(widths=(3, 4), latent=5, codes=6, denoiser_widths=(4, 3), timesteps=3),
    SpikingDiffusionConfig(
        image_size=12, channels=3, widths=(4,), strides=(3,), latent=2, codes=2, denoiser_widths=(2,), timesteps=1
    ),
    SpikingDiffusionConfig(
        image_size=4, widths=(2, 3, 2), strides=(1, 1, 1), latent=3, codes=9, denoiser_widths=(3,) * 3, timesteps=2
    ),
]


def seen(module: nn.Module, run: Callable[[], object]) -> tuple[Tensor, Tensor]:
    """Input and output of ``module`` while ``run`` runs."""
    kept: list[tuple[Tensor, Tensor]] = []
    handle = module.register_forward_hook(lambda _m, inputs, output: kept.append((inputs[0], output)))
    run()
    handle.remove()
    (found,) = kept
    return found


def built(config: SpikingDiffusionConfig) -> SpikingDiffusion:
    torch.manual_seed(0)
    model = build_model(config)
    assert isinstance(model, SpikingDiffusion)
    return model


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.image_size}")
def test_shapes(config: SpikingDiffusionConfig) -> None:
    model = built(config)
    autoencoder, grid = model.autoencoder, config.grid
    pixels = torch.rand(5, config.channels, config.image_size, config.image_size) - 0.5
    spikes = autoencoder.encoder.spikes(pixels)
    assert spikes.shape == (config.timesteps * 5, config.latent, grid, grid)
    assert set(spikes.unique().tolist()) <= {0.0, 1.0}
    z = autoencoder.encoder(pixels)
    assert z.shape == (5, config.latent, grid, grid)
    tokens = autoencoder.tokens(z)
    assert tokens.shape == (5, grid, grid)
    assert tokens.dtype == torch.int64
    codes = autoencoder.code_vectors(tokens)
    assert codes.shape == z.shape
    assert autoencoder.decoder(codes).shape == pixels.shape
    image = autoencoder(pixels)
    assert image.shape == pixels.shape
    assert float(image.abs().max()) < 1
    logits = model.denoiser(denoiser_input(tokens, torch.arange(5)))
    assert logits.shape == (5, config.codes, grid, grid)
    assert config.diffusion_steps == grid * grid


def test_an_image_does_not_depend_on_the_others() -> None:
    model = built(CONFIGS[0]).eval()
    pixels = torch.rand(4, 1, 8, 8) * 8
    x = denoiser_input(torch.randint(7, (4, 4, 4)), torch.tensor([1, 2, 3, 4]))
    with torch.no_grad():
        for network, batch in ((model.autoencoder.encoder, pixels), (model.denoiser, x)):
            alone = torch.cat([network(row[None]) for row in batch])
            torch.testing.assert_close(network(batch), alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_tokens_are_the_nearest_code_vectors(seed: int) -> None:
    torch.manual_seed(seed)
    autoencoder = VQSVAE(1, (2,), (1,), latent=4, codes=7, timesteps=1)
    z = torch.randn(3, 4, 2, 5)
    tokens = autoencoder.tokens(z)
    assert tokens.shape == (3, 2, 5)
    for image in range(3):
        for y in range(2):
            for x in range(5):
                distances = (autoencoder.codebook - z[image, :, y, x]).double().square().sum(1).tolist()
                assert distances[int(tokens[image, y, x])] <= min(distances) + 1e-5
                vector = autoencoder.code_vectors(tokens)[image, :, y, x]
                assert torch.equal(vector, autoencoder.codebook[distances.index(min(distances))])


def test_every_code_vector_is_nearest_to_itself() -> None:
    autoencoder = VQSVAE(1, (2,), (1,), latent=4, codes=30, timesteps=1)
    tokens = torch.arange(30).reshape(2, 3, 5)
    assert torch.equal(autoencoder.tokens(autoencoder.code_vectors(tokens)), tokens)


def test_the_generator_hears_the_code_vectors_at_every_step() -> None:
    decoder = built(CONFIGS[0]).autoencoder.decoder.eval()
    codes = torch.randn(2, 5, 4, 4)
    heard, spikes = seen(decoder.generator, lambda: decoder(codes))
    assert torch.equal(heard.unflatten(0, (3, 2)), codes.expand(3, *codes.shape))
    assert torch.equal(decoder.image(spikes), decoder(codes))


def test_the_denoisers_last_convolution_hears_the_last_and_the_first_layer() -> None:
    denoiser = built(CONFIGS[0]).denoiser.eval()
    x = denoiser_input(torch.randint(7, (2, 4, 4)), torch.tensor([3, 16]))
    _, first = seen(denoiser.layers[0], lambda: denoiser(x))
    _, last = seen(denoiser.layers[1], lambda: denoiser(x))
    heard, currents = seen(denoiser.head, lambda: denoiser(x))
    assert torch.equal(heard, torch.cat([last, first], dim=1))
    torch.testing.assert_close(denoiser(x), currents.unflatten(0, (3, 2)).mean(0))
    held, _ = seen(denoiser.layers[0], lambda: denoiser(x))
    assert torch.equal(held.unflatten(0, (3, 2)), x.expand(3, *x.shape))


def test_the_denoiser_sees_tokens_and_time_as_numbers() -> None:
    tokens = torch.tensor([[[0, 5]], [[6, 1]]])
    x = denoiser_input(tokens, torch.tensor([2, 49]))
    assert x.dtype == torch.float32
    assert x.tolist() == [[[[0.0, 5.0]], [[2.0, 2.0]]], [[[6.0, 1.0]], [[49.0, 49.0]]]]


def test_the_paper_has_these_sizes() -> None:
    """Neurons and weights of 28x28 grey images, counted by hand from the layers of arXiv 2308.10187."""
    assert (PAPER.grid, PAPER.diffusion_steps, PAPER.codes, PAPER.timesteps) == (7, 49, 128, 16)
    model = built(dataclasses.replace(PAPER, timesteps=1)).eval()
    encoder, decoder, denoiser = model.autoencoder.encoder, model.autoencoder.decoder, model.denoiser

    def neurons(part: nn.Module, run: Callable[[], object]) -> int:
        count: list[int] = []
        populations = [module for module in part.modules() if isinstance(module, SpikingNeuron)]
        handles = [module.register_forward_hook(lambda _m, _x, y: count.append(y.numel())) for module in populations]
        with torch.no_grad():
            run()
        for handle in handles:
            handle.remove()
        assert len(count) == len(populations)
        return sum(count)

    pixels, codes = torch.zeros(1, 1, 28, 28), torch.zeros(1, 16, 7, 7)
    assert neurons(encoder, lambda: encoder(pixels)) == 10_192 == 32 * 14 * 14 + 64 * 7 * 7 + 16 * 7 * 7
    assert neurons(decoder.generator, lambda: decoder(codes)) == 784 == 16 * 7 * 7
    assert neurons(decoder.layers, lambda: decoder(codes)) == 37_632 == 64 * 14 * 14 + 32 * 28 * 28
    total = 49 * (64 + 128 + 256 + 512 + 256)
    assert neurons(denoiser, lambda: denoiser(torch.zeros(1, 2, 7, 7))) == 59_584 == total

    def weights(part: nn.Module) -> int:
        kinds = (nn.Conv2d, nn.ConvTranspose2d)
        return sum(module.weight.numel() for module in part.modules() if isinstance(module, kinds))

    chain = 2 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512 * 256 + (256 + 64) * 128
    assert weights(denoiser) == 9 * chain == 3_097_728
    assert weights(encoder) == 9 * (32 + 32 * 64) + 64 * 16
    assert weights(decoder) == 16 * 16 + 9 * (16 * 64 + 64 * 32 + 32)
    assert model.autoencoder.codebook.shape == (128, 16)
    # every convolution of the denoiser keeps the 7x7 grid: each weight is used once per site, borders aside
    assert weights(denoiser) * 49 == 151_788_672


def test_a_chain_of_one_layer_is_its_own_skip() -> None:
    denoiser = SDID((3,), codes=4, timesteps=2)
    heard, _ = seen(denoiser.head, lambda: denoiser(torch.rand(1, 2, 3, 3) * 9))
    assert torch.equal(heard[:, :3], heard[:, 3:])
