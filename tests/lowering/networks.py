"""Small torch models with dyadic weights, on which float arithmetic is exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from spikegen.models import SpikingNeuron, SpikingUNet, UNetConfig
from spikegen.models.coding import DirectCoding
from spikegen.models.gain import TemporalGain
from spikegen.models.readouts import MembraneReadout
from spikegen.models.unet import ResidualBlock

TIMESTEPS, STEPS, EMBEDDING = 3, 4, 8
Model = TypeVar("Model", bound=nn.Module)


def on_grid(model: Model, seed: int = 0) -> Model:
    """Random multiples of 1/8 for every weight, of 1/2 for gains; BatchNorm with power-of-two scales."""
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor: Tensor, low: int, high: int) -> Tensor:
        return torch.randint(low, high + 1, tensor.shape, generator=generator).to(tensor.dtype)

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.Embedding):
                module.weight.copy_(draw(module.weight, -4, 4) / 8)
                bias = getattr(module, "bias", None)
                if bias is not None:
                    bias.copy_(draw(bias, -4, 4) / 8)
            elif isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                assert module.running_var is not None
                module.eps = 0.0
                module.running_mean.copy_(draw(module.running_mean, -4, 4) / 8)
                module.running_var.copy_(4.0 ** draw(module.running_var, -1, 1))
                module.weight.copy_(2.0 ** draw(module.weight, -1, 1))
                module.bias.copy_(draw(module.bias, -4, 4) / 8)
        for module in model.modules():  # last, so that the other weights are those of the model without gains
            if isinstance(module, TemporalGain):
                module.gains.copy_(draw(module.gains, -1, 4) / 2)
    return model.eval()


class Network(nn.Module):
    """Direct coding, a body that ends with spikes, a convolution and a readout (by default of weights 2^-(T-1-t))."""

    def __init__(self, body: nn.Module, channels: int, readout: nn.Module | None = None) -> None:
        super().__init__()
        self.coding = DirectCoding(TIMESTEPS)
        self.time = nn.Embedding(STEPS, EMBEDDING)
        self.body = body
        self.tail = nn.Conv2d(channels, 1, 3, padding=1)
        self.readout = readout or MembraneReadout(TIMESTEPS, decay=0.5)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        y: Tensor = self.readout(self.tail(self.body(self.coding(x), self.time(t))))
        return y


class Plain(nn.Sequential):
    """A sequence that does not look at the diffusion step."""

    def forward(self, x: Tensor, _embedding: Tensor) -> Tensor:  # type: ignore[override]
        for layer in self:
            x = layer(x)
        return x


def neuron(
    threshold: float = 1.0, current_decay: float = 1.0, voltage_decay: float = 0.0, gain: float = 1.0
) -> SpikingNeuron:
    return SpikingNeuron(TIMESTEPS, threshold, current_decay, voltage_decay, gain)


class ConvNorm(nn.Sequential):
    """Convolution and BatchNorm."""

    def __init__(self, cin: int, cout: int, stride: int = 1) -> None:
        super().__init__(nn.Conv2d(cin, cout, 3, stride=stride, padding=1), nn.BatchNorm2d(cout))


class Residual(nn.Module):
    """Two residual blocks: the first widens through a 1x1 shortcut on the real-valued stream."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.stem = ConvNorm(channels, 2)
        config = UNetConfig(width=EMBEDDING // 4, timesteps=TIMESTEPS)
        self.wide = ResidualBlock(2, 4, config)
        self.deep = ResidualBlock(4, 4, config)
        self.last = neuron()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        y: Tensor = self.last(self.deep(self.wide(self.stem(x), embedding), embedding))
        return y


class Skip(nn.Module):
    """A concatenation with an upsampled branch; both halves of the skip are also read alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvNorm(1, 2), neuron())
        self.down = ConvNorm(2, 3, stride=2)
        self.fire = neuron()
        self.up = nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), ConvNorm(3, 3))
        self.real = ConvNorm(2, 2)
        self.alone = neuron()
        self.joined = neuron()
        self.mix = ConvNorm(5, 4)
        self.twice = nn.Conv2d(2, 4, 1, bias=False)
        self.last = neuron()

    def forward(self, x: Tensor, _embedding: Tensor) -> Tensor:
        low = self.stem(x)
        real = self.real(low)
        high = self.up(self.fire(self.down(low)))
        joined = self.joined(torch.cat([high, real], dim=1))
        y: Tensor = self.last(self.mix(joined) + self.twice(self.alone(real)))
        return y


def unet() -> SpikingUNet:
    """The U-Net itself, with a table in place of the embedding, whose sines are on no grid."""
    config = UNetConfig(8, 1, 2, (1, 2), 1, 1, TIMESTEPS, STEPS)
    model = SpikingUNet(config)
    model.embedding = nn.Embedding(STEPS, 8)  # type: ignore[assignment]
    model.readout = MembraneReadout(TIMESTEPS, decay=0.5)
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "chain": lambda: Network(Plain(ConvNorm(1, 3), neuron(0.5), ConvNorm(3, 4, stride=2), neuron()), 4),
    "leaky": lambda: Network(
        Plain(nn.Conv2d(1, 3, 3, bias=False), neuron(1.0, 0.25, 0.5), ConvNorm(3, 4), neuron(2.0, 1.0, 0.125)), 4
    ),
    "transposed": lambda: Network(
        Plain(
            ConvNorm(1, 3, stride=2),
            neuron(1.0, 1.0, 0.5, 0.5),
            nn.ConvTranspose2d(3, 4, 3, 2, 1, output_padding=1),
            nn.BatchNorm2d(4),
            neuron(0.5),
            nn.ConvTranspose2d(4, 4, 3, padding=1, groups=2),
            neuron(),
        ),
        4,
    ),
    "residual": lambda: Network(Residual(), 4),
    "skip": lambda: Network(Skip(), 4),
    "unet": unet,
}
