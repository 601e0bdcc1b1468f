"""The table of supported layers. It drives the tracer, the tests and the support matrix of the docs.

A handler turns one traced call into operations. It receives the module (None for a function), the operations of its
inputs and a :class:`~spikegen.lowering.calls.Call`, and raises :class:`LoweringError` where a parameter is not
supported. Keys are classes and functions of torch and of this package; for methods of tensors and for other libraries,
which need not be installed, dotted names.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import nn

from spikegen.lowering import shape_calls, slayer_layers, spikingjelly_layers, torch_layers
from spikegen.lowering.calls import FIRST, FOLDED, LAST, STEP, TIMES, Layer
from spikegen.models.coding import DirectCoding
from spikegen.models.gain import TemporalGain
from spikegen.models.hard_reset import HardResetNeuron
from spikegen.models.neuron import SpikingNeuron
from spikegen.models.readouts import FusedReadout, MeanReadout, MembraneReadout
from spikegen.models.swish_tail import SwishTailReadout

_SHAPE = "nothing; features that become pixels: a Lif population that copies spikes"
_REPEATED = "the Input port: `x.unsqueeze(0).repeat(T, 1, 1, 1, 1)` of the input, or expand"
_OVER_TIME = "Readout, {} over SNN time by the host"
_BLOCK = "{} and a Lif population that counts as SLAYER does"

LAYERS: dict[Any, Layer] = {
    nn.Conv2d: Layer(torch_layers.conv2d, "Conv projections (split by source population)"),
    nn.ConvTranspose2d: Layer(torch_layers.conv_transpose2d, "sub-pixel Conv on the small grid"),
    nn.Linear: Layer(
        torch_layers.linear,
        "Conv projections with a kernel as large as the source",
        times=(FOLDED, STEP, FIRST),
        flat=True,
    ),
    nn.BatchNorm2d: Layer(torch_layers.batch_norm, "folded into the convolution before it"),
    nn.BatchNorm1d: Layer(torch_layers.batch_norm_of_features, "folded into the Linear before it", flat=True),
    TemporalGain: Layer(
        torch_layers.gain,
        "folded into the convolution before it: payloads of its spikes, and a bias that changes over time",
        times=(FOLDED,),
    ),
    nn.AvgPool2d: Layer(torch_layers.average_pool, "depthwise Conv, composed with a 1x1 convolution behind it"),
    nn.AdaptiveAvgPool2d: Layer(
        torch_layers.adaptive_pool, "as AvgPool2d, where it divides the pixels into whole windows"
    ),
    nn.MaxPool2d: Layer(
        torch_layers.max_pool, "of spikes only: depthwise Conv and a Lif population that fires at any spike"
    ),
    nn.Upsample: Layer(torch_layers.upsample, "nearest, integer factor: sub-pixel Conv on the small grid"),
    nn.Identity: Layer(torch_layers.same, "nothing", times=TIMES, flat=True),
    nn.Dropout: Layer(torch_layers.dropout, "nothing", times=TIMES, flat=True),
    nn.Dropout2d: Layer(torch_layers.dropout, "nothing"),
    nn.Flatten: Layer(shape_calls.flatten_module, _SHAPE, times=TIMES, flat=True),
    nn.Unflatten: Layer(shape_calls.unflatten_module, _SHAPE, times=TIMES, flat=True),
    HardResetNeuron: Layer(
        torch_layers.hard_reset, "Lif population (one per concatenated part); >= becomes >", times=(FOLDED,)
    ),
    SpikingNeuron: Layer(torch_layers.neuron, "Lif population (one per concatenated part)", times=(FOLDED,)),
    DirectCoding: Layer(torch_layers.coding, "the Input port, which repeats its frame", times=(FOLDED,)),
    MembraneReadout: Layer(
        torch_layers.readout, "Readout, summed by the host with weights decay^(T-1-t)", times=(FOLDED,)
    ),
    MeanReadout: Layer(torch_layers.readout, "Readout, summed by the host with weights 1/T", times=(FOLDED,)),
    FusedReadout: Layer(torch_layers.readout, "Readout, summed by the host with both, mixed", times=(FOLDED,)),
    SwishTailReadout: Layer(
        torch_layers.swish_tail,
        "Readout of the residual stream, with SDDPM's tail on the host before the weighted sum",
        times=(FOLDED,),
    ),
    operator.add: Layer(
        torch_layers.add_handler,
        "several projections into one population; bias table if one side depends on the diffusion step only",
        times=TIMES,
        flat=True,
    ),
    torch.add: Layer(torch_layers.add_handler, "as the operator +", times=TIMES, flat=True),
    torch.cat: Layer(torch_layers.concat, "separate populations or projections, along channels", ("dim",), times=TIMES),
    torch.flatten: Layer(
        shape_calls.flatten_call, _SHAPE, ("start_dim", "end_dim"), positional=True, times=TIMES, flat=True
    ),
    torch.reshape: Layer(shape_calls.view, _SHAPE, positional=True, times=TIMES, flat=True),
    torch.mean: Layer(
        shape_calls.time_mean, _OVER_TIME.format("mean"), ("dim",), positional=True, times=(FIRST, LAST), flat=True
    ),
    torch.sum: Layer(
        shape_calls.time_sum, _OVER_TIME.format("sum"), ("dim",), positional=True, times=(FIRST, LAST), flat=True
    ),
    "Tensor.flatten": Layer(
        shape_calls.flatten_call, _SHAPE, ("start_dim", "end_dim"), positional=True, times=TIMES, flat=True
    ),
    "Tensor.reshape": Layer(shape_calls.view, _SHAPE, positional=True, times=TIMES, flat=True),
    "Tensor.view": Layer(shape_calls.view, _SHAPE, positional=True, times=TIMES, flat=True),
    "Tensor.mean": Layer(
        shape_calls.time_mean, _OVER_TIME.format("mean"), ("dim",), positional=True, times=(FIRST, LAST), flat=True
    ),
    "Tensor.sum": Layer(
        shape_calls.time_sum, _OVER_TIME.format("sum"), ("dim",), positional=True, times=(FIRST, LAST), flat=True
    ),
    **{
        f"Tensor.{name}": Layer(handler, _REPEATED, arguments, positional=True, times=(FIRST,), flat=True)
        for name, handler, arguments in (
            ("unsqueeze", shape_calls.unsqueeze, ("dim",)),
            ("repeat", shape_calls.repeat, ()),
            ("expand", shape_calls.repeat, ()),
        )
    },
    **{
        f"lava.lib.dl.slayer.block.cuba.{name}": Layer(
            slayer_layers.block(synapse), _BLOCK.format(becomes), times=(LAST,), flat=name == "Dense"
        )
        for name, synapse, becomes in (
            ("Conv", slayer_layers.convolution, "Conv projections"),
            ("ConvT", slayer_layers.transposed, "sub-pixel Conv"),
            ("Dense", slayer_layers.dense, "Conv projections with a kernel as large as the source"),
            ("Pool", slayer_layers.pool, "depthwise Conv (sums)"),
            ("Unpool", slayer_layers.unpool, "depthwise sub-pixel Conv"),
        )
    },
    "lava.lib.dl.slayer.block.cuba.Flatten": Layer(shape_calls.slayer_flatten, "nothing", times=(LAST,), flat=True),
    "lava.lib.dl.slayer.neuron.cuba.Neuron": Layer(
        slayer_layers.neuron, "Lif population that counts as SLAYER does", times=(LAST,), flat=True
    ),
    **{
        f"spikingjelly.activation_based.neuron.{name}": Layer(
            handler, "Lif population; >= becomes >", times=(STEP, FIRST), flat=True
        )
        for name, handler in (
            ("IFNode", spikingjelly_layers.if_node),
            ("LIFNode", spikingjelly_layers.lif_node),
            ("ParametricLIFNode", spikingjelly_layers.plif_node),
        )
    },
    **{
        f"spikingjelly.activation_based.layer.{name}": Layer(
            handler, f"as nn.{name}", times=(FOLDED, STEP, FIRST), flat=flat
        )
        for name, handler, flat in (
            ("Conv2d", torch_layers.conv2d, False),
            ("ConvTranspose2d", torch_layers.conv_transpose2d, False),
            ("Linear", torch_layers.linear, True),
            ("BatchNorm2d", torch_layers.batch_norm, False),
            ("BatchNorm1d", torch_layers.batch_norm_of_features, True),
            ("AvgPool2d", torch_layers.average_pool, False),
            ("AdaptiveAvgPool2d", torch_layers.adaptive_pool, False),
            ("MaxPool2d", torch_layers.max_pool, False),
            ("Flatten", shape_calls.flatten_module, True),
            ("Dropout", torch_layers.dropout, True),
            ("Dropout2d", torch_layers.dropout, False),
        )
    },
}

# Containers that give their layers one timestep, (N, ...), or all folded, (T * N, ...) -> whether it is one timestep.
CONTAINERS: dict[str, bool] = {
    "spikingjelly.activation_based.layer.SeqToANNContainer": False,
    "spikingjelly.activation_based.layer.MultiStepContainer": True,
}

# What to use instead of what cannot be lowered, by the name of the class or function.
INSTEAD: dict[str, str] = {
    "ReLU": "a spiking neuron",
    "relu": "a spiking neuron",
    "SiLU": "a spiking neuron",
    "GELU": "a spiking neuron",
    "LeakyReLU": "a spiking neuron",
    "Sigmoid": "a spiking neuron, or compute it on the host behind the readout",
    "sigmoid": "a spiking neuron, or compute it on the host behind the readout",
    "Tanh": "a spiking neuron, or compute it on the host behind the readout",
    "tanh": "a spiking neuron, or compute it on the host behind the readout",
    "Softmax": "the host: it follows from the readout",
    "softmax": "the host: it follows from the readout",
    "LogSoftmax": "the host: it follows from the readout",
    "argmax": "the host: it follows from the readout",
    "GroupNorm": "BatchNorm2d, which is folded",
    "LayerNorm": "BatchNorm2d, which is folded",
    "InstanceNorm2d": "BatchNorm2d, which is folded",
    "Conv1d": "Conv2d with a height of 1",
    "Conv3d": "Conv2d, or slayer.block.cuba.Conv",
    "MultiheadAttention": "convolutions: a product of two values is not supported",
    "matmul": "Linear: a product of two values is not supported",
    "mul": "+, BatchNorm2d or a convolution: a product of two values, or with a constant, is not supported",
    "sub": "+ and a negative weight",
    "PixelShuffle": "ConvTranspose2d or Upsample",
    "interpolate": "nn.Upsample",
    "max_pool2d": "nn.MaxPool2d behind a neuron",
    "avg_pool2d": "nn.AvgPool2d",
    "permute": "the layout of the library from the start",
    "transpose": "the layout of the library from the start",
    "Affine": "Dense, and read its spikes",
    "Recurrent": "Dense: feedback is not supported",
    "Average": "the host: it follows from the readout of Dense",
    "TimeDecimation": "a smaller T",
    "Input": "the input itself, in spikes",
    "KWTA": "Dense: feedback is not supported",
    "Delay": "delay=True of the block before it",
    "Neuron": "slayer.neuron.cuba.Neuron",
    "VotingLayer": "the host: it follows from the readout",
    "SynapseFilter": "LIFNode",
    "LSTM": "spiking neurons: feedback is not supported",
    "GRU": "spiking neurons: feedback is not supported",
    "RNN": "spiking neurons: feedback is not supported",
}


# The same for all other layers of a library.
_INSTEAD_OF_LIBRARY = {
    "lava.lib.dl.slayer.": "the blocks of slayer.block.cuba",
    "spikingjelly.activation_based.neuron.": "IFNode or LIFNode",
}


def instead_of(key: Any) -> str | None:
    """What to use instead of a layer that is no key of :data:`LAYERS`; None: nothing comes near it."""
    of_library = (hint for start, hint in _INSTEAD_OF_LIBRARY.items() if isinstance(key, str) and key.startswith(start))
    return INSTEAD.get(layer_title(key)) or next(of_library, None)


def layer_key(kind: Any) -> Any:
    """The key of :data:`LAYERS` of a class or function, or what it would be."""
    if isinstance(kind, str) or kind in LAYERS:
        return kind
    return f"{kind.__module__}.{kind.__qualname__}" if isinstance(kind, type) else kind


def layer_title(key: Any) -> str:
    """A key of :data:`LAYERS` in words."""
    return key.rpartition(".")[2] if isinstance(key, str) else str(getattr(key, "__name__", key))
