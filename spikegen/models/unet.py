"""The spiking U-Net of SDDPM (arXiv 2306.17046) and SDM (arXiv 2408.16467), as published or with a spike-only tail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikegen.errors import ConfigError
from spikegen.models.coding import DirectCoding
from spikegen.models.denoiser import ImageDenoiser, TimeBias, TimeEmbedding
from spikegen.models.gain import TemporalGain
from spikegen.models.hard_reset import HardResetNeuron
from spikegen.models.neuron import SpikingNeuron
from spikegen.models.readouts import MembraneReadout
from spikegen.models.swish_tail import SwishTailReadout
from spikegen.models.unet_sizes import UNetSizes

NEURONS: dict[str, Callable[[int], nn.Module]] = {
    "slayer": SpikingNeuron,
    "hard-reset": HardResetNeuron,
    "swish": lambda _timesteps: nn.SiLU(),
}
TAILS = ("spiking", "swish")


@dataclass(frozen=True)
class UNetConfig(UNetSizes):
    """Sizes and variant of a :class:`SpikingUNet`.

    Attributes:
        neuron: key of :data:`NEURONS`: "slayer" (IF on lava-dl's CUBA), "hard-reset" (SpikingJelly's IF in plain
            floating point), or "swish", the ANN of the same graph: no spikes, T = 1.
        tail: "spiking" (neuron, convolution, 0.8-weighted sum: spikes only), or "swish", SDDPM's, which the host
            computes.
        tsm: SDM's gain per SNN step behind every convolution.
    """

    neuron: str = "slayer"
    tail: str = "spiking"
    tsm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value, known in (("neuron", self.neuron, tuple(NEURONS)), ("tail", self.tail, TAILS)):
            if value not in known:
                raise ConfigError(f"UNetConfig.{name} is {value!r}; it must be one of {', '.join(known)}")
        if not isinstance(self.tsm, bool):
            raise ConfigError(f"UNetConfig.tsm is {self.tsm!r}; it must be true or false")
        if self.neuron == "swish" and (self.timesteps > 1 or self.tsm):
            raise ConfigError(
                f"UNetConfig.timesteps is {self.timesteps} and tsm {self.tsm}; a network without spikes has 1 timestep "
                "and no gains"
            )


class ConvNorm(nn.Sequential):
    """Convolution, TSM's gain if ``gained``, and BatchNorm; its statistics are shared over SNN time, as in SDDPM."""

    def __init__(self, cin: int, cout: int, config: UNetConfig, stride: int = 1) -> None:
        super().__init__(nn.Conv2d(cin, cout, 3, stride=stride, padding=1))
        if config.tsm:  # named, so that the keys of the BatchNorm are the same with and without
            self.add_module("gain", TemporalGain(config.timesteps))
        self.add_module("1", nn.BatchNorm2d(cout))


class ResidualBlock(nn.Module):
    """SDDPM's pre-spike residual block on a real-valued stream.

    Equations::

        a = BN1(conv1(IF1(x))) + time_bias ;  y = BN2(conv2(IF2(a))) + shortcut(x)

    ``shortcut`` is the identity, or a 1x1 convolution of the real-valued ``x`` where the width changes.
    """

    def __init__(self, cin: int, cout: int, config: UNetConfig) -> None:
        super().__init__()
        neuron = NEURONS[config.neuron]
        self.neuron1 = neuron(config.timesteps)
        self.conv1 = ConvNorm(cin, cout, config)
        self.time = TimeBias(4 * config.width, cout, config.timesteps)
        self.neuron2 = neuron(config.timesteps)
        self.conv2 = ConvNorm(cout, cout, config)
        self.shortcut = nn.Identity() if cin == cout else nn.Conv2d(cin, cout, 1)
        self.shortcut_gain = TemporalGain(config.timesteps) if config.tsm and cin != cout else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        a = self.conv1(self.neuron1(x)) + self.time(embedding)
        y: Tensor = self.conv2(self.neuron2(a)) + self.shortcut_gain(self.shortcut(x))
        return y


class Resample(nn.Sequential):
    """Neuron, then a strided convolution (down) or nearest upsampling and a convolution (up), then BatchNorm."""

    def __init__(self, channels: int, config: UNetConfig, up: bool) -> None:
        neuron = NEURONS[config.neuron](config.timesteps)
        if up:
            super().__init__(neuron, nn.Upsample(scale_factor=2, mode="nearest"), ConvNorm(channels, channels, config))
        else:
            super().__init__(neuron, ConvNorm(channels, channels, config, stride=2))


class SpikingUNet(ImageDenoiser):
    """SDDPM's ``Spk_UNet``: predicts the noise in ``x`` at diffusion step ``t``.

    Stem, residual blocks with strided-convolution down and nearest-upsampling up, real-valued skips concatenated before
    a neuron. The published tail computes with real numbers; the spiking tail is a neuron, one convolution and the
    0.8-weighted sum, so that everything behind the first convolution is driven by spikes.

    Shapes:
        ``forward(x: (N, channels, size, size) float, t: (N,) int) -> (N, channels, size, size)``
    """

    config: UNetConfig

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        steps, width, neuron = config.timesteps, config.width, NEURONS[config.neuron]
        self.coding = DirectCoding(steps)
        self.embedding = TimeEmbedding(width, 4 * width)
        self.stem = nn.Sequential(
            ConvNorm(config.channels, width, config), neuron(steps), ConvNorm(width, width, config)
        )

        self.down = nn.ModuleList()
        channels, skips = width, [width]
        last = len(config.multipliers) - 1
        for level, multiplier in enumerate(config.multipliers):
            for _ in range(config.blocks):
                self.down.append(ResidualBlock(channels, width * multiplier, config))
                channels = width * multiplier
                skips.append(channels)
            if level != last:
                self.down.append(Resample(channels, config, up=False))
                skips.append(channels)
        self.middle = nn.ModuleList(ResidualBlock(channels, channels, config) for _ in range(config.middle_blocks))
        self.up = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(config.multipliers))):
            for _ in range(config.blocks + 1):
                self.up.append(ResidualBlock(channels + skips.pop(), width * multiplier, config))
                channels = width * multiplier
            if level != 0:
                self.up.append(Resample(channels, config, up=True))
        self.tail: nn.Module
        self.readout: nn.Module
        if config.tail == "spiking":
            self.tail = nn.Sequential(neuron(steps), nn.Conv2d(channels, config.channels, 3, padding=1))
            self.readout = MembraneReadout(steps)
        else:
            self.tail = nn.Identity()
            self.readout = SwishTailReadout(channels, config.channels, steps, tsm=config.tsm)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        embedding = self.embedding(t)
        h = self.stem(self.coding(x))
        skips = [h]
        for layer in self.down:
            h = layer(h, embedding) if isinstance(layer, ResidualBlock) else layer(h)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, embedding)
        for layer in self.up:
            h = layer(torch.cat([h, skips.pop()], dim=1), embedding) if isinstance(layer, ResidualBlock) else layer(h)
        noise: Tensor = self.readout(self.tail(h))
        return noise
