"""A small autoencoder that spikes, and its postsynaptic potentials without a recursion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spikegen.models.vqsvae import VQSVAE

STEPS = 4


def small_autoencoder(seed: int = 0) -> VQSVAE:
    """In training mode, where BatchNorm keeps the neurons busy; its code vectors are all in use."""
    torch.manual_seed(seed)
    network = VQSVAE(1, widths=(4,), strides=(2,), latent=3, codes=5, timesteps=STEPS)
    with torch.no_grad():
        network.codebook.mul_(0.5).add_(0.5)
    return network.train()


def settle(network: VQSVAE, pixels: Tensor) -> None:
    """Give BatchNorm the statistics of ``pixels``, spread the code vectors over their latents; evaluation mode."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # type: ignore[assignment]
    network.train()(pixels)
    network.eval()
    with torch.no_grad():
        latents = network.encoder(pixels).movedim(1, -1).flatten(0, 2).unique(dim=0)
        chosen = torch.linspace(0, len(latents) - 1, len(network.codebook)).long()
        network.codebook.copy_(latents[chosen] + 0.01 * torch.randn(network.codebook.shape))


def small_pixels(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) - 0.5


def slow_psp(spikes: Tensor) -> Tensor:
    """``p[n] = sum_k 2^-(n - k + 1) s[k]``: the closed form of ``p[n] = p[n-1] + (s[n] - p[n-1]) / 2``."""
    steps = spikes.unflatten(0, (STEPS, -1))
    return torch.stack([sum(steps[k] * 0.5 ** (n - k + 1) for k in range(n + 1)) for n in range(STEPS)])
