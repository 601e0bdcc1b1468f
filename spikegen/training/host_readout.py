"""The host's part of a readout as a torch module: the arithmetic of the runtime forward, real numbers that learn."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from spikegen.program import Readout

_TAIL = ("norm_scale", "norm_shift", "weight", "bias", "mix_weight", "mix_bias")


class Offset(nn.Module):
    """Real numbers that learn: ``start + unit * values``, with ``values`` of 0 at the start.

    ``unit`` is the root mean square of the start (1 where all of it is 0), so that one learning rate fits every tensor.

    Args:
        start: float64 numbers at the start.
    """

    def __init__(self, start: npt.NDArray[np.float64]) -> None:
        super().__init__()
        self.unit = float(np.sqrt(np.mean(np.square(start)))) or 1.0
        self.values = nn.Parameter(torch.zeros(start.shape, dtype=torch.float64))
        self.register_buffer("start", torch.from_numpy(start.copy()), persistent=False)
        self.start: Tensor

    def forward(self) -> Tensor:
        """The numbers, float64."""
        return self.start + self.unit * self.values

    def numbers(self) -> npt.NDArray[np.float64]:
        """The same for numpy."""
        found: npt.NDArray[np.float64] = self().detach().numpy()
        return found


class HostReadout(nn.Module):
    """``y = sum_t weights[t] * tail(scale * a[t] + bias[t])`` of ``readout``; biases and tail learn, weights do not.

    A tail is not linear, so the noise that quantisation adds to its input shifts the mean of what it returns: only
    numbers of the host can take that back.

    Args:
        readout: of a valid Program.
    """

    def __init__(self, readout: Readout) -> None:
        super().__init__()
        self.readout = readout
        self.bias = Offset(np.asarray(readout.bias))
        tail = readout.tail
        self.tail = nn.ModuleDict({} if tail is None else {name: Offset(getattr(tail, name)) for name in _TAIL})

    def forward(self, current: Tensor) -> Tensor:
        """Of currents (T or 1, N, C, H, W): float64 (N, O, H, W), in the order of :func:`host_readout`'s operations.

        See :func:`spikegen.runtime.readout.host_readout`.
        """
        readout, bias = self.readout, self.bias()
        layers = {name: layer() for name, layer in self.tail.items()}
        total = torch.zeros((current.shape[1], *readout.output_shape), dtype=torch.float64)
        for t, weight in enumerate(readout.weights.tolist()):
            value = current[t if len(current) > 1 else 0].double() * readout.scale
            value = value + bias[t][:, None, None]
            if readout.tail is not None:
                value = _swish_tail(layers, float(readout.tail.gains[t]), value)
            total = total + value * weight
        return total

    def to_readout(self) -> Readout:
        """The readout with the numbers that were learnt."""
        found: dict[str, Any] = {name: layer.numbers() for name, layer in self.tail.items()}
        tail = self.readout.tail
        return dataclasses.replace(
            self.readout,
            bias=self.bias.numbers(),
            tail=None if tail is None else dataclasses.replace(tail, **found),
        )


def _swish_tail(layers: dict[str, Tensor], gain: float, x: Tensor) -> Tensor:
    """:class:`~spikegen.program.SwishTail` at one timestep on (N, C, H, W)."""
    x = functional.silu(x * layers["norm_scale"][:, None, None] + layers["norm_shift"][:, None, None])
    weight, mix = layers["weight"], layers["mix_weight"]
    q = functional.conv2d(x, weight, layers["bias"], padding=(weight.shape[2] // 2, weight.shape[3] // 2)) * gain
    mixed = functional.conv2d(q, mix, layers["mix_bias"], padding=(mix.shape[2] // 2, mix.shape[3] // 2))
    value: Tensor = functional.silu(mixed) + q
    return value
