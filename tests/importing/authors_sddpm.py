"""SDDPM's and SDM's network rebuilt on SpikingJelly, with the names of the authors' state_dict.

Written from the described structure (arXiv 2306.17046 and 2408.16467) and the names in their repositories
(github.com/AndyCao1125/SDDPM and SDM).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from spikingjelly.activation_based.neuron import IFNode
from torch import Tensor, nn
from torch.nn import functional


def neuron() -> nn.Module:
    result: nn.Module = IFNode(step_mode="m")
    return result


def folded(module: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply an image layer to (T, N, C, H, W), SNN time folded into the batch."""
    y: Tensor = module(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    return y


class GainedConv(nn.Module):
    """SDM's convolution: a gain for every SNN step on what it delivers, bias included."""

    def __init__(self, timesteps: int, conv: nn.Conv2d) -> None:
        super().__init__()
        self.tsmconv = conv
        self.tsmp = nn.Parameter(torch.ones(timesteps, 1, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.tsmconv(x).unflatten(0, (len(self.tsmp), -1)) * self.tsmp
        return y.flatten(0, 1)


class Convolutions:
    """Makes the convolutions of a network, with gains if there are ``gained`` SNN steps."""

    def __init__(self, gained: int) -> None:
        self.gained = gained

    def __call__(self, cin: int, cout: int, kernel: int = 3, stride: int = 1) -> nn.Module:
        conv = nn.Conv2d(cin, cout, kernel, stride=stride, padding=kernel // 2)
        return GainedConv(self.gained, conv) if self.gained else conv


class Resampling(nn.Module):
    def __init__(self, channels: int, convolution: Convolutions, up: bool) -> None:
        super().__init__()
        self.up = up
        self.conv = convolution(channels, channels, stride=1 if up else 2)
        self.bn = nn.BatchNorm2d(channels)
        self.neuron = neuron()

    def forward(self, x: Tensor, _temb: Tensor) -> Tensor:
        spikes = self.neuron(x)
        if self.up:
            spikes = folded(lambda s: functional.interpolate(s, scale_factor=2, mode="nearest"), spikes)
        return folded(lambda s: self.bn(self.conv(s)), spikes)


class Block(nn.Module):
    def __init__(self, cin: int, cout: int, temb: int, convolution: Convolutions) -> None:
        super().__init__()
        self.temb_proj = nn.Sequential(nn.SiLU(), nn.Linear(temb, cout))
        self.neuron1, self.neuron2 = neuron(), neuron()
        self.conv1, self.bn1 = convolution(cin, cout), nn.BatchNorm2d(cout)
        self.conv2, self.bn2 = convolution(cout, cout), nn.BatchNorm2d(cout)
        self.shortcut = nn.Identity() if cin == cout else convolution(cin, cout, kernel=1)

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        h = folded(lambda s: self.bn1(self.conv1(s)), self.neuron1(x))
        h = h + self.temb_proj(temb)[:, :, None, None]
        h = folded(lambda s: self.bn2(self.conv2(s)), self.neuron2(h))
        return h + folded(self.shortcut, x)


class TimeEmbedding(nn.Module):
    def __init__(self, steps: int, dim: int, out: int) -> None:
        super().__init__()
        frequencies = torch.exp(-(torch.arange(0, dim, step=2) / dim * math.log(10000)))
        angles = torch.arange(steps).float()[:, None] * frequencies[None, :]
        table = torch.stack([torch.sin(angles), torch.cos(angles)], dim=-1).view(steps, dim)
        self.timembedding = nn.Sequential(
            nn.Embedding.from_pretrained(table), nn.Linear(dim, out), nn.SiLU(), nn.Linear(out, out)
        )

    def forward(self, t: Tensor) -> Tensor:
        embedding: Tensor = self.timembedding(t)
        return embedding


class AuthorsUNet(nn.Module):
    """``forward(x: (N, C, S, S), t: (N,)) -> (N, C, S, S)``; ``tsm`` makes it SDM's."""

    def __init__(
        self,
        steps: int = 1000,
        ch: int = 128,
        ch_mult: tuple[int, ...] = (1, 2, 2, 4),
        num_res_blocks: int = 2,
        timestep: int = 4,
        img_ch: int = 3,
        *,
        tsm: bool = False,
    ) -> None:
        super().__init__()
        convolution, temb = Convolutions(timestep if tsm else 0), 4 * ch
        self.timestep = timestep
        self.time_embedding = TimeEmbedding(steps, ch, temb)
        self.conv, self.bn = convolution(img_ch, ch), nn.BatchNorm2d(ch)
        self.neuron = neuron()
        self.conv_identity, self.bn_identity = convolution(ch, ch), nn.BatchNorm2d(ch)
        widths, skips, last = ch, [ch], len(ch_mult) - 1
        self.downblocks, self.upblocks = nn.ModuleList(), nn.ModuleList()
        for level, mult in enumerate(ch_mult):
            for _ in range(num_res_blocks):
                self.downblocks.append(Block(widths, ch * mult, temb, convolution))
                widths = ch * mult
                skips.append(widths)
            if level < last:
                self.downblocks.append(Resampling(widths, convolution, up=False))
                skips.append(widths)
        self.middleblocks = nn.ModuleList(Block(widths, widths, temb, convolution) for _ in range(2))
        for level in range(last, -1, -1):
            for _ in range(num_res_blocks + 1):
                self.upblocks.append(Block(skips.pop() + widths, ch * ch_mult[level], temb, convolution))
                widths = ch * ch_mult[level]
            if level:
                self.upblocks.append(Resampling(widths, convolution, up=True))
        self.tail_bn = nn.BatchNorm2d(widths)
        self.tail_conv = convolution(widths, img_ch)
        self.T_output_layer = nn.Conv3d(img_ch, img_ch, (3, 3, 1), padding=(1, 1, 0))
        self.last_bn = nn.BatchNorm2d(img_ch)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        temb = self.time_embedding(t)
        h = folded(lambda i: self.bn(self.conv(i)), x.expand(self.timestep, *x.shape))
        h = folded(lambda s: self.bn_identity(self.conv_identity(s)), self.neuron(h))
        skips = [h]
        for layer in self.downblocks:
            h = layer(h, temb)
            skips.append(h)
        for layer in self.middleblocks:
            h = layer(h, temb)
        for layer in self.upblocks:
            h = layer(torch.cat([h, skips.pop()], dim=2) if isinstance(layer, Block) else h, temb)
        h = folded(lambda i: self.tail_conv(functional.silu(self.tail_bn(i))), h)
        mixed = self.T_output_layer(h.permute(1, 2, 3, 4, 0)).permute(4, 0, 1, 2, 3)
        h = functional.silu(folded(self.last_bn, mixed)) + h
        decays = torch.pow(0.8, torch.arange(self.timestep - 1, -1, -1).to(h))
        return torch.sum(h * decays[:, None, None, None, None], dim=0)
