"""Handlers of lava-dl's SLAYER: `slayer.block.cuba` and `slayer.neuron.cuba.Neuron`. Nothing of it is imported.

A block is a synapse, CUBA neurons, a shift by one timestep (``delay_shift``, for the timestep that a synapse takes on
Loihi) and, where wanted, axonal delays (lava-dl ``slayer/block/base.py``). What all neurons of a block share becomes
the *lag* of the value, the rest axonal delays of the population.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from spikegen.lowering.calls import Call, array, pair, refusal
from spikegen.lowering.geometry import conv, linear
from spikegen.lowering.graph import ConvOp, FloatArray, NeuronOp, Op
from spikegen.lowering.transposed import transposed_conv

Synapse: TypeAlias = Callable[[Any, Op, FloatArray, Call], ConvOp]
_AXON = "lava.lib.dl.slayer.axon."
_AXES = 2  # of stride, padding, ... that are of rows and columns; the third is time


def cuba_decays(neuron: Any, call: Call) -> tuple[int, int]:
    """``du`` and ``dv`` of a ``slayer.neuron.cuba.Neuron``.

    Raises:
        LoweringError: it has what a Lif has not.
    """
    special = neuron.drop is not None and neuron.drop.training
    if special or neuron.graded_spike or neuron.persistent_state:
        raise refusal(call, "dropout in training, graded spikes and persistent state of a neuron are not supported")
    if not neuron.shared_param:
        raise refusal(call, "per-channel decays of a neuron are not supported; use shared_param=True")
    decay, leak = int(neuron.cx_current_decay), int(neuron.cx_voltage_decay)
    if not (1 <= decay <= 4096 and 0 <= leak <= 4095):
        raise refusal(
            call,
            f"decays are {decay}/4096 and {leak}/4096; Loihi takes 1..4096 for the current, 0..4095 for the membrane",
        )
    return decay - 1, leak


def cuba_neuron(
    neuron: Any, source: Op, call: Call, lag: int = 0, delays: npt.NDArray[np.int32] | None = None
) -> NeuronOp:
    """The population of a ``slayer.neuron.cuba.Neuron`` whose spikes come ``lag`` and ``delays`` timesteps later."""
    du, dv = cuba_decays(neuron, call)
    bias = None
    if neuron.norm is not None:
        if type(neuron.norm).__name__ != "MeanOnlyBatchNorm":
            raise refusal(
                call, f"the norm {type(neuron.norm).__name__} of its neuron is not supported; use MeanOnlyBatchNorm"
            )
        mean = neuron.norm.running_mean
        bias = -array(neuron.norm.pre_hook_fx(mean)).reshape(-1)
        if bias.size not in (1, source.shape[0]):
            raise refusal(call, f"its norm has {bias.size} features, its input {source.shape[0]} channels")
        bias = np.broadcast_to(bias, source.shape[:1]).copy()
    return NeuronOp(
        call.name,
        (source.name,),
        source.shape,
        float(neuron.threshold),
        du,
        dv,
        bias,
        1.0 / neuron.w_scale,
        delays=np.empty(0, np.int32) if delays is None else delays,
        flat=source.flat,
        lag=lag,
    )


def neuron(module: Any, inputs: Sequence[Op], call: Call) -> Op:
    """slayer.neuron.cuba.Neuron by itself."""
    return cuba_neuron(module, inputs[0], call)


def block(synapse: Synapse) -> Callable[[Any, Sequence[Op], Call], tuple[Op, ...]]:
    """The handler of the block around ``synapse``."""

    def handler(module: Any, inputs: Sequence[Op], call: Call) -> tuple[Op, ...]:
        if module.count_log:
            raise refusal(call, "count_log=True returns two values; use count_log=False")
        if module.synapse.complex:
            raise refusal(call, "complex synapses are not supported")
        inner = Call(f"{call.name}.synapse", {}, (), call.time, call.timesteps)
        summed = synapse(module, inputs[0], _weight(module, call), inner)
        fired = Call(f"{call.name}.neuron", {}, (), call.time, call.timesteps)
        return summed, cuba_neuron(module.neuron, summed, fired, *_delays(module, summed, call))

    return handler


def _weight(module: Any, call: Call) -> FloatArray:
    """The weight as the forward pass uses it: normed, masked, quantised; [.., .., kh, kw]."""
    synapse = module.synapse
    weight = synapse.weight
    for hook in synapse._forward_pre_hooks.values():  # noqa: SLF001 - torch.nn.utils.weight_norm is such a hook
        if hasattr(hook, "compute_weight"):
            weight = hook.compute_weight(synapse)
    mask = getattr(module, "mask", None)
    if mask is not None:
        weight = weight * mask
    if synapse.pre_hook_fx is not None:
        weight = synapse.pre_hook_fx(weight)
    if not isinstance(weight, torch.Tensor) or weight.dim() != 5 or weight.shape[-1] != 1:
        raise refusal(call, f"its weight has shape {tuple(getattr(weight, 'shape', ()))}, expected (.., .., kh, kw, 1)")
    return array(weight)[..., 0]


def _delays(module: Any, neurons: Op, call: Call) -> tuple[int, npt.NDArray[np.int32]]:
    """Timesteps by which the block delays all spikes, and by how many more those of each neuron; empty for none.

    lava-dl ``slayer/axon/delay.py``: one delay for each channel, clipped to 0 .. max_delay, without its fraction.
    """
    shift = 1 if module.delay_shift is True else 0
    none = np.empty(0, np.int32)
    if module.delay is None or not module.delay.init:  # below 1 until they are learnt
        return shift, none
    given = array(module.delay.delay)
    if given.size != neurons.shape[0]:
        raise refusal(call, f"it has {given.size} axonal delays for {neurons.shape[0]} channels")
    most = np.inf if module.delay.max_delay is None else module.delay.max_delay
    delays = np.floor(np.clip(given, 0, min(most, call.timesteps))).astype(np.int32)  # later is never
    least = int(delays.min())
    if (delays == least).all():
        return shift + least, none
    return shift + least, np.broadcast_to((delays - least)[:, None, None], neurons.shape).copy()


def shape_delays(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give the axonal delays of ``module`` the shapes that they have in ``tensors``, a state_dict.

    SLAYER does so at the first call only (lava-dl ``slayer/axon/delay.py``), and a state_dict does not load before.
    """
    for name, layer in module.named_modules():
        found = tensors.get(f"{name}.delay")
        if type(layer).__module__.startswith(_AXON) and found is not None and not layer.init:
            layer.delay.data, layer.init = torch.empty_like(found), True


def dense(_module: Any, source: Op, weight: FloatArray, call: Call) -> ConvOp:
    """slayer.block.cuba.Dense on features, or on pixels with a kernel as large as they are."""
    none = np.zeros(len(weight))
    if source.flat:
        return linear(call, source, weight.reshape(len(weight), -1), none)
    return conv(call, source, weight, none)


def convolution(module: Any, source: Op, weight: FloatArray, call: Call) -> ConvOp:
    """slayer.block.cuba.Conv."""
    stride, padding, dilation = (pair(value[:_AXES]) for value in _geometry(module.synapse))
    return conv(call, source, weight, np.zeros(len(weight)), stride, padding, dilation, module.synapse.groups)


def transposed(module: Any, source: Op, weight: FloatArray, call: Call) -> ConvOp:
    """slayer.block.cuba.ConvT."""
    synapse = module.synapse
    stride, padding, dilation = (pair(value[:_AXES]) for value in _geometry(synapse))
    out = weight.shape[1] * synapse.groups
    if len(weight) != source.shape[0]:
        raise refusal(call, f"it reads {len(weight)} channels, {source.name} has {source.shape[0]}")
    extra = pair(synapse.output_padding[:_AXES])
    return transposed_conv(call.name, source, weight, np.zeros(out), stride, padding, extra, dilation, synapse.groups)


def pool(module: Any, source: Op, weight: FloatArray, call: Call) -> ConvOp:
    """slayer.block.cuba.Pool: sums of windows that do not overlap.

    SLAYER lays the rows of all channels one below another: windows that overlap, or padding, would mix channels there.
    It adds ``size % kernel`` rows of zeros; where that makes whole windows, the last one reads one row less.
    """
    kernel = _windows(module, weight, call)
    channels = source.shape[0]
    rows = [_pooled_axis(size, window, call) for size, window in zip(source.shape[1:], kernel, strict=True)]
    wide = np.zeros((channels, 1, *(found[0] for found in rows)))
    taps = np.zeros((1, *(found[0] for found in rows)), dtype=bool)
    top, left = (slice(found[1], found[1] + window) for found, window in zip(rows, kernel, strict=True))
    wide[:, :, top, left] = weight[0, 0]
    taps[:, top, left] = True
    padding = (rows[0][1], rows[1][1])
    made = conv(call, source, wide, np.zeros(channels), kernel, padding, (1, 1), channels)
    return made if taps.all() else dataclasses.replace(made, taps=taps)


def unpool(module: Any, source: Op, weight: FloatArray, call: Call) -> ConvOp:
    """slayer.block.cuba.Unpool: every spike goes to all pixels of its window."""
    kernel = _windows(module, weight, call)
    channels = source.shape[0]
    each = np.broadcast_to(weight, (channels, 1, *kernel)).copy()
    return transposed_conv(call.name, source, each, np.zeros(channels), kernel, (0, 0), (0, 0), (1, 1), channels)


def _geometry(synapse: Any) -> tuple[Any, Any, Any]:
    return synapse.stride, synapse.padding, synapse.dilation


def _windows(module: Any, weight: FloatArray, call: Call) -> tuple[int, int]:
    kernel = (weight.shape[2], weight.shape[3])
    stride, padding, dilation = (pair(value[:_AXES]) for value in _geometry(module.synapse))
    if stride != kernel or padding != (0, 0) or (dilation != (1, 1) and kernel != (1, 1)):
        raise refusal(
            call,
            f"kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}: windows that overlap or are "
            "padded mix channels in SLAYER; use stride = kernel_size and no padding",
        )
    return kernel


def _pooled_axis(size: int, window: int, call: Call) -> tuple[int, int]:
    """Kernel and padding of one axis."""
    rest = size % window
    if rest == 0:
        return window, 0
    if (size + rest) % window:
        raise refusal(call, f"{size} pixels are no whole windows of {window}; pad the input of the pool")
    return 2 * window, window
