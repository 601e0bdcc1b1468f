"""NIR graphs by their equations, in Python loops: written from the docstrings of nir 1.0, not from the importer."""

from __future__ import annotations

import itertools
from typing import Any

import nir
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def evaluate(graph: nir.NIRGraph, frames: Array, dt: float) -> dict[str, Array]:
    """Node -> its values [T, ...] for an input [T, ...]; neurons step with forward Euler, the new current first."""
    values: dict[str, Array] = {}
    waiting = dict(graph.nodes)
    while waiting:
        for name, node in list(waiting.items()):
            sources = [source for source, target in graph.edges if target == name]
            if all(source in values for source in sources):
                total = frames if isinstance(node, nir.Input) else np.sum([values[s] for s in sources], axis=0)
                if isinstance(node, nir.Delay):
                    values[name] = delayed(total, node.delay, dt)
                else:
                    values[name] = neuron(node, total, dt) if hasattr(node, "v_threshold") else over_time(node, total)
                del waiting[name]
    return values


def over_time(node: Any, frames: Array) -> Array:
    return np.array([linear(node, frame) for frame in frames])


def delayed(frames: Array, delay: Array, dt: float) -> Array:
    values = np.zeros_like(frames)
    for index in np.ndindex(frames.shape[1:]):
        steps = round(float(delay.reshape(-1)[0] if delay.size == 1 else delay[index]) / dt)
        for t in range(steps, len(frames)):
            values[t][index] = frames[t - steps][index]
    return values


def linear(node: Any, x: Array) -> Array:  # noqa: PLR0911 - one line for each primitive
    if isinstance(node, nir.Input | nir.Output):
        return x
    if isinstance(node, nir.Linear | nir.Affine):
        return np.array([(row * x).sum() for row in node.weight]) + getattr(node, "bias", 0.0)
    if isinstance(node, nir.Scale):
        return np.asarray(x * node.scale)
    if isinstance(node, nir.Flatten):
        return x.reshape(-1)
    if isinstance(node, nir.Conv2d):
        return conv(x, node.weight, node.bias, node.stride, node.padding, node.dilation, int(node.groups))
    if isinstance(node, nir.Conv1d):
        one = (np.atleast_1d(v)[0] for v in (node.stride, node.padding, node.dilation))
        stride, padding, dilation = ((a, int(v)) for a, v in zip((1, 0, 1), one, strict=True))
        return conv(x[:, None], node.weight[:, :, None], node.bias, stride, padding, dilation, int(node.groups))[:, 0]
    if isinstance(node, nir.SumPool2d | nir.AvgPool2d):
        height, width = node.kernel_size
        ones = np.ones((len(x), 1, height, width))
        summed = conv(x, ones, np.zeros(len(x)), node.stride, node.padding, (1, 1), len(x))
        return summed if isinstance(node, nir.SumPool2d) else summed / (height * width)
    raise AssertionError(node)


def conv(x: Array, weight: Array, bias: Array, stride: Any, padding: Any, dilation: Any, groups: int) -> Array:
    (top, left), (down, right), (high, wide) = padding, stride, dilation
    x = np.pad(x, ((0, 0), (top, top), (left, left)))
    out, inputs, kh, kw = weight.shape
    height = (x.shape[1] - high * (kh - 1) - 1) // down + 1
    width = (x.shape[2] - wide * (kw - 1) - 1) // right + 1
    y = np.zeros((out, height, width))
    for co, row, column in itertools.product(range(out), range(height), range(width)):
        start = co // (out // groups) * inputs
        for ci, i, j in itertools.product(range(inputs), range(kh), range(kw)):
            pixel = x[start + ci, row * down + i * high, column * right + j * wide]
            y[co, row, column] += weight[co, ci, i, j] * pixel
        y[co, row, column] += bias[co]
    return y


def neuron(node: Any, frames: Array, dt: float) -> Array:
    current = membrane = np.zeros(frames.shape[1:])
    spikes = []
    for s in frames:
        if isinstance(node, nir.IF):
            membrane = membrane + dt * node.r * s
        elif isinstance(node, nir.LIF):
            membrane = membrane + dt / node.tau * (node.v_leak - membrane + node.r * s)
        else:
            current = current + dt / node.tau_syn * (node.w_in * s - current)
            membrane = membrane + dt / node.tau_mem * (node.v_leak - membrane + node.r * current)
        fired = membrane > node.v_threshold
        membrane = np.where(fired, node.v_reset, membrane)
        spikes.append(fired)
    return np.array(spikes, dtype=np.float64)
