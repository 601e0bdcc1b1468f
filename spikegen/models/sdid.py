"""The spiking discrete image denoiser (SDID) of Spiking-Diffusion (arXiv 2308.10187)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spikegen.models.coding import DirectCoding
from spikegen.models.readouts import MeanReadout
from spikegen.models.vqsvae import SpikingLayer

TIME_SHARE = 1 / 8
SPREAD = 1.8  # standard deviations; a uniform distribution reaches 1.73
STEEPNESS = 8.0  # of the normalised input
NEIGHBOURS = 0.02  # what is left of the random weights of the other taps


class SDID(nn.Module):
    """Logits of the tokens of a partly masked grid.

    The input has two real channels per site: the index of the token (K is the mask) and the diffusion step. A chain of
    3x3 convolutions with BatchNorm and LIF follows; the output of the last is concatenated with that of the first, and
    one more convolution gives K logits, averaged over time.

    Args:
        widths: channels of the chain.
        codes: K.
        timesteps: T.
        neuron: key of :data:`spikegen.models.vqsvae.NEURONS`.

    Shapes:
        ``forward(x: (N, 2, h, w)) -> (N, K, h, w)``
    """

    def __init__(self, widths: tuple[int, ...], codes: int, timesteps: int, neuron: str = "slayer") -> None:
        super().__init__()
        self.coding = DirectCoding(timesteps)
        channels = 2
        self.layers = nn.ModuleList()
        for width in widths:
            self.layers.append(SpikingLayer(nn.Conv2d(channels, width, 3, padding=1), timesteps, neuron))
            channels = width
        _spread_thresholds(self.layers[0])
        self.head = nn.Conv2d(widths[-1] + widths[0], codes, 3, padding=1)
        self.readout = MeanReadout(timesteps)

    def forward(self, x: Tensor) -> Tensor:
        h = first = self.layers[0](self.coding(x))
        for layer in list(self.layers)[1:]:
            h = layer(h)
        logits: Tensor = self.readout(self.head(torch.cat([h, first], dim=1)))
        return logits


def _spread_thresholds(layer: SpikingLayer) -> None:
    """Start the first layer as a scale of thresholds over the numbers it reads.

    A token is a number, and what it means depends on which number, so the layers behind need it as a code of its own.
    Each channel starts on the token of its own site (a share of :data:`TIME_SHARE` on the diffusion step), with a steep
    BatchNorm: it fires above, or below, one of as many values as there are channels, spread over the range.
    """
    conv, norm = layer.conv, layer.norm
    channels = norm.num_features
    of_time = round(TIME_SHARE * channels)
    of_token = channels - of_time
    rising = torch.where(torch.arange(channels) % 2 == 0, 1.0, -1.0)
    thresholds = torch.cat([torch.linspace(-SPREAD, SPREAD, count) for count in (of_token, of_time)])
    with torch.no_grad():
        conv.weight.mul_(NEIGHBOURS)
        conv.weight[:of_token, 0, 1, 1] = 1.0
        conv.weight[of_token:, 1, 1, 1] = 1.0
        conv.weight.mul_(rising[:, None, None, None])
        norm.weight.fill_(STEEPNESS)
        norm.bias.copy_(1.0 - STEEPNESS * rising * thresholds)  # the neuron's threshold is 1


def denoiser_input(tokens: Tensor, t: Tensor) -> Tensor:
    """The input of :class:`SDID`: ``tokens`` int64 (N, h, w) with K for the mask, ``t`` int64 (N,) -> (N, 2, h, w)."""
    times = t[:, None, None].expand_as(tokens)
    return torch.stack([tokens, times], dim=1).to(torch.get_default_dtype())
