"""The layer graph: a traced model as a list of float operations. The first three passes rewrite it.

Values are named by the operation that makes them. SNN time is implicit: every operation but the neuron, the readout
and what has gains is applied to each of the T timesteps alike. Shapes are (C, H, W).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from spikegen.program.tail import SwishTail

Shape: TypeAlias = tuple[int, int, int]
FloatArray: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Op:
    """An operation and the value it makes.

    Attributes:
        name: dotted path of the source module.
        inputs: names of the values it reads.
        shape: (C, H, W).
        flat: the model sees the value as a list of features, in (C, H, W) order.
        spikes: every number is 0 or 1.
        lag: timesteps by which the model sees the value later than the graph has it, at least 0. Delays that all paths
            share are left out of the graph, and where the model ends, the weights of the readout are moved.
    """

    name: str
    inputs: tuple[str, ...]
    shape: Shape
    flat: bool = field(default=False, kw_only=True)
    spikes: bool = field(default=False, kw_only=True)
    lag: int = field(default=0, kw_only=True)


@dataclass(frozen=True, eq=False)
class InputOp(Op):
    """The real-valued input image, repeated at every timestep."""


@dataclass(frozen=True, eq=False)
class ConvOp(Op):
    """Correlation with ``weight`` float64 [out * shuffle^2, in / groups, kh, kw], a shuffle, gains and a bias.

    ``y[t] = gains[t] conv(x[t]) + bias[t]``: ``gains`` is float64 [T] (None: 1), ``bias`` [T, out], or [out] for the
    same at every timestep.

    The shuffle is that of :func:`torch.nn.functional.pixel_shuffle`: row ``(c * shuffle + i) * shuffle + j`` of the
    weight makes the pixels ``(shuffle * y + i, shuffle * x + j)`` of channel c. ``taps`` bool [shuffle^2, kh, kw] says
    which taps a phase ``(i, j)`` of a sub-pixel kernel has; the others are zeros that no layer has (None: all are).
    """

    weight: FloatArray
    bias: FloatArray
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    shuffle: int = 1
    taps: npt.NDArray[np.bool_] | None = None
    gains: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class NormOp(Op):
    """Per-channel ``scale * x + shift`` (BatchNorm in evaluation mode), float64 [C] each."""

    scale: FloatArray
    shift: FloatArray


@dataclass(frozen=True, eq=False)
class GainOp(Op):
    """``gains[t] x[t]``, float64 [T] (TSM)."""

    gains: FloatArray


@dataclass(frozen=True, eq=False)
class UpsampleOp(Op):
    """Nearest-neighbour upsampling by an integer ``factor``."""

    factor: int


@dataclass(frozen=True, eq=False)
class AddOp(Op):
    """Sum of two values of one shape."""


@dataclass(frozen=True, eq=False)
class ConcatOp(Op):
    """Channel concatenation."""


@dataclass(frozen=True, eq=False)
class ConditionOp(Op):
    """Adds ``table[k]`` to every pixel at diffusion step k; float64 [K, C]."""

    table: FloatArray


@dataclass(frozen=True, eq=False)
class NeuronOp(Op):
    """A CUBA population: real threshold; ``du`` 0..4095 (with Loihi's offset of 1) and ``dv`` 0..4095 as in Loihi.

    A gain g of the input is a threshold of 1/g of the neuron's: the recurrences are linear between resets, and a reset
    to 0 has no scale.

    Attributes:
        threshold, du, dv: see above.
        bias: float64 [C], added to the membrane at every timestep, past the decay of the current; None: no bias.
        unit: real value of one unit of current in which the model's neuron counts (SLAYER); None: it does not count.
            Where the weights are whole units too, the population keeps it, and its state is rounded as the model's.
        delays: axonal delays, int32 [C, H, W], or empty for none.
    """

    threshold: float
    du: int
    dv: int
    bias: FloatArray | None = None
    unit: float | None = None
    delays: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))


@dataclass(frozen=True, eq=False)
class ReadoutOp(Op):
    """Weighted sum over time by the host, behind further layers of the host (``tail``) if there are any.

    ``weights`` is float64 [T].
    """

    weights: FloatArray
    tail: SwishTail | None = None


@dataclass(frozen=True)
class LayerGraph:
    """A traced model.

    Attributes:
        timesteps: T.
        steps: K, diffusion steps of the conditioning.
        ops: in topological order; the first is the input.
    """

    timesteps: int
    steps: int
    ops: tuple[Op, ...]

    def consumers(self, name: str) -> list[Op]:
        """The operations that read value ``name``."""
        return [op for op in self.ops if name in op.inputs]

    def macs(self, *, padded: bool = False) -> int:
        """Multiply-accumulates of one dense pass through every convolution, those of the host's tail included.

        Taps that fall on padding are none, unless ``padded`` (published counts have them).
        """
        shapes = {op.name: op.shape for op in self.ops}
        convs = [(op, shapes[op.inputs[0]]) for op in self.ops if isinstance(op, ConvOp)]
        convs += [found for op in self.ops if isinstance(op, ReadoutOp) for found in _tail_convs(op)]
        return sum(_conv_macs(conv, source, padded) for conv, source in convs)


def _tail_convs(readout: ReadoutOp) -> list[tuple[ConvOp, Shape]]:
    """The convolutions of a tail, which keep the size, and the shape of what each of them reads."""
    tail = readout.tail
    if tail is None:
        return []
    convs, source = [], readout.shape
    for weight, bias in ((tail.weight, tail.bias), (tail.mix_weight, tail.mix_bias)):
        padding = (weight.shape[2] // 2, weight.shape[3] // 2)
        shape = (len(bias), *source[1:])
        convs.append((ConvOp(readout.name, (), shape, weight, bias, padding=padding), source))
        source = shape
    return convs


def _conv_macs(conv: ConvOp, source: Shape, padded: bool) -> int:
    """Sum over the phases and taps of the output pixels where the tap lies inside the source, times the channels.

    With ``padded``, wherever it lies.
    """
    rows, columns = (
        np.array(
            [
                sum(padded or 0 <= position * stride + tap * dilation - padding < size for position in range(outputs))
                for tap in range(taps)
            ]
        )
        for size, outputs, taps, stride, padding, dilation in zip(
            source[1:],
            (size // conv.shuffle for size in conv.shape[1:]),
            conv.weight.shape[2:],
            conv.stride,
            conv.padding,
            conv.dilation,
            strict=True,
        )
    )
    inside = rows[:, None] * columns  # [kh, kw]
    present = np.ones((conv.shuffle**2, 1, 1), dtype=bool) if conv.taps is None else conv.taps
    return int((present * inside).sum()) * conv.shape[0] * conv.weight.shape[1]
