"""The table of supported layers. It drives the tracer, the tests and the support matrix of the docs.

A handler turns one traced call into one operation. It receives the module (None for a function), the operations of its
inputs and a :class:`Call`, and raises :class:`LoweringError` where a parameter is not supported.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from spikegen.errors import LoweringError
from spikegen.lowering.graph import (
    AddOp,
    ConcatOp,
    ConvOp,
    FloatArray,
    GainOp,
    InputOp,
    NeuronOp,
    NormOp,
    Op,
    ReadoutOp,
    Shape,
    UpsampleOp,
)
from spikegen.lowering.transposed import transposed_conv
from spikegen.models.coding import DirectCoding
from spikegen.models.gain import TemporalGain
from spikegen.models.hard_reset import HardResetNeuron
from spikegen.models.neuron import SpikingNeuron
from spikegen.models.readouts import FusedReadout, MeanReadout, MembraneReadout, TemporalReadout
from spikegen.models.swish_tail import SwishTailReadout
from spikegen.program.numerics import DECAY_MAX, DECAY_UNITY
from spikegen.program.tail import SwishTail


@dataclass(frozen=True)
class Call:
    """One call in the traced graph: its dotted name and its keyword arguments."""

    name: str
    arguments: Mapping[str, Any]


Handler = Callable[[Any, Sequence[Op], Call], Op]


@dataclass(frozen=True)
class Layer:
    """One row of the support matrix.

    Attributes:
        handler: makes the operation.
        becomes: what the layer is in a Program.
        arguments: keyword arguments that ``handler`` knows.
    """

    handler: Handler
    becomes: str
    arguments: tuple[str, ...] = ()


def _array(tensor: torch.Tensor) -> FloatArray:
    array: FloatArray = tensor.detach().double().numpy()
    return array


def _refuse(call: Call, what: str) -> LoweringError:
    return LoweringError(f"{call.name}: {what}")


def _pair(value: Any) -> tuple[int, int]:
    return (int(value[0]), int(value[1])) if isinstance(value, tuple | list) else (int(value), int(value))


def _conv2d(module: nn.Conv2d, inputs: Sequence[Op], call: Call) -> Op:
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise _refuse(call, f"padding {module.padding!r} with mode {module.padding_mode!r}; use integers and zeros")
    stride, padding, dilation = _pair(module.stride), _pair(module.padding), _pair(module.dilation)
    bias = torch.zeros(module.out_channels) if module.bias is None else module.bias
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(inputs[0].shape[1:], _pair(module.kernel_size), stride, padding, dilation, strict=True)
    ]
    if min(size) < 1:
        raise _refuse(call, f"its output would have {size[0]} x {size[1]} pixels; use more padding or a smaller kernel")
    shape = (module.out_channels, size[0], size[1])
    weight = _array(module.weight)
    return ConvOp(call.name, (inputs[0].name,), shape, weight, _array(bias), stride, padding, dilation, module.groups)


def _conv_transpose2d(module: nn.ConvTranspose2d, inputs: Sequence[Op], call: Call) -> Op:
    if module.padding_mode != "zeros":
        raise _refuse(call, f"padding mode {module.padding_mode!r}; use zeros")
    bias = torch.zeros(module.out_channels) if module.bias is None else module.bias
    return transposed_conv(
        call.name,
        inputs[0],
        _array(module.weight),
        _array(bias),
        _pair(module.stride),
        _pair(module.padding),
        _pair(module.output_padding),
        _pair(module.dilation),
        module.groups,
    )


def _folded_norm(module: nn.BatchNorm2d, call: Call) -> tuple[FloatArray, FloatArray]:
    """Scale and shift of a BatchNorm in evaluation mode, float64 [C] each."""
    if module.running_mean is None or module.running_var is None:
        raise _refuse(call, "BatchNorm without running statistics cannot be folded; use track_running_stats=True")
    gain = _array(module.weight) if module.affine else np.ones(module.num_features)
    shift = _array(module.bias) if module.affine else np.zeros(module.num_features)
    scale = gain / np.sqrt(_array(module.running_var) + module.eps)
    return scale, shift - _array(module.running_mean) * scale


def _batch_norm(module: nn.BatchNorm2d, inputs: Sequence[Op], call: Call) -> Op:
    return NormOp(call.name, (inputs[0].name,), inputs[0].shape, *_folded_norm(module, call))


def _gain(module: TemporalGain, inputs: Sequence[Op], call: Call) -> Op:
    return GainOp(call.name, (inputs[0].name,), inputs[0].shape, _array(module.gains))


def _upsample(module: nn.Upsample, inputs: Sequence[Op], call: Call) -> Op:
    factor = module.scale_factor
    if module.mode != "nearest" or not isinstance(factor, int | float) or factor != int(factor):
        raise _refuse(
            call, f"upsampling mode {module.mode!r}, factor {factor}; use nearest with one integer scale_factor"
        )
    c, h, w = inputs[0].shape
    return UpsampleOp(call.name, (inputs[0].name,), (c, h * int(factor), w * int(factor)), int(factor))


def _neuron(module: SpikingNeuron, inputs: Sequence[Op], call: Call) -> Op:
    neuron = module.neuron
    special = neuron.norm is not None or neuron.drop is not None or neuron.graded_spike or neuron.persistent_state
    if special or not neuron.shared_param:
        raise _refuse(
            call, "per-channel decays, norm, dropout, graded spikes and persistent state of a neuron are not supported"
        )
    decay, leak = int(neuron.cx_current_decay), int(neuron.cx_voltage_decay)
    if not (1 <= decay <= 4096 and 0 <= leak <= 4095):
        raise _refuse(
            call,
            f"decays are {decay}/4096 and {leak}/4096; Loihi takes 1..4096 for the current, 0..4095 for the membrane",
        )
    if not 0.0 < module.gain < math.inf:
        raise _refuse(call, f"its gain is {module.gain}; it must be > 0 and finite")
    threshold = float(neuron.threshold) / module.gain  # the same neuron on an input that is not scaled
    return NeuronOp(call.name, (inputs[0].name,), inputs[0].shape, threshold, decay - 1, leak)


def _hard_reset(module: HardResetNeuron, inputs: Sequence[Op], call: Call) -> Op:
    if not (math.isfinite(module.threshold) and module.threshold > 0 and 0.0 <= module.voltage_decay < 1.0):
        raise _refuse(
            call,
            f"its threshold is {module.threshold} and its decay {module.voltage_decay}; "
            "the threshold must be > 0, the decay in [0, 1)",
        )
    # It fires at >=, Loihi at >: the largest number below the threshold is what Loihi's must be.
    threshold = math.nextafter(module.threshold, 0.0)
    if module.decay_input:  # the same neuron on an input that is not scaled
        threshold /= module.voltage_decay
    leak = round(module.voltage_decay * DECAY_UNITY)
    return NeuronOp(call.name, (inputs[0].name,), inputs[0].shape, threshold, DECAY_MAX, leak)


def _average_pool(module: nn.AvgPool2d, inputs: Sequence[Op], call: Call) -> Op:
    kernel, stride = _pair(module.kernel_size), _pair(module.stride)
    if module.ceil_mode or module.divisor_override is not None or _pair(module.padding) != (0, 0):
        raise _refuse(call, "pooling with padding, ceil_mode or a divisor_override is not supported")
    channels, height, width = inputs[0].shape
    size = ((height - kernel[0]) // stride[0] + 1, (width - kernel[1]) // stride[1] + 1)
    if min(size) < 1:
        raise _refuse(call, f"its output would have {size[0]} x {size[1]} pixels; use a smaller kernel")
    weight = np.full((channels, 1, *kernel), 1.0 / math.prod(kernel))
    return ConvOp(call.name, (inputs[0].name,), (channels, *size), weight, np.zeros(channels), stride, groups=channels)


def _same(_module: Any, inputs: Sequence[Op], _call: Call) -> Op:
    return inputs[0]


def _coding(_module: DirectCoding, inputs: Sequence[Op], call: Call) -> Op:
    if not isinstance(inputs[0], InputOp):
        raise _refuse(call, f"direct coding repeats the input image, not {inputs[0].name}")
    return inputs[0]


def _readout(module: TemporalReadout, inputs: Sequence[Op], call: Call) -> Op:
    return ReadoutOp(call.name, (inputs[0].name,), inputs[0].shape, _array(module.weights()))


def _swish_tail(module: SwishTailReadout, inputs: Sequence[Op], call: Call) -> Op:
    scale, shift = _folded_norm(module.norm, call)
    mix_scale, mix_shift = _folded_norm(module.mix_norm, call)
    biases = [
        np.zeros(conv.out_channels) if conv.bias is None else _array(conv.bias) for conv in (module.conv, module.mix)
    ]
    tail = SwishTail(
        norm_scale=scale,
        norm_shift=shift,
        weight=_array(module.conv.weight),
        bias=biases[0],
        gains=_array(module.gain.gains) if isinstance(module.gain, TemporalGain) else np.ones(module.timesteps),
        mix_weight=_array(module.mix.weight) * mix_scale[:, None, None, None],
        mix_bias=biases[1] * mix_scale + mix_shift,
    )
    return ReadoutOp(call.name, (inputs[0].name,), inputs[0].shape, _array(module.weights()), tail)


def add_handler(_module: None, inputs: Sequence[Op], call: Call) -> Op:
    """The sum of two values; the tracer handles a sum with a value of the diffusion step itself."""
    if len(inputs) != 2 or inputs[0].shape != inputs[1].shape:
        raise _refuse(call, "only the sum of two values of one shape is supported")
    return AddOp(call.name, (inputs[0].name, inputs[1].name), inputs[0].shape)


def _concat(_module: None, inputs: Sequence[Op], call: Call) -> Op:
    dim = call.arguments.get("dim", 0)
    if dim != 1:
        raise _refuse(call, f"concatenation along dimension {dim}; only channels (1) are supported")
    first: Shape = inputs[0].shape
    if any(op.shape[1:] != first[1:] for op in inputs):
        raise _refuse(call, f"concatenation of {[op.shape for op in inputs]}; height and width must agree")
    shape = (sum(op.shape[0] for op in inputs), first[1], first[2])
    return ConcatOp(call.name, tuple(op.name for op in inputs), shape)


LAYERS: dict[Any, Layer] = {
    nn.Conv2d: Layer(_conv2d, "Conv projections (split by source population)"),
    nn.ConvTranspose2d: Layer(_conv_transpose2d, "sub-pixel Conv on the small grid"),
    nn.BatchNorm2d: Layer(_batch_norm, "folded into the convolution before it"),
    TemporalGain: Layer(
        _gain, "folded into the convolution before it: payloads of its spikes, and a bias that changes over time"
    ),
    nn.AvgPool2d: Layer(_average_pool, "depthwise Conv, composed with a 1x1 convolution behind it"),
    nn.Upsample: Layer(_upsample, "nearest, integer factor: sub-pixel Conv on the small grid"),
    nn.Identity: Layer(_same, "nothing"),
    HardResetNeuron: Layer(_hard_reset, "Lif population (one per concatenated part); >= becomes >"),
    SpikingNeuron: Layer(_neuron, "Lif population (one per concatenated part)"),
    DirectCoding: Layer(_coding, "the Input port, which repeats its frame"),
    MembraneReadout: Layer(_readout, "Readout, summed by the host with weights decay^(T-1-t)"),
    MeanReadout: Layer(_readout, "Readout, summed by the host with weights 1/T"),
    FusedReadout: Layer(_readout, "Readout, summed by the host with both, mixed"),
    SwishTailReadout: Layer(
        _swish_tail, "Readout of the residual stream, with SDDPM's tail on the host before the weighted sum"
    ),
    operator.add: Layer(
        add_handler,
        "several projections into one population; bias table if one side depends on the diffusion step only",
    ),
    torch.add: Layer(add_handler, "as the operator +"),
    torch.cat: Layer(_concat, "separate populations or projections, along channels", ("dim",)),
}
