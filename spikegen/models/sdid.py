"""The spiking discrete image denoiser (SDID) of Spiking-Diffusion (arXiv 2308.10187) on SLAYER neurons."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spikegen.models.coding import DirectCoding
from spikegen.models.readouts import MeanReadout
from spikegen.models.vqsvae import SpikingLayer


class SDID(nn.Module):
    """Logits of the tokens of a partly masked grid.

    The input has two real channels per site: the index of the token (K is the mask) and the diffusion step. A chain of
    3x3 convolutions with BatchNorm and LIF follows; the output of the last is concatenated with that of the first, and
    one more convolution gives K logits, averaged over time.

    Args:
        widths: channels of the chain.
        codes: K.
        timesteps: T.

    Shapes:
        ``forward(x: (N, 2, h, w)) -> (N, K, h, w)``
    """

    def __init__(self, widths: tuple[int, ...], codes: int, timesteps: int) -> None:
        super().__init__()
        self.coding = DirectCoding(timesteps)
        channels = 2
        self.layers = nn.ModuleList()
        for width in widths:
            self.layers.append(SpikingLayer(nn.Conv2d(channels, width, 3, padding=1), timesteps))
            channels = width
        self.head = nn.Conv2d(widths[-1] + widths[0], codes, 3, padding=1)
        self.readout = MeanReadout(timesteps)

    def forward(self, x: Tensor) -> Tensor:
        h = first = self.layers[0](self.coding(x))
        for layer in list(self.layers)[1:]:
            h = layer(h)
        logits: Tensor = self.readout(self.head(torch.cat([h, first], dim=1)))
        return logits


def denoiser_input(tokens: Tensor, t: Tensor) -> Tensor:
    """The input of :class:`SDID`: ``tokens`` int64 (N, h, w) with K for the mask, ``t`` int64 (N,) -> (N, 2, h, w)."""
    times = t[:, None, None].expand_as(tokens)
    return torch.stack([tokens, times], dim=1).to(torch.get_default_dtype())
