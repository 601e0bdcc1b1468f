"""The table of netx's layers. It drives import, its checks, the tests and the table of the docs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from spikegen.errors import ExchangeError, LoweringError
from spikegen.exporters.netx.builder import Builder
from spikegen.exporters.netx.neurons import neurons
from spikegen.exporters.netx.numbers import array, one, pair, shape
from spikegen.exporters.netx.structure import NetxLayer
from spikegen.exporters.netx.synapses import GEOMETRY_MAX, IntArray, dense_currents
from spikegen.program import Input
from spikegen.program.ir import Shape
from spikegen.program.numerics import DECAY_MAX

Handler = Callable[[Builder, NetxLayer], None]

UNIT = 64  # of SLAYER's CUBA neurons: real 1 is 64 (``slayer/neuron/cuba.py``, ``scale``)
_KERNEL_MAX = 1 << 26  # weights that are made of fewer: of pooling, and of a transposed convolution on the small grid


@dataclass(frozen=True)
class LayerType:
    """One row of the support table.

    Attributes:
        required, optional: its parameters.
        neurons: whether "all", "some" or "none" of such layers have them.
        becomes: what it is in a Program.
        written: what of a Program is written as this; "" if nothing: netx does not load it.
        handler: adds it.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...]
    neurons: str
    becomes: str
    written: str
    handler: Handler


def _input(builder: Builder, layer: NetxLayer) -> None:
    if layer.index:
        raise ExchangeError(f"{layer.name}: an input can only be layer 0")
    declared = shape(layer)
    if builder.port is not None and builder.port.shape != declared:
        raise ExchangeError(f"{layer.name}: shape is {declared}, and --input says {builder.port.shape}")
    builder.begin(declared)
    if layer.neuron is not None:
        _encoder(builder, layer, declared)
    elif {"weight", "bias"} & layer.fields.keys():
        raise ExchangeError(f"{layer.name}: weight and bias without neurons")


def _encoder(builder: Builder, layer: NetxLayer, declared: Shape) -> None:
    """Neurons that take a real input as their current.

    lava-dl ``slayer/block/base.py``, ``AbstractInput``: the input is rounded to whole 1/32, clipped to -4..3.97, times
    the weight, plus the bias. netx leaves that to the host, which sets the bias of the neurons; where the current
    decays that is something else.
    """
    found = neurons(layer)
    if found.du != DECAY_MAX or not found.fires:
        raise ExchangeError(
            f"{layer.name}: netx feeds its neurons by their bias, SLAYER by their current; with iDecay below "
            f"{DECAY_MAX + 1} that is not the same"
        )
    weight = one(layer.name, layer.fields, "weight") if "weight" in layer.fields else UNIT
    if weight % (UNIT // 2):
        raise ExchangeError(
            f"{layer.name}: weight is {weight} / {UNIT}; an input in whole 1/32 takes multiples of {UNIT // 2}"
        )
    port = builder.port
    if port is not None:
        each = np.full(declared[0], 1)
        builder.port = Input(port.name, declared, 8, 2 / UNIT, -128 * each, 127 * each, streamed=port.streamed)
    factor = np.full((declared[0], 1, 1, 1), weight // (UNIT // 2))
    builder.conv(layer, factor, found, groups=declared[0])


def _flatten(builder: Builder, layer: NetxLayer) -> None:
    if builder.listed or builder.flattened:
        raise ExchangeError(f"{layer.name}: what comes before it is flat already")
    builder.flattened = True


def _dense(builder: Builder, layer: NetxLayer) -> None:
    target, weight = shape(layer), array(layer, "weight")
    rows = math.prod(target)
    matrix = weight.reshape(rows, -1) if weight.ndim == 1 and weight.size % rows == 0 else weight
    if matrix.ndim != 2 or len(matrix) != rows:
        raise ExchangeError(f"{layer.name}: weight has shape {weight.shape}, its {rows} neurons take ({rows}, inputs)")
    if builder.port is None:
        builder.begin((matrix.shape[1], 1, 1))
    _, source = builder.source(layer)
    if source[1:] != (1, 1) and not (builder.flattened or builder.listed):
        raise ExchangeError(f"{layer.name}: a flatten layer must stand between (channels, height, width) and dense")
    if math.prod(source) != matrix.shape[1]:
        raise ExchangeError(f"{layer.name}: weight has shape {matrix.shape}, its input {math.prod(source)} neurons")
    summed = dense_currents(matrix)
    if summed is None or (summed[0] != matrix).any():
        builder.warnings.append(
            f"{layer.name}: its weights are {matrix.min()}..{matrix.max()}, taken as they are; netx makes "
            "others of them"
        )
    _features(layer, inFeatures=matrix.shape[1], outFeatures=rows)
    builder.dense(layer, matrix, neurons(layer), target)


def _conv(builder: Builder, layer: NetxLayer) -> None:
    weight, groups = _kernel(layer), one(layer.name, layer.fields, "groups")
    _features(layer, inChannels=weight.shape[1] * groups, outChannels=len(weight))
    stride, padding, dilation = (pair(layer, key) for key in ("stride", "padding", "dilation"))
    largest = max(*weight.shape[2:], *stride, *padding, *dilation, groups)
    if largest > GEOMETRY_MAX:
        builder.warnings.append(
            f"{layer.name}: its kernel, stride, padding, dilation or groups reach {largest}; above {GEOMETRY_MAX} netx "
            "computes something else"
        )
    builder.conv(layer, weight, neurons(layer), stride=stride, padding=padding, dilation=dilation, groups=groups)


def _transposed(builder: Builder, layer: NetxLayer) -> None:
    try:
        from spikegen.lowering.graph import InputOp
        from spikegen.lowering.transposed import transposed_conv
    except ImportError as error:
        raise ExchangeError(
            f"{layer.name}: transposed convolutions need PyTorch ({error}); pip install 'spikegen[torch]'"
        ) from error
    name, source = builder.image(layer)
    weight, groups = _kernel(layer), one(layer.name, layer.fields, "groups")
    stride, padding, dilation = (pair(layer, key) for key in ("stride", "padding", "dilation"))
    if groups < 1 or min(*stride, *dilation) < 1 or len(weight) != source[0] or len(weight) % groups:
        raise ExchangeError(
            f"{layer.name}: weight {weight.shape} with {groups} groups, stride {stride} and dilation {dilation} does "
            f"not fit its {source[0]} input channels"
        )
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    small = math.prod(weight.shape[:2]) * math.prod(4 * r + 3 * s for r, s in zip(reach, stride, strict=True))
    if any(p >= r for p, r in zip(padding, reach, strict=True)) or small > _KERNEL_MAX:
        raise ExchangeError(
            f"{layer.name}: a kernel that reaches over {reach} pixels, with padding {padding} and stride {stride}, is "
            "too large, or its padding is"
        )
    _features(layer, inChannels=len(weight), outChannels=weight.shape[1] * groups)
    none = np.zeros(weight.shape[1] * groups)
    try:
        conv = transposed_conv(
            layer.name, InputOp(name, (), source), weight.astype(float), none, stride, padding, (0, 0), dilation, groups
        )
    except LoweringError as error:
        raise ExchangeError(str(error)) from error
    kernel = conv.weight.astype(np.int64)
    builder.conv(layer, kernel, neurons(layer), padding=conv.padding, groups=groups, shuffle=conv.shuffle)


def _pool(builder: Builder, layer: NetxLayer) -> None:
    """Sums of windows: SLAYER lays the rows of all channels one below another, so windows must tile each of them."""
    window, source = _window(builder, layer)
    extra = [size % k for size, k in zip(source[1:], window.shape, strict=True)]  # rows of zeros that SLAYER adds
    if any((size + more) % k for size, more, k in zip(source[1:], extra, window.shape, strict=True)):
        raise ExchangeError(
            f"{layer.name}: windows of {window.shape} do not tile {source[1:]} pixels, nor with the zeros that SLAYER "
            "adds; rows of two channels would be one window"
        )
    # a border at the far side only: as much on both, and as many rows of zero weights at the near side
    weight = np.pad(window, [(more, 0) for more in extra])
    kernel = np.broadcast_to(weight, (source[0], 1, *weight.shape))
    stride, padding = (window.shape[0], window.shape[1]), (extra[0], extra[1])
    builder.conv(layer, kernel, neurons(layer), stride=stride, padding=padding, groups=source[0])


def _unpool(builder: Builder, layer: NetxLayer) -> None:
    window, source = _window(builder, layer)
    if window.shape[0] != window.shape[1]:
        raise ExchangeError(f"{layer.name}: windows of {window.shape} pixels; a sub-pixel shuffle has one factor")
    kernel = np.tile(window.reshape(-1), source[0]).reshape(-1, 1, 1, 1)
    builder.conv(layer, kernel, neurons(layer), groups=source[0], shuffle=window.shape[0])


def _kernel(layer: NetxLayer) -> IntArray:
    """The weight [.., .., kh, kw]; lava-dl may leave an axis of time behind it."""
    weight = array(layer, "weight")
    if weight.ndim == 5 and weight.shape[4] == 1:
        weight = weight[..., 0]
    if weight.ndim != 4:
        raise ExchangeError(f"{layer.name}: weight has shape {weight.shape}, expected (out, in, height, width)")
    if "kernelSize" in layer.fields and pair(layer, "kernelSize") != weight.shape[2:]:
        raise ExchangeError(f"{layer.name}: kernelSize is {pair(layer, 'kernelSize')}, weight has shape {weight.shape}")
    return weight


def _window(builder: Builder, layer: NetxLayer) -> tuple[IntArray, Shape]:
    """The weight of a pooling, [kh, kw], of windows beside each other; and the shape of its input."""
    _, source = builder.image(layer)
    weight = _kernel(layer)
    geometry = pair(layer, "stride"), pair(layer, "padding"), pair(layer, "dilation")
    if weight.shape[:2] != (1, 1) or geometry != (weight.shape[2:], (0, 0), (1, 1)):
        raise ExchangeError(
            f"{layer.name}: windows of {weight.shape[2:]} pixels with stride {geometry[0]}, padding {geometry[1]} and "
            f"dilation {geometry[2]}; SLAYER lets rows of two channels run into one another, unless windows tile"
        )
    if source[0] * weight.size > _KERNEL_MAX:
        raise ExchangeError(f"{layer.name}: windows of {weight.shape[2:]} pixels in {source[0]} channels are too large")
    return weight[0, 0], source


def _features(layer: NetxLayer, **expected: int) -> None:
    for key, value in expected.items():
        if key in layer.fields and one(layer.name, layer.fields, key) != value:
            raise ExchangeError(f"{layer.name}: {key} is {one(layer.name, layer.fields, key)}, its weight says {value}")


_GEOMETRY = ("stride", "padding", "dilation")
_CHANNELS = ("inChannels", "outChannels", "kernelSize")

LAYERS: Mapping[str, LayerType] = {
    "input": LayerType(
        ("shape",),
        ("weight", "bias"),
        "some",
        "the Input port; with neurons also a population that takes real numbers in whole 1/32",
        "the Input port",
        _input,
    ),
    "dense": LayerType(
        ("shape", "weight"),
        ("inFeatures", "outFeatures", "bias", "delay"),
        "some",
        "a Dense projection and a Lif; a Readout if it never fires",
        "a Dense, or a kernel of the size of the image, and a Lif; a Readout",
        _dense,
    ),
    "conv": LayerType(
        ("shape", "weight", *_GEOMETRY, "groups"),
        (*_CHANNELS, "bias", "delay"),
        "all",
        "a Conv projection and a Lif",
        "a Conv projection and a Lif; a Readout",
        _conv,
    ),
    "flatten": LayerType((), ("shape",), "none", "nothing", "between an image and dense", _flatten),
    "pool": LayerType(
        ("shape", "weight", *_GEOMETRY),
        ("kernelSize", "delay"),
        "all",
        "a depthwise Conv and a Lif",
        "",
        _pool,
    ),
    "convT": LayerType(
        ("shape", "weight", *_GEOMETRY, "groups"),
        (*_CHANNELS, "bias", "delay"),
        "all",
        "a Conv with a sub-pixel shuffle and a Lif",
        "",
        _transposed,
    ),
    "unpool": LayerType(
        ("shape", "weight", *_GEOMETRY),
        ("kernelSize", "delay"),
        "all",
        "a depthwise Conv with a sub-pixel shuffle and a Lif",
        "",
        _unpool,
    ),
}

# What a Program has no place for.
REFUSED: Mapping[str, str] = {
    "average": "the host's part: it follows from the readout of the layer before",
    "concat": "the file does not say what is joined",
    "dense_rec": "feedback is not supported",
    "dense_comp": "complex weights, of resonate-and-fire neurons",
}
