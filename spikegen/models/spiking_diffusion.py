"""Spiking-Diffusion (arXiv 2308.10187): autoencoder and token denoiser as one model with one configuration."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from spikegen.errors import ConfigError
from spikegen.models.sdid import SDID
from spikegen.models.sizes import is_size
from spikegen.models.vqsvae import NEURONS, VQSVAE

# Far above any use, and small enough that a hostile configuration is refused before anything is built.
SIZE_LIMITS = {
    "image_size": 1024,
    "channels": 1024,
    "latent": 4096,
    "codes": 4096,
    "timesteps": 1024,
}
LAYERS_MAX, WIDEST, STRIDE_MAX = 16, 4096, 3


@dataclass(frozen=True)
class SpikingDiffusionConfig:
    """Sizes of a :class:`SpikingDiffusion`; :data:`PAPER` has those of the paper.

    Attributes:
        image_size: height and width of the square image [pixels], divisible by every stride in turn.
        channels: image channels.
        widths: channels of the encoder's 3x3 convolutions; the decoder mirrors them.
        strides: their strides, 1..3.
        latent: D, size of a code vector.
        codes: K, number of code vectors.
        denoiser_widths: channels of the denoiser's chain.
        timesteps: T, SNN steps per evaluation of each network.
        neuron: key of :data:`spikegen.models.vqsvae.NEURONS`: "slayer" (on lava-dl's CUBA), or "hard-reset"
            (SpikingJelly's ``LIFNode()`` in plain floating point).
    """

    image_size: int = 8
    channels: int = 1
    widths: tuple[int, ...] = (32, 64)
    strides: tuple[int, ...] = (2, 1)
    latent: int = 16
    codes: int = 64
    denoiser_widths: tuple[int, ...] = (64, 128, 128, 128, 64)
    timesteps: int = 8
    neuron: str = "slayer"

    def __post_init__(self) -> None:
        for name, limit in SIZE_LIMITS.items():
            value = getattr(self, name)
            if not is_size(value, limit):
                raise ConfigError(f"SpikingDiffusionConfig.{name} is {value!r}; it must be an integer in 1..{limit}")
        for name, limit in (("widths", WIDEST), ("strides", STRIDE_MAX), ("denoiser_widths", WIDEST)):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not _are_sizes(value, limit):
                raise ConfigError(
                    f"SpikingDiffusionConfig.{name} is {value!r:.80}; it must be 1..{LAYERS_MAX} integers in 1..{limit}"
                )
        if self.neuron not in NEURONS:
            raise ConfigError(
                f"SpikingDiffusionConfig.neuron is {self.neuron!r:.80}; it must be one of {', '.join(NEURONS)}"
            )
        if len(self.widths) != len(self.strides):
            raise ConfigError(f"SpikingDiffusionConfig has {len(self.widths)} widths and {len(self.strides)} strides")
        if self.codes < 2:
            raise ConfigError("SpikingDiffusionConfig.codes is 1; a token needs at least 2 code vectors")
        if self.image_size % math.prod(self.strides):
            raise ConfigError(
                f"SpikingDiffusionConfig.image_size is {self.image_size}; strides {self.strides} need a multiple of "
                f"{math.prod(self.strides)}"
            )

    @property
    def grid(self) -> int:
        """Height and width of the grid of tokens."""
        return self.image_size // math.prod(self.strides)

    @property
    def diffusion_steps(self) -> int:
        """T_d: as many diffusion steps as sites, as in the paper."""
        return self.grid**2


def _are_sizes(values: tuple[object, ...], limit: int) -> bool:
    return 1 <= len(values) <= LAYERS_MAX and all(is_size(value, limit) for value in values)


PAPER = SpikingDiffusionConfig(
    image_size=28, strides=(2, 2), codes=128, denoiser_widths=(64, 128, 256, 512, 256), timesteps=16
)


class SpikingDiffusion(nn.Module):
    """``autoencoder`` (:class:`VQSVAE`) and ``denoiser`` (:class:`SDID`)."""

    def __init__(self, config: SpikingDiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self.autoencoder = VQSVAE(
            config.channels,
            config.widths,
            config.strides,
            config.latent,
            config.codes,
            config.timesteps,
            config.neuron,
        )
        self.denoiser = SDID(config.denoiser_widths, config.codes, config.timesteps, config.neuron)
