"""Spiking-Diffusion's two networks rebuilt on SpikingJelly, with the names of the authors' state_dicts.

Written from the described structure (arXiv 2308.10187) and the names in github.com/Arktis2022/Spiking-Diffusion.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from spikingjelly.activation_based import layer
from spikingjelly.activation_based.neuron import LIFNode
from torch import Tensor, nn


def spiking(conv: type[nn.Module], cin: int, cout: int, *sizes: int) -> list[nn.Module]:
    return [
        conv(cin, cout, *sizes, step_mode="m"),
        layer.BatchNorm2d(cout, step_mode="m"),
        LIFNode(step_mode="m"),
    ]


class MembraneOutput(nn.Module):
    def __init__(self, timesteps: int) -> None:
        super().__init__()
        self.register_buffer("coef", torch.pow(0.8, torch.arange(timesteps - 1, -1, -1))[:, None, None, None, None])
        self.coef: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return torch.sum(x * self.coef, dim=0)


class Coder(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.snn_convs = nn.Sequential(*layers)


class Quantizer(nn.Module):
    def __init__(self, latent: int, codes: int, timesteps: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(0.5))
        self.memout = MembraneOutput(timesteps)
        self.embeddings = nn.Embedding(codes, latent)
        self.poisson = nn.Sequential(*spiking(layer.Conv2d, latent, latent, 1))

    def indices(self, spikes: Tensor) -> Tensor:
        """int64 (N, h, w) of spikes (T, N, D, h, w)."""
        fused = (1 - self.alpha) * self.memout(spikes) + self.alpha * torch.sum(spikes, dim=0) / len(spikes)
        flat = fused.permute(0, 2, 3, 1)
        distances: Tensor = (flat[..., None, :] - self.embeddings.weight).square().sum(-1)
        return distances.argmin(-1)

    def code_vectors(self, indices: Tensor) -> Tensor:
        """(N, D, h, w)."""
        vectors: Tensor = self.embeddings(indices)
        return vectors.permute(0, 3, 1, 2)


class AuthorsVQVAE(nn.Module):
    def __init__(
        self,
        channels: int = 1,
        widths: tuple[int, ...] = (32, 64),
        latent: int = 16,
        codes: int = 128,
        timesteps: int = 16,
    ) -> None:
        super().__init__()
        self.timesteps = timesteps
        down = [m for a, b in pairwise((channels, *widths)) for m in spiking(layer.Conv2d, a, b, 3, 2, 1)]
        up = [
            m
            for a, b in pairwise((latent, *reversed(widths)))
            for m in spiking(layer.ConvTranspose2d, a, b, 3, 2, 1, 1)
        ]
        self.encoder = Coder(*down, *spiking(layer.Conv2d, widths[-1], latent, 1))
        self.vq_layer = Quantizer(latent, codes, timesteps)
        self.decoder = Coder(*up, layer.ConvTranspose2d(widths[0], channels, 3, 1, 1, step_mode="m"))
        self.memout = MembraneOutput(timesteps)

    def encode(self, pixels: Tensor) -> Tensor:
        return self.vq_layer.indices(self.encoder.snn_convs(pixels.expand(self.timesteps, *pixels.shape)))

    def decode(self, indices: Tensor) -> Tensor:
        vectors = self.vq_layer.code_vectors(indices)
        spikes = self.vq_layer.poisson(vectors.expand(self.timesteps, *vectors.shape))
        return torch.tanh(self.memout(self.decoder.snn_convs(spikes)))


class AuthorsDenoiser(nn.Module):
    """``forward(x: (N, 1, h, w) token indices, t: (N,)) -> (N, codes, h, w)``."""

    def __init__(
        self, codes: int = 128, widths: tuple[int, ...] = (64, 128, 256, 512, 256), timesteps: int = 16
    ) -> None:
        super().__init__()
        self.timesteps, self.depth = timesteps, len(widths)
        for index, (cin, cout) in enumerate(pairwise((2, *widths))):
            self.add_module(f"conv{index + 1}", nn.Sequential(*spiking(layer.Conv2d, cin, cout, 3, 1, 1)))
        head = layer.Conv2d(widths[-1] + widths[0], codes, 3, 1, 1, step_mode="m")
        self.add_module(f"conv{len(widths) + 1}", nn.Sequential(head))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        both = torch.cat([x, torch.ones_like(x) * t[:, None, None, None]], dim=1)
        h = first = self.get_submodule("conv1")(both.expand(self.timesteps, *both.shape))
        for index in range(1, self.depth):
            h = self.get_submodule(f"conv{index + 1}")(h)
        logits = self.get_submodule(f"conv{self.depth + 1}")(torch.cat([h, first], dim=2))
        return torch.sum(logits, dim=0) / self.timesteps
