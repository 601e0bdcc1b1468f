"""The chain that grows while the layers of a file are read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from spikegen.errors import ExchangeError
from spikegen.exporters.netx.neurons import Neurons
from spikegen.exporters.netx.numbers import array, shape
from spikegen.exporters.netx.structure import NetxLayer
from spikegen.exporters.netx.synapses import IntArray, mantissas
from spikegen.program import Conv, Dense, Input, Lif, Population, Projection, Readout
from spikegen.program.ir import NEURONS_MAX, Shape
from spikegen.program.numerics import BIAS_MANT_MAX, BIAS_MANT_MIN, DECAY_MAX, WEIGHT_EXP_MAX

# What one file may ask for: a hostile one of a few bytes could declare paddings and layers that take days.
MACS_MAX = 1 << 38
DELAY_MAX = 62  # lava-dl ``slayer/block/cuba.py`` and ``netx/hdf5.py``


@dataclass(eq=False)
class Builder:
    """Populations and projections in order.

    Attributes:
        timesteps: T.
        port: the input; None until its shape is known.
        bits: message bits of an input that the file does not describe.
        streamed: whether every timestep has an input of its own.
        listed: the last value is a list of neurons in netx.
        flattened: a flatten layer waits for its dense layer.
        warnings: what the user should know.
    """

    timesteps: int
    bits: int
    streamed: bool
    port: Input | None = None
    listed: bool = False
    flattened: bool = False
    populations: list[Population] = field(default_factory=list)
    projections: list[Projection] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    neurons: int = 0
    macs: int = 0

    def begin(self, shape: Shape) -> None:
        """The input has this shape."""
        self.port = Input("input", shape, self.bits, 1.0, streamed=self.streamed)

    def source(self, layer: NetxLayer) -> tuple[str, Shape]:
        """Name and shape of what ``layer`` reads.

        Raises:
            ExchangeError: nothing says the shape.
        """
        if self.populations:
            return self.populations[-1].name, self.populations[-1].shape
        if self.port is None:
            raise ExchangeError(
                f"{layer.name}: nothing says the shape of the input; the file has no input layer, give --input"
            )
        return self.port.name, self.port.shape

    def image(self, layer: NetxLayer) -> tuple[str, Shape]:
        """The same, for a layer that reads an image."""
        if self.listed or self.flattened:
            raise ExchangeError(
                f"{layer.name}: it needs (channels, height, width), and comes behind a flatten or dense"
            )
        return self.source(layer)

    def conv(
        self,
        layer: NetxLayer,
        weight: IntArray,
        neurons: Neurons,
        *,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        shuffle: int = 1,
    ) -> None:
        """A convolution and the population behind it, of the shape that the layer declares.

        Raises:
            ExchangeError: it does not fit, or is too large.
        """
        name, source = self.image(layer)
        target = shape(layer)
        mantissa, exponent = _weight(layer, weight)
        conv = Conv(
            f"{name}->layer{layer.index}",
            name,
            f"layer{layer.index}",
            mantissa,
            exponent,
            stride,
            padding,
            dilation,
            groups,
            shuffle,
        )
        per_group = source[0] / max(1, groups)
        if min(*stride, *dilation, groups) < 1 or weight.shape[1] != per_group or len(weight) % max(1, groups):
            raise ExchangeError(
                f"{layer.name}: weight {weight.shape} with {groups} groups, stride {stride} and dilation {dilation} "
                f"does not fit its {source[0]} input channels"
            )
        if conv.target_shape(source) != target:
            raise ExchangeError(
                f"{layer.name}: shape is {target}, its input of shape {source} makes {conv.target_shape(source)}"
            )
        self._add(layer, conv, neurons, target, math.prod(target) // shuffle**2 * math.prod(weight.shape[1:]))

    def dense(self, layer: NetxLayer, weight: IntArray, neurons: Neurons, target: Shape) -> None:
        """A dense projection and the population behind it."""
        name, _ = self.source(layer)
        mantissa, exponent = _weight(layer, weight)
        end = f"layer{layer.index}"
        self._add(layer, Dense(f"{name}->{end}", name, end, mantissa, exponent), neurons, target, weight.size)
        self.listed, self.flattened = True, False

    def _add(self, layer: NetxLayer, projection: Projection, neurons: Neurons, target: Shape, macs: int) -> None:
        self.neurons += math.prod(target) * self.timesteps
        self.macs += macs
        if self.neurons > NEURONS_MAX or self.macs * self.timesteps > MACS_MAX:
            raise ExchangeError(
                f"{layer.name}: with it the network has {self.neurons} values and {self.macs * self.timesteps} "
                f"multiply-accumulates over {self.timesteps} timesteps, the limits are {NEURONS_MAX} and {MACS_MAX}"
            )
        if self.populations and isinstance(self.populations[-1], Readout):
            raise ExchangeError(f"{layer.name}: the layer before it never fires (vThMant), so it can only be the last")
        self.projections.append(projection)
        self.populations.append(self._population(layer, neurons, target))

    def _population(self, layer: NetxLayer, neurons: Neurons, target: Shape) -> Population:
        name, bias, delays = f"layer{layer.index}", _bias(layer, target), self._delays(layer, target)
        if not neurons.fires:
            if bias.any() or delays.any():
                raise ExchangeError(f"{layer.name}: its neurons never fire (vThMant); they take no bias and no delay")
            return Readout(name, target, np.ones(self.timesteps), np.zeros(target[0]))
        if bias.any() and neurons.du < DECAY_MAX:
            self.warnings.append(
                f"{layer.name}: its bias goes to the membrane, as netx does it; SLAYER adds it to the current, which "
                "decays"
            )
        if bias.any() and delays.any():
            self.warnings.append(
                f"{layer.name}: bias and delays: its spikes are delayed, as SLAYER does it; netx delays its synapses "
                "and not its bias"
            )
        return Lif(name, target, neurons.vth, neurons.du, neurons.dv, bias.astype(np.int16), 6, delays=delays)

    def _delays(self, layer: NetxLayer, target: Shape) -> npt.NDArray[np.int32]:
        """Axonal delays int32 [C, H, W], empty if there are none."""
        if "delay" not in layer.fields:
            return np.empty(0, np.int32)
        found = array(layer, "delay").reshape(-1)
        if found.size not in {1, target[0], math.prod(target)}:
            raise ExchangeError(f"{layer.name}: {found.size} delays for {target[0]} channels")
        if found.min() < 0:
            raise ExchangeError(f"{layer.name}: a delay is {found.min()}, it must be at least 0")
        if found.max() > DELAY_MAX:
            self.warnings.append(f"{layer.name}: a delay of {found.max()} becomes {DELAY_MAX}, as netx does it")
        if not found.any():
            return np.empty(0, np.int32)
        if layer.type == "conv":
            self.warnings.append(f"{layer.name}: its neurons have delays, as in SLAYER; netx ignores those of a conv")
        each = found.reshape(target if found.size == math.prod(target) else (-1, 1, 1))
        return np.minimum(np.broadcast_to(each, target), DELAY_MAX).astype(np.int32)


def _bias(layer: NetxLayer, target: Shape) -> IntArray:
    """Bias mantissas int64 [C], exponent 6."""
    channels = target[0]
    if "bias" not in layer.fields:
        return np.zeros(channels, dtype=np.int64)
    found = array(layer, "bias")
    size = {"dense": math.prod(target), "input": 1}.get(layer.type, channels)
    if found.shape != (size,):
        raise ExchangeError(f"{layer.name}: bias has shape {found.shape}, its neurons {target}")
    each = np.broadcast_to(found, channels)[:, None] if found.size == 1 else found.reshape(channels, -1)
    if (each != each[:, :1]).any():
        raise ExchangeError(f"{layer.name}: its bias differs between the pixels of a channel")
    if found.min() < BIAS_MANT_MIN or found.max() > BIAS_MANT_MAX:
        raise ExchangeError(
            f"{layer.name}: bias is {found.min()}..{found.max()}, allowed {BIAS_MANT_MIN}..{BIAS_MANT_MAX}"
        )
    return each[:, 0]


def _weight(layer: NetxLayer, weight: IntArray) -> tuple[npt.NDArray[np.int8], int]:
    found = mantissas(weight, WEIGHT_EXP_MAX) if weight.size else None
    if found is None:
        reach = f"{weight.min()}..{weight.max()}" if weight.size else "nothing"
        raise ExchangeError(
            f"{layer.name}: its weights are {reach}; a Program has 8 bits and a shift: -128..127, or multiples of 2 in "
            "-256..254, and so on"
        )
    return found
