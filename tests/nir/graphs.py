"""Small NIR graphs: one for every row of the table of primitives, on a dyadic grid, so that sums are exact."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import nir
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

DT = 2.0**-10
T = 6


def weights(*shape: int, seed: int = 0) -> Array:
    """Multiples of 1/8 in [-1, 1]."""
    return np.random.default_rng(seed).integers(-8, 9, shape) / 8.0


def fires(*shape: int, threshold: float = 1.0) -> nir.IF:
    full = np.ones(shape)
    return nir.IF(r=full / DT, v_threshold=full * threshold, v_reset=full * 0.0)


def conv(out: int, inputs: int, kernel: int, size: int, padding: int = 1, seed: int = 0) -> nir.Conv2d:
    pairs = ((1, 1), (padding, padding), (1, 1))
    return nir.Conv2d((size, size), weights(out, inputs, kernel, kernel, seed=seed), *pairs, 1, weights(out, seed=9))


def chain(shape: tuple[int, ...], *nodes: nir.NIRNode, out: tuple[int, ...]) -> nir.NIRGraph:
    """input -> nodes -> output, whose keys are the places in the chain."""
    named = {"input": nir.Input({"input": np.array(shape)})}
    named |= {f"n{index}": node for index, node in enumerate(nodes)}
    named["output"] = nir.Output({"output": np.array(out)})
    keys = list(named)
    return nir.NIRGraph(named, list(itertools.pairwise(keys)), type_check=False)


def _conv1d() -> nir.NIRGraph:
    node = nir.Conv1d(9, weights(4, 2, 3), 2, 1, 1, 1, weights(4, seed=1))
    return chain((2, 9), node, fires(4, 5), out=(4, 5))


def _conv2d() -> nir.NIRGraph:
    node = nir.Conv2d((7, 6), weights(4, 2, 3, 2), (2, 1), (1, 2), (1, 2), 2, weights(4, seed=1))
    return chain((4, 7, 6), node, fires(4, 4, 8), out=(4, 4, 8))


def _linear() -> nir.NIRGraph:
    return chain((12,), nir.Linear(weights(5, 12)), fires(5), out=(5,))


def _affine() -> nir.NIRGraph:
    return chain((12,), nir.Affine(weights(5, 12), weights(5, seed=1)), fires(5), out=(5,))


def _scale() -> nir.NIRGraph:
    factors = np.repeat([0.5, 2.0], 16).reshape(2, 4, 4)
    return chain((2, 4, 4), conv(2, 2, 3, 4), nir.Scale(factors), fires(2, 4, 4), out=(2, 4, 4))


def _pool(kind: type[nir.NIRNode], padding: int) -> nir.NIRGraph:
    pool = kind(np.array([2, 2]), np.array([2, 2]), np.array([padding, padding]))
    size = 3 + padding
    nodes = (fires(2, 6, 6), pool, fires(2, size, size, threshold=0.5))
    return chain((1, 6, 6), conv(2, 1, 3, 6), *nodes, out=(2, size, size))


def _flatten() -> nir.NIRGraph:
    flatten = nir.Flatten({"input": np.array([2, 4, 4])}, 0, -1)
    nodes = (conv(2, 1, 3, 4), fires(2, 4, 4), flatten, nir.Linear(weights(3, 32)), fires(3))
    return chain((1, 4, 4), *nodes, out=(3,))


def _lif() -> nir.NIRGraph:
    full = np.ones(5)
    neuron = nir.LIF(full * DT * 4, full * 4, full * 0, full * 0.75, full * 0)
    return chain((12,), nir.Linear(weights(5, 12)), neuron, out=(5,))


def _cubalif() -> nir.NIRGraph:
    full = np.ones(5)
    neuron = nir.CubaLIF(full * DT * 2, full * DT * 4, full * 4, full * 0, full * 0.75, full * 0, w_in=full * 2)
    return chain((12,), nir.Linear(weights(5, 12)), neuron, out=(5,))


def _delay() -> nir.NIRGraph:
    """Of every neuron another, up to one past the end."""
    delays = np.arange(32.0).reshape(2, 4, 4) % (T + 2)
    nodes = (conv(2, 1, 3, 4), fires(2, 4, 4), nir.Delay(delays * DT), conv(2, 2, 3, 4, seed=3), fires(2, 4, 4))
    return chain((1, 4, 4), *nodes, out=(2, 4, 4))


EXAMPLES: dict[str, Callable[[], nir.NIRGraph]] = {
    "Input": _linear,
    "Output": lambda: chain((3, 4, 4), conv(2, 3, 3, 4), out=(2, 4, 4)),
    "Conv1d": _conv1d,
    "Conv2d": _conv2d,
    "Linear": _linear,
    "Affine": _affine,
    "Scale": _scale,
    "AvgPool2d": lambda: _pool(nir.AvgPool2d, 0),
    "SumPool2d": lambda: _pool(nir.SumPool2d, 1),
    "Flatten": _flatten,
    "IF": lambda: chain((2, 4, 4), conv(3, 2, 3, 4), fires(3, 4, 4), out=(3, 4, 4)),
    "LIF": _lif,
    "CubaLIF": _cubalif,
    "Delay": _delay,
}


def residual() -> nir.NIRGraph:
    """Two edges into one node, and one around a pair of layers."""
    graph = chain((2, 4, 4), conv(2, 2, 3, 4), fires(2, 4, 4), conv(2, 2, 3, 4, seed=3), fires(2, 4, 4), out=(2, 4, 4))
    graph.edges += [("n1", "n3"), ("input", "n3")]
    return graph


def resting() -> nir.NIRGraph:
    """A v_leak of its own for every neuron."""
    full = np.ones(5)
    neuron = nir.LIF(full * DT * 4, full * 4, np.arange(5) / 4.0, full * 0.75, full * 0)
    return chain((12,), nir.Linear(weights(5, 12)), neuron, out=(5,))


def varied() -> nir.NIRGraph:
    """Resistances and thresholds that differ between channels, and between the pixels of what was flattened."""
    channels = np.repeat([1.0, 2.0], 16).reshape(2, 4, 4)
    flatten = nir.Flatten({"input": np.array([2, 4, 4])}, 0, 2)
    pixels = np.tile([0.5, 1.0], 16)
    nodes = (
        conv(2, 1, 3, 4),
        nir.IF(channels / DT, channels[::-1] / 2.0, channels * 0.0),
        flatten,
        nir.IF(np.ones(32) / DT, pixels, pixels * 0.0),
        nir.Linear(weights(3, 32)),
        fires(3),
    )
    return chain((1, 4, 4), *nodes, out=(3,))


def nested() -> nir.NIRGraph:
    """A graph inside of a graph."""
    inner = chain((5,), nir.Affine(weights(5, 5, seed=4), weights(5, seed=1)), fires(5), out=(5,))
    return chain((12,), nir.Linear(weights(5, 12)), inner, nir.Linear(weights(3, 5)), fires(3), out=(3,))


def scalars() -> nir.NIRGraph:
    """Parameters of neurons that are one number, as snnTorch writes them for a decay that all neurons share."""
    one = np.float64(1.0)
    return chain((12,), nir.Linear(weights(5, 12)), nir.LIF(one * DT * 4, one * 4, one * 0, one, one * 0), out=(5,))


def late() -> nir.NIRGraph:
    """Spikes that are read with two delays and without one, and delays in a row, some of them for all neurons."""
    flatten = nir.Flatten({"input": np.array([2, 4, 4])}, 0, -1)
    rest = (nir.Delay(np.arange(32) % 2 * DT), nir.Linear(weights(3, 32)), fires(3), nir.Delay(np.array([2 * DT])))
    nodes = (conv(2, 1, 3, 4), fires(2, 4, 4), nir.Delay(np.float64(DT)), conv(2, 2, 3, 4), fires(2, 4, 4), flatten)
    graph = chain((1, 4, 4), *nodes, *rest, out=(3,))
    graph.nodes["later"], graph.nodes["again"] = nir.Delay(np.full((2, 4, 4), 3 * DT)), nir.Delay(np.array([DT]))
    graph.nodes["none"] = nir.Delay(np.zeros((2, 4, 4)))
    graph.edges += [("n1", "later"), ("later", "again"), ("again", "n3"), ("n1", "none"), ("none", "n3")]
    return graph


def written(graph: nir.NIRGraph, path: Path) -> Path:
    nir.write(path, graph)
    return path


def frames(graph: nir.NIRGraph, count: int = 3, seed: int = 5) -> Array:
    """Inputs [N, T, ...], multiples of 1/8, of which every timestep has its own."""
    shape = next(node.input_type["input"] for node in graph.nodes.values() if isinstance(node, nir.Input))
    return np.random.default_rng(seed).integers(-8, 9, (count, T, *map(int, shape))) / 8.0
