"""A U-Net in the style of FSDDIM (arXiv 2312.01742): every message between layers is a binary spike."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikegen.models.coding import DirectCoding
from spikegen.models.denoiser import ImageDenoiser, TimeBias, TimeEmbedding
from spikegen.models.hard_reset import HardResetNeuron
from spikegen.models.readouts import MeanReadout
from spikegen.models.unet_sizes import UNetSizes

VOLTAGE_DECAY = 0.2  # V[n] = 0.8 V[n-1] + X[n] (FSDDIM's code)
BRANCH = 1 / math.sqrt(2)  # scale of each of the two addends of a residual sum (FSDDIM's code)


@dataclass(frozen=True)
class FSDDIMConfig(UNetSizes):
    """Sizes of an :class:`FSDDIM`."""


def neuron(config: FSDDIMConfig) -> HardResetNeuron:
    """FSDDIM's LIF: decay 0.8, threshold 1, hard reset."""
    return HardResetNeuron(config.timesteps, voltage_decay=VOLTAGE_DECAY)


class ConvNorm(nn.Sequential):
    """Convolution and BatchNorm whose scale starts at ``alpha`` (tdBN, arXiv 2011.05280, Eq. 6, threshold 1)."""

    def __init__(self, cin: int, cout: int, kernel: int, alpha: float = 1.0) -> None:
        norm = nn.BatchNorm2d(cout)
        nn.init.constant_(norm.weight, alpha)
        super().__init__(nn.Conv2d(cin, cout, kernel, padding=kernel // 2, bias=False), norm)


class SpikingBlock(nn.Module):
    """Residual block on spikes, with its neuron behind the sum.

    Equations::

        a = LIF(BN1(conv1(s)) + time_bias) ;  y = LIF(BN2(conv2(a)) + BN3(conv1x1(s)))
    """

    def __init__(self, cin: int, cout: int, config: FSDDIMConfig) -> None:
        super().__init__()
        self.conv1 = ConvNorm(cin, cout, 3)
        self.time = TimeBias(4 * config.width, cout, config.timesteps)
        self.neuron1 = neuron(config)
        self.conv2 = ConvNorm(cout, cout, 3, BRANCH)
        self.shortcut = ConvNorm(cin, cout, 1, BRANCH)
        self.neuron2 = neuron(config)

    def forward(self, s: Tensor, embedding: Tensor) -> Tensor:
        a = self.neuron1(self.conv1(s) + self.time(embedding))
        y: Tensor = self.neuron2(self.conv2(a) + self.shortcut(s))
        return y


class FSDDIM(ImageDenoiser):
    """Predicts the noise in ``x`` at diffusion step ``t``; nothing but spikes between the stem and the readout.

    Shortcuts, skips and their concatenations carry spikes; down is a 2x2 average pool and a 1x1 convolution, up nearest
    upsampling and a convolution, each with its own neuron; the output is a 1x1 convolution of all spikes of full
    resolution, averaged over SNN time. Of FSDDIM's design it leaves out the spiking time embedding (here it is a bias),
    the prediction of the velocity (here it is the noise) and the synaptic-current learning between diffusion steps.

    Shapes:
        ``forward(x: (N, channels, size, size) float, t: (N,) int) -> (N, channels, size, size)``
    """

    config: FSDDIMConfig

    def __init__(self, config: FSDDIMConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.coding = DirectCoding(config.timesteps)
        self.embedding = TimeEmbedding(width, 4 * width)
        self.stem = nn.Sequential(ConvNorm(config.channels, width, 3), neuron(config))

        self.down = nn.ModuleList()
        channels, skips, full = width, [width], width
        last = len(config.multipliers) - 1
        for level, multiplier in enumerate(config.multipliers):
            for _ in range(config.blocks):
                self.down.append(SpikingBlock(channels, width * multiplier, config))
                channels = width * multiplier
                skips.append(channels)
                full += channels if level == 0 else 0
            if level != last:
                self.down.append(nn.Sequential(nn.AvgPool2d(2), ConvNorm(channels, channels, 1), neuron(config)))
                skips.append(channels)
        self.middle = nn.ModuleList(SpikingBlock(channels, channels, config) for _ in range(config.middle_blocks))
        self.up = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(config.multipliers))):
            for _ in range(config.blocks + 1):
                self.up.append(SpikingBlock(channels + skips.pop(), width * multiplier, config))
                channels = width * multiplier
                full += channels if level == 0 else 0
            if level != 0:
                up = nn.Upsample(scale_factor=2, mode="nearest")
                self.up.append(nn.Sequential(up, ConvNorm(channels, channels, 3), neuron(config)))
        self.output = nn.Conv2d(full, config.channels, 1)
        self.readout = MeanReadout(config.timesteps)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        embedding = self.embedding(t)
        s = self.stem(self.coding(x))
        skips, full = [s], [s]
        level = 0
        for layer in self.down:
            if isinstance(layer, SpikingBlock):
                s = layer(s, embedding)
                if level == 0:
                    full.append(s)
            else:
                s = layer(s)
                level += 1
            skips.append(s)
        for layer in self.middle:
            s = layer(s, embedding)
        for layer in self.up:
            if isinstance(layer, SpikingBlock):
                s = layer(torch.cat([s, skips.pop()], dim=1), embedding)
                if level == 0:
                    full.append(s)
            else:
                s = layer(s)
                level -= 1
        noise: Tensor = self.readout(self.output(torch.cat(full, dim=1)))
        return noise
