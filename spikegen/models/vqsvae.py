"""The vector-quantised spiking autoencoder of Spiking-Diffusion (arXiv 2308.10187)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from spikegen.models.coding import DirectCoding
from spikegen.models.hard_reset import HardResetNeuron
from spikegen.models.neuron import SpikingNeuron
from spikegen.models.readouts import FusedReadout, MembraneReadout

PIXEL_SCALE = 0.5  # images in [-1, 1] become the authors' pixels in [-0.5, 0.5]
TAU = 2.0  # SpikingJelly's LIFNode default, which the authors use


def lif(timesteps: int) -> SpikingNeuron:
    """LIF with input decay and hard reset: ``U[n] = V[n-1] + (X[n] - V[n-1]) / 2``, threshold 1."""
    return SpikingNeuron(timesteps, voltage_decay=1 / TAU, gain=1 / TAU)


def float_lif(timesteps: int) -> HardResetNeuron:
    """The same in floating point, as SpikingJelly's ``LIFNode()`` computes it."""
    return HardResetNeuron(timesteps, voltage_decay=1 / TAU, decay_input=True)


NEURONS: dict[str, Callable[[int], nn.Module]] = {"slayer": lif, "hard-reset": float_lif}


class SpikingLayer(nn.Sequential):
    """A convolution (or transposed convolution), BatchNorm with statistics shared over SNN time, and LIF."""

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, timesteps: int, neuron: str) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels)
        self.neuron = NEURONS[neuron](timesteps)


class Encoder(nn.Module):
    """Pixels to latent features, ``(N, channels, size, size) -> (N, latent, grid, grid)``.

    3x3 convolutions with the given strides, then a 1x1 convolution to ``latent`` channels, each with BatchNorm and LIF;
    the spikes of the last are read with :class:`FusedReadout`.
    """

    def __init__(
        self, channels: int, widths: tuple[int, ...], strides: tuple[int, ...], latent: int, timesteps: int, neuron: str
    ) -> None:
        super().__init__()
        self.coding = DirectCoding(timesteps)
        self.layers = nn.Sequential()
        for width, stride in zip(widths, strides, strict=True):
            self.layers.append(SpikingLayer(nn.Conv2d(channels, width, 3, stride, 1), timesteps, neuron))
            channels = width
        self.latent = SpikingLayer(nn.Conv2d(channels, latent, 1), timesteps, neuron)
        self.readout = FusedReadout(timesteps)

    def spikes(self, pixels: Tensor) -> Tensor:
        """The latent spikes, ``(T * N, latent, grid, grid)``."""
        spikes: Tensor = self.latent(self.layers(self.coding(pixels)))
        return spikes

    def forward(self, pixels: Tensor) -> Tensor:
        latents: Tensor = self.readout(self.spikes(pixels))
        return latents


class Decoder(nn.Module):
    """Code vectors to the argument of the tanh, ``(N, latent, grid, grid) -> (N, channels, size, size)``.

    The adaptive spike generator (a 1x1 convolution, BatchNorm and LIF on the code vectors, which are held for T steps),
    3x3 transposed convolutions that mirror the encoder, each with BatchNorm and LIF, one 3x3 transposed convolution to
    ``channels``, and the 0.8-weighted sum over time.
    """

    def __init__(
        self, channels: int, widths: tuple[int, ...], strides: tuple[int, ...], latent: int, timesteps: int, neuron: str
    ) -> None:
        super().__init__()
        self.coding = DirectCoding(timesteps)
        self.generator = SpikingLayer(nn.Conv2d(latent, latent, 1), timesteps, neuron)
        self.layers = nn.Sequential()
        for width, stride in zip(reversed(widths), reversed(strides), strict=True):
            # output_padding = stride - 1 makes the size exactly `stride` times as large
            transposed = nn.ConvTranspose2d(latent, width, 3, stride, 1, output_padding=stride - 1)
            self.layers.append(SpikingLayer(transposed, timesteps, neuron))
            latent = width
        self.head = nn.ConvTranspose2d(latent, channels, 3, 1, 1)
        self.readout = MembraneReadout(timesteps)

    def image(self, spikes: Tensor) -> Tensor:
        """From the spikes of the generator, ``(T * N, latent, grid, grid)``, to the argument of the tanh."""
        value: Tensor = self.readout(self.head(self.layers(spikes)))
        return value

    def forward(self, codes: Tensor) -> Tensor:
        return self.image(self.generator(self.coding(codes)))


class VQSVAE(nn.Module):
    """Encoder, codebook and decoder.

    Pixels are in [-0.5, 0.5] (the authors' ``x - 0.5``); the image is ``tanh`` of the decoder's value.

    Args:
        channels: image channels.
        widths, strides: of the encoder's 3x3 convolutions.
        latent: D, channels of the latent spikes and size of a code vector.
        codes: K, number of code vectors.
        timesteps: T.
        neuron: key of :data:`NEURONS`.
    """

    def __init__(
        self,
        channels: int,
        widths: tuple[int, ...],
        strides: tuple[int, ...],
        latent: int,
        codes: int,
        timesteps: int,
        neuron: str = "slayer",
    ) -> None:
        super().__init__()
        self.encoder = Encoder(channels, widths, strides, latent, timesteps, neuron)
        self.codebook = nn.Parameter(torch.randn(codes, latent))
        self.decoder = Decoder(channels, widths, strides, latent, timesteps, neuron)

    def tokens(self, z: Tensor) -> Tensor:
        """Index of the nearest code vector (L2), ``(N, D, h, w) -> int64 (N, h, w)``."""
        flat = z.permute(0, 2, 3, 1).flatten(0, 2)
        distances = flat.square().sum(1, keepdim=True) - 2 * flat @ self.codebook.T + self.codebook.square().sum(1)
        return distances.argmin(1).view(z.shape[0], *z.shape[2:])

    def code_vectors(self, tokens: Tensor) -> Tensor:
        """``int64 (N, h, w) -> (N, D, h, w)``."""
        return self.codebook[tokens].permute(0, 3, 1, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        """Reconstruction of ``pixels`` (N, channels, size, size), in (-1, 1)."""
        return torch.tanh(self.decoder(self.code_vectors(self.tokens(self.encoder(pixels)))))
