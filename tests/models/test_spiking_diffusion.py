"""Autoencoder and denoiser: shapes, nearest code vectors, what is connected to what, and the sizes of the paper."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from spikegen.models import SpikingDiffusion, SpikingDiffusionConfig, SpikingNeuron, build_model
from spikegen.models.sdid import SDID, denoiser_input
from spikegen.models.spiking_diffusion import PAPER
from spikegen.models.vqsvae import VQSVAE
from spikegen.training import RECIPES, trainer

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


def sizes(config: SpikingDiffusionConfig) -> dict[str, int]:
    """Neurons and weights, counted in the modules."""
    model = built(dataclasses.replace(config, timesteps=1)).eval()
    encoder, decoder, denoiser = model.autoencoder.encoder, model.autoencoder.decoder, model.denoiser
    populations = {name: module for name, module in model.named_modules() if isinstance(module, SpikingNeuron)}
    neurons: dict[str, int] = {}
    for name, module in populations.items():
        module.register_forward_hook(lambda _m, _x, spikes, name=name: neurons.update({name: spikes.numel()}))
    with torch.no_grad():
        encoder(torch.zeros(1, config.channels, config.image_size, config.image_size))
        decoder(torch.zeros(1, config.latent, config.grid, config.grid))
        denoiser(torch.zeros(1, 2, config.grid, config.grid))
    assert neurons.keys() == populations.keys()

    def within(part: str) -> int:
        return sum(count for name, count in neurons.items() if name.startswith(part))

    def weights(part: nn.Module) -> int:
        kinds = (nn.Conv2d, nn.ConvTranspose2d)
        return sum(module.weight.numel() for module in part.modules() if isinstance(module, kinds))

    return {
        "neurons of the encoder": within("autoencoder.encoder"),
        "neurons of the generator": within("autoencoder.decoder.generator"),
        "neurons of the decoder behind it": within("autoencoder.decoder.layers"),
        "neurons of the denoiser": within("denoiser"),
        "weights of the encoder": weights(encoder),
        "weights of generator and decoder": weights(decoder),
        "weights of the denoiser": weights(denoiser),
    }


def test_the_paper_has_these_sizes() -> None:
    """28x28 grey images, counted by hand from the layers of arXiv 2308.10187."""
    assert (PAPER.grid, PAPER.diffusion_steps, PAPER.codes, PAPER.timesteps) == (7, 49, 128, 16)
    assert sizes(PAPER) == {
        "neurons of the encoder": 32 * 14 * 14 + 64 * 7 * 7 + 16 * 7 * 7,
        "neurons of the generator": 16 * 7 * 7,
        "neurons of the decoder behind it": 64 * 14 * 14 + 32 * 28 * 28,
        "neurons of the denoiser": 49 * (64 + 128 + 256 + 512 + 256),
        "weights of the encoder": 9 * (32 + 32 * 64) + 64 * 16,
        "weights of generator and decoder": 16 * 16 + 9 * (16 * 64 + 64 * 32 + 32),
        # 3.1 million
        "weights of the denoiser": 9 * (2 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512 * 256 + (256 + 64) * 128),
    }
    assert list(sizes(PAPER).values())[:4] == [10_192, 784, 37_632, 59_584]


def test_the_sizes_in_the_documentation_are_those_of_the_modules() -> None:
    page = (Path(__file__).parents[2] / "docs" / "spiking_diffusion.md").read_text(encoding="utf-8")
    digits = RECIPES["digits-vq"].model
    assert isinstance(digits, SpikingDiffusionConfig)
    counted = sizes(digits), sizes(PAPER)
    for name in counted[0]:
        assert f"| {name} | {counted[0][name]:,} | {counted[1][name]:,} |" in page
    rows: dict[str, Callable[[SpikingDiffusionConfig], object]] = {
        "image": lambda config: f"{config.image_size}x{config.image_size}",
        "channels of the encoder": lambda config: ", ".join(map(str, config.widths)),
        "strides": lambda config: ", ".join(map(str, config.strides)),
        "grid of tokens": lambda config: f"{config.grid}x{config.grid}",
        "D, size of a code vector": lambda config: config.latent,
        "K, code vectors": lambda config: config.codes,
        "channels of the denoiser": lambda config: ", ".join(map(str, config.denoiser_widths)),
        "T, timesteps": lambda config: config.timesteps,
        "T_d, diffusion steps": lambda config: config.diffusion_steps,
    }
    for name, value in rows.items():
        assert f"| {name} | {value(digits)} | {value(PAPER)} |" in page


def test_the_stages_in_the_documentation_are_those_of_the_recipe() -> None:
    page = (Path(__file__).parents[2] / "docs" / "spiking_diffusion.md").read_text(encoding="utf-8")
    recipe = RECIPES["digits-vq"]
    for stage in recipe.stages:
        row = f"| `{stage.network}` | {stage.iterations:,} | {stage.batch_size} | {stage.learning_rate:g} | "
        row += f"{stage.warmup} | {stage.weight_decay:g} | {stage.gradient_clip:g} | {stage.ema_decay:g} | "
        row += f"{'bfloat16' if stage.mixed_precision else 'float32'} |"
        assert row in page
    assert f"{recipe.held_out} of the 1,797 digits" in page
    assert f"on {trainer.RECALIBRATION_BATCHES} batches" in page


def test_a_chain_of_one_layer_is_its_own_skip() -> None:
    denoiser = SDID((3,), codes=4, timesteps=2)
    heard, _ = seen(denoiser.head, lambda: denoiser(torch.rand(1, 2, 3, 3) * 9))
    assert torch.equal(heard[:, :3], heard[:, 3:])
