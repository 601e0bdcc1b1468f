"""Handlers of torch's layers and functions, and of the modules of this package."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from spikegen.lowering import geometry, spikingjelly_layers
from spikegen.lowering.calls import FIRST, Call, array, pair, refusal
from spikegen.lowering.graph import (
    AddOp,
    ConcatOp,
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
from spikegen.lowering.slayer_layers import cuba_decays
from spikegen.lowering.transposed import transposed_conv
from spikegen.models.coding import DirectCoding
from spikegen.models.gain import TemporalGain
from spikegen.models.hard_reset import HardResetNeuron
from spikegen.models.neuron import SpikingNeuron
from spikegen.models.readouts import TemporalReadout
from spikegen.models.swish_tail import SwishTailReadout
from spikegen.program.tail import SwishTail


def conv2d(module: nn.Conv2d, inputs: Sequence[Op], call: Call) -> Op:
    """nn.Conv2d."""
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise refusal(call, f"padding {module.padding!r} with mode {module.padding_mode!r}; use integers and zeros")
    stride, padding, dilation = pair(module.stride), pair(module.padding), pair(module.dilation)
    bias = np.zeros(module.out_channels) if module.bias is None else array(module.bias)
    return geometry.conv(call, inputs[0], array(module.weight), bias, stride, padding, dilation, module.groups)


def linear(module: nn.Linear, inputs: Sequence[Op], call: Call) -> Op:
    """nn.Linear."""
    bias = np.zeros(module.out_features) if module.bias is None else array(module.bias)
    return geometry.linear(call, inputs[0], array(module.weight), bias)


def conv_transpose2d(module: nn.ConvTranspose2d, inputs: Sequence[Op], call: Call) -> Op:
    """nn.ConvTranspose2d."""
    if module.padding_mode != "zeros":
        raise refusal(call, f"padding mode {module.padding_mode!r}; use zeros")
    if module.in_channels != inputs[0].shape[0]:
        raise refusal(call, f"it reads {module.in_channels} channels, {inputs[0].name} has {inputs[0].shape[0]}")
    bias = torch.zeros(module.out_channels) if module.bias is None else module.bias
    return transposed_conv(
        call.name,
        inputs[0],
        array(module.weight),
        array(bias),
        pair(module.stride),
        pair(module.padding),
        pair(module.output_padding),
        pair(module.dilation),
        module.groups,
    )


def _folded_norm(module: nn.BatchNorm1d | nn.BatchNorm2d, call: Call) -> tuple[FloatArray, FloatArray]:
    """Scale and shift of a BatchNorm in evaluation mode, float64 [C] each."""
    if module.running_mean is None or module.running_var is None:
        raise refusal(call, "BatchNorm without running statistics cannot be folded; use track_running_stats=True")
    gain = array(module.weight) if module.affine else np.ones(module.num_features)
    shift = array(module.bias) if module.affine else np.zeros(module.num_features)
    scale = gain / np.sqrt(array(module.running_var) + module.eps)
    return scale, shift - array(module.running_mean) * scale


def batch_norm(module: nn.BatchNorm2d, inputs: Sequence[Op], call: Call) -> Op:
    """nn.BatchNorm2d in evaluation mode."""
    if module.num_features != inputs[0].shape[0]:
        raise refusal(call, f"it norms {module.num_features} channels, {inputs[0].name} has {inputs[0].shape[0]}")
    return NormOp(call.name, (inputs[0].name,), inputs[0].shape, *_folded_norm(module, call))


def batch_norm_of_features(module: nn.BatchNorm1d, inputs: Sequence[Op], call: Call) -> Op:
    """nn.BatchNorm1d in evaluation mode, on features."""
    source = inputs[0]
    if not source.flat or source.shape[1:] != (1, 1) or module.num_features != source.shape[0]:
        raise refusal(
            call,
            f"it norms {module.num_features} features, its input is {source.shape}; norm pixels with BatchNorm2d, "
            "before they are flattened",
        )
    return NormOp(call.name, (source.name,), source.shape, *_folded_norm(module, call), flat=True)


def gain(module: TemporalGain, inputs: Sequence[Op], call: Call) -> Op:
    """TemporalGain."""
    return GainOp(call.name, (inputs[0].name,), inputs[0].shape, array(module.gains))


def upsample(module: nn.Upsample, inputs: Sequence[Op], call: Call) -> Op:
    """nn.Upsample, nearest."""
    factor = module.scale_factor
    if module.mode != "nearest" or not isinstance(factor, int | float) or factor != int(factor):
        raise refusal(
            call, f"upsampling mode {module.mode!r}, factor {factor}; use nearest with one integer scale_factor"
        )
    c, h, w = inputs[0].shape
    return UpsampleOp(call.name, (inputs[0].name,), (c, h * int(factor), w * int(factor)), int(factor))


def neuron(module: SpikingNeuron, inputs: Sequence[Op], call: Call) -> Op:
    """SpikingNeuron."""
    cuba = module.neuron
    if cuba.norm is not None or cuba.drop is not None:
        raise refusal(call, "norm and dropout of a neuron are not supported")
    du, dv = cuba_decays(cuba, call)
    if not 0.0 < module.gain < math.inf:
        raise refusal(call, f"its gain is {module.gain}; it must be > 0 and finite")
    threshold = float(cuba.threshold) / module.gain  # the same neuron on an input that is not scaled
    return NeuronOp(call.name, (inputs[0].name,), inputs[0].shape, threshold, du, dv)


def hard_reset(module: HardResetNeuron, inputs: Sequence[Op], call: Call) -> Op:
    """HardResetNeuron."""
    return spikingjelly_layers.hard_reset(
        inputs[0], call, module.threshold, module.voltage_decay, decay_input=module.decay_input
    )


def average_pool(module: nn.AvgPool2d, inputs: Sequence[Op], call: Call) -> Op:
    """nn.AvgPool2d without padding."""
    kernel, stride = pair(module.kernel_size), pair(module.stride)
    if module.ceil_mode or module.divisor_override is not None or pair(module.padding) != (0, 0):
        raise refusal(call, "pooling with padding, ceil_mode or a divisor_override is not supported")
    return geometry.mean_pool(call, inputs[0], kernel, stride)


def adaptive_pool(module: nn.AdaptiveAvgPool2d, inputs: Sequence[Op], call: Call) -> Op:
    """nn.AdaptiveAvgPool2d, where it divides the pixels into whole windows."""
    wanted = module.output_size if isinstance(module.output_size, tuple) else (module.output_size,) * 2
    size = inputs[0].shape[1:]
    target = tuple(n if out is None else int(out) for n, out in zip(size, wanted, strict=True))
    if any(n % out for n, out in zip(size, target, strict=True)):
        raise refusal(call, f"{size[0]} x {size[1]} pixels are no whole windows for {target[0]} x {target[1]}")
    kernel = (size[0] // target[0], size[1] // target[1])
    return geometry.mean_pool(call, inputs[0], kernel, kernel)


def max_pool(module: nn.MaxPool2d, inputs: Sequence[Op], call: Call) -> tuple[Op, ...]:
    """nn.MaxPool2d of spikes."""
    if not inputs[0].spikes:
        raise refusal(
            call,
            f"{inputs[0].name} is real-valued; the largest of spikes is exact: put the pool behind the neuron, or use "
            "AvgPool2d or a stride",
        )
    if module.ceil_mode or module.return_indices:
        raise refusal(call, "ceil_mode and return_indices are not supported")
    windows = (pair(value) for value in (module.kernel_size, module.stride, module.padding, module.dilation))
    return geometry.any_spike(call, inputs[0], *windows)


def dropout(module: Any, inputs: Sequence[Op], call: Call) -> Op:
    """nn.Dropout in evaluation mode."""
    if module.training:
        raise refusal(call, "dropout in training; call eval()")
    return inputs[0]


def same(_module: Any, inputs: Sequence[Op], _call: Call) -> Op:
    """nn.Identity."""
    return inputs[0]


def coding(_module: DirectCoding, inputs: Sequence[Op], call: Call) -> Op:
    """DirectCoding."""
    if not isinstance(inputs[0], InputOp):
        raise refusal(call, f"direct coding repeats the input image, not {inputs[0].name}")
    return inputs[0]


def readout(module: TemporalReadout, inputs: Sequence[Op], call: Call) -> Op:
    """A readout of this package."""
    return ReadoutOp(call.name, (inputs[0].name,), inputs[0].shape, array(module.weights()))


def swish_tail(module: SwishTailReadout, inputs: Sequence[Op], call: Call) -> Op:
    """SwishTailReadout."""
    scale, shift = _folded_norm(module.norm, call)
    mix_scale, mix_shift = _folded_norm(module.mix_norm, call)
    biases = [
        np.zeros(conv.out_channels) if conv.bias is None else array(conv.bias) for conv in (module.conv, module.mix)
    ]
    tail = SwishTail(
        norm_scale=scale,
        norm_shift=shift,
        weight=array(module.conv.weight),
        bias=biases[0],
        gains=array(module.gain.gains) if isinstance(module.gain, TemporalGain) else np.ones(module.timesteps),
        mix_weight=array(module.mix.weight) * mix_scale[:, None, None, None],
        mix_bias=biases[1] * mix_scale + mix_shift,
    )
    return ReadoutOp(call.name, (inputs[0].name,), inputs[0].shape, array(module.weights()), tail)


def add_handler(_module: None, inputs: Sequence[Op], call: Call) -> Op:
    """The sum of two values; the tracer handles a sum with a value of the diffusion step itself."""
    if len(inputs) != 2 or inputs[0].shape != inputs[1].shape or inputs[0].flat != inputs[1].flat:
        raise refusal(call, "only the sum of two values of one shape is supported")
    return AddOp(call.name, (inputs[0].name, inputs[1].name), inputs[0].shape, flat=inputs[0].flat)


def concat(_module: None, inputs: Sequence[Op], call: Call) -> Op:
    """torch.cat along channels."""
    dim = call.arguments.get("dim", 0)
    if not isinstance(dim, int) or call.axis(dim, inputs[0]) != 0:
        channels = 2 if call.time == FIRST else 1
        raise refusal(call, f"concatenation along dimension {dim}; only channels ({channels}) are supported")
    first: Shape = inputs[0].shape
    if any(op.shape[1:] != first[1:] for op in inputs):
        raise refusal(call, f"concatenation of {[op.shape for op in inputs]}; height and width must agree")
    shape = (sum(op.shape[0] for op in inputs), first[1], first[2])
    return ConcatOp(call.name, tuple(op.name for op in inputs), shape)
