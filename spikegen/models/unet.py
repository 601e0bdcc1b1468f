"""The spiking U-Net of SDDPM (arXiv 2306.17046) on SLAYER neurons, with a spike-only tail."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikegen.errors import ConfigError
from spikegen.models.coding import DirectCoding
from spikegen.models.neuron import SpikingNeuron
from spikegen.models.readouts import MembraneReadout
from spikegen.models.sizes import is_size

# Far above any use, and small enough that a hostile configuration is refused before anything is built.
SIZE_LIMITS = {
    "image_size": 1024,
    "channels": 1024,
    "width": 4096,
    "blocks": 64,
    "middle_blocks": 64,
    "timesteps": 1024,
    "diffusion_steps": 1 << 16,
}
LEVELS_MAX, WIDEST = 10, 64


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a :class:`SpikingUNet`.

    Attributes:
        image_size: height and width of the square image [pixels]; divisible by 2 for every level below the first.
        channels: image channels.
        width: channels of the first level.
        multipliers: channels of level i are ``width * multipliers[i]``; each further level halves the resolution.
        blocks: residual blocks per level on the way down (one more on the way up, as in SDDPM).
        middle_blocks: residual blocks at the bottom.
        timesteps: T, SNN steps per evaluation of the network.
        diffusion_steps: number of diffusion steps the time embedding knows (t in 0 .. diffusion_steps - 1).
    """

    image_size: int = 8
    channels: int = 1
    width: int = 28
    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 1
    middle_blocks: int = 1
    timesteps: int = 4
    diffusion_steps: int = 1000

    def __post_init__(self) -> None:
        for name, limit in SIZE_LIMITS.items():
            value = getattr(self, name)
            if not is_size(value, limit):
                raise ConfigError(f"UNetConfig.{name} is {value!r}; it must be an integer in 1..{limit}")
        if not 1 <= len(self.multipliers) <= LEVELS_MAX or any(not is_size(m, WIDEST) for m in self.multipliers):
            raise ConfigError(
                f"UNetConfig.multipliers is {self.multipliers!r:.80}; "
                f"it must be 1..{LEVELS_MAX} integers in 1..{WIDEST}"
            )
        if self.width % 2:
            raise ConfigError(
                f"UNetConfig.width is {self.width}; it must be even (the time embedding has sines and cosines)"
            )
        if self.image_size % 2 ** (len(self.multipliers) - 1):
            raise ConfigError(
                f"UNetConfig.image_size is {self.image_size}; {len(self.multipliers)} levels need a multiple of "
                f"{2 ** (len(self.multipliers) - 1)}"
            )


class TimeEmbedding(nn.Module):
    """Sinusoidal embedding of the diffusion step and its two-layer Swish MLP, ``(N,) -> (N, out_features)``.

    Embedding: ``w_i = exp(-(2 i / dim) ln 10000)``, sines and cosines interleaved (SDDPM, ``model/SpikingUNet.py``).
    """

    def __init__(self, dim: int, out_features: int) -> None:
        super().__init__()
        frequencies = torch.exp(-torch.arange(0, dim, 2) / dim * math.log(10000.0))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.frequencies: Tensor
        self.mlp = nn.Sequential(
            nn.Linear(dim, out_features), nn.SiLU(), nn.Linear(out_features, out_features), nn.SiLU()
        )

    def forward(self, t: Tensor) -> Tensor:
        angles = t.to(self.frequencies.dtype)[:, None] * self.frequencies
        embedding: Tensor = self.mlp(torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1))
        return embedding


class TimeBias(nn.Module):
    """The bias that the diffusion step adds to every neuron of a channel, ``(N, E) -> (T * N, C, 1, 1)``."""

    def __init__(self, embedding_features: int, channels: int, timesteps: int) -> None:
        super().__init__()
        self.timesteps = timesteps
        self.linear = nn.Linear(embedding_features, channels)

    def forward(self, embedding: Tensor) -> Tensor:
        bias: Tensor = self.linear(embedding)
        return bias.repeat(self.timesteps, 1)[:, :, None, None]


class ConvNorm(nn.Sequential):
    """Convolution and BatchNorm; the statistics are shared over SNN time, as in SDDPM."""

    def __init__(self, cin: int, cout: int, stride: int = 1) -> None:
        super().__init__(nn.Conv2d(cin, cout, 3, stride=stride, padding=1), nn.BatchNorm2d(cout))


class ResidualBlock(nn.Module):
    """SDDPM's pre-spike residual block on a real-valued stream.

    Equations::

        a = BN1(conv1(IF1(x))) + time_bias ;  y = BN2(conv2(IF2(a))) + shortcut(x)

    ``shortcut`` is the identity, or a 1x1 convolution of the real-valued ``x`` where the width changes.
    """

    def __init__(self, cin: int, cout: int, embedding_features: int, timesteps: int) -> None:
        super().__init__()
        self.neuron1 = SpikingNeuron(timesteps)
        self.conv1 = ConvNorm(cin, cout)
        self.time = TimeBias(embedding_features, cout, timesteps)
        self.neuron2 = SpikingNeuron(timesteps)
        self.conv2 = ConvNorm(cout, cout)
        self.shortcut = nn.Identity() if cin == cout else nn.Conv2d(cin, cout, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        a = self.conv1(self.neuron1(x)) + self.time(embedding)
        y: Tensor = self.conv2(self.neuron2(a)) + self.shortcut(x)
        return y


class Resample(nn.Sequential):
    """Neuron, then a strided convolution (down) or nearest upsampling and a convolution (up), then BatchNorm."""

    def __init__(self, channels: int, timesteps: int, up: bool) -> None:
        neuron = SpikingNeuron(timesteps)
        if up:
            super().__init__(neuron, nn.Upsample(scale_factor=2, mode="nearest"), ConvNorm(channels, channels))
        else:
            super().__init__(neuron, ConvNorm(channels, channels, stride=2))


class SpikingUNet(nn.Module):
    """Predicts the noise in ``x`` at diffusion step ``t``.

    Structure of SDDPM's ``Spk_UNet``: stem, residual blocks with strided-convolution down and nearest-upsampling up,
    real-valued skips concatenated before a neuron; the tail is a neuron, one convolution and the 0.8-weighted sum, so
    that everything behind the first convolution is driven by spikes.

    Shapes:
        ``forward(x: (N, channels, size, size) float, t: (N,) int) -> (N, channels, size, size)``
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        steps, width = config.timesteps, config.width
        features = 4 * width
        self.coding = DirectCoding(steps)
        self.embedding = TimeEmbedding(width, features)
        self.stem = nn.Sequential(ConvNorm(config.channels, width), SpikingNeuron(steps), ConvNorm(width, width))

        self.down = nn.ModuleList()
        channels, skips = width, [width]
        last = len(config.multipliers) - 1
        for level, multiplier in enumerate(config.multipliers):
            for _ in range(config.blocks):
                self.down.append(ResidualBlock(channels, width * multiplier, features, steps))
                channels = width * multiplier
                skips.append(channels)
            if level != last:
                self.down.append(Resample(channels, steps, up=False))
                skips.append(channels)
        self.middle = nn.ModuleList(
            ResidualBlock(channels, channels, features, steps) for _ in range(config.middle_blocks)
        )
        self.up = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(config.multipliers))):
            for _ in range(config.blocks + 1):
                self.up.append(ResidualBlock(channels + skips.pop(), width * multiplier, features, steps))
                channels = width * multiplier
            if level != 0:
                self.up.append(Resample(channels, steps, up=True))
        self.tail = nn.Sequential(SpikingNeuron(steps), nn.Conv2d(channels, config.channels, 3, padding=1))
        self.readout = MembraneReadout(steps)

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
