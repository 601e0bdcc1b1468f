"""Small checkpoints for tests of the command line."""

from pathlib import Path

import torch
from torch import nn

from spikegen.models import (
    Checkpoint,
    SpikingDiffusion,
    SpikingDiffusionConfig,
    SpikingUNet,
    UNetConfig,
    save_checkpoint,
)
from spikegen.models.sdid import denoiser_input
from spikegen.training.datasets import load_images


def small_checkpoint(folder: Path) -> Path:
    """Write an untrained U-Net of width 4 and T = 2 whose BatchNorms have seen data, and return its folder."""
    torch.manual_seed(0)
    model = SpikingUNet(UNetConfig(width=4, timesteps=2, diffusion_steps=20, neuron="hard-reset"))
    with torch.no_grad():
        for _ in range(5):
            model(torch.randn(32, 1, 8, 8), torch.randint(20, (32,)))
    save_checkpoint(folder, Checkpoint(model.eval(), "squaredcos_cap_v2", "digits", {}))
    return folder


def small_tokens_checkpoint(folder: Path) -> Path:
    """Write an untrained Spiking-Diffusion of few channels, 5 tokens and T = 4 whose BatchNorms have seen data.

    Its grid has 4 x 4 sites, so there are 16 diffusion steps. It holds 297 digits out. Returns its folder.
    """
    torch.manual_seed(0)
    config = SpikingDiffusionConfig(
        image_size=8,
        widths=(4, 6),
        strides=(2, 1),
        latent=3,
        codes=5,
        denoiser_widths=(4, 6, 4),
        timesteps=4,
        neuron="hard-reset",
    )
    model = SpikingDiffusion(config)
    pixels = torch.from_numpy(load_images("digits")[:64]) / 2
    with torch.no_grad():
        model.autoencoder.codebook.copy_(torch.rand(config.codes, config.latent))  # where the latents are
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.5  # forgets where it began
                module.bias.fill_(0.8)  # enough for every population to fire
        for _ in range(12):
            model.autoencoder(pixels)
            tokens = model.autoencoder.tokens(model.autoencoder.encoder(pixels))
            steps = torch.randint(1, 17, (len(tokens),))
            masked = torch.rand(tokens.shape) < (steps / 16)[:, None, None]
            model.denoiser(denoiser_input(torch.where(masked, config.codes, tokens), steps))
    save_checkpoint(folder, Checkpoint(model.eval(), "absorbing", "digits", {"held_out": 297}))
    return folder
