"""Composing is exact: the network of populations fires as the layers did, however its streams were decided."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from spikegen.errors import LoweringError
from spikegen.lowering.compose_linear import Stream, compose_linear
from spikegen.lowering.fold_batchnorm import fold_batchnorm
from spikegen.lowering.graph import (
    AddOp,
    ConditionOp,
    ConvOp,
    InputOp,
    LayerGraph,
    NeuronOp,
    Op,
    ReadoutOp,
    Shape,
    UpsampleOp,
)
from spikegen.lowering.network import FloatNetwork
from spikegen.lowering.trace import trace
from tests.lowering.graphs import dyadic, graphs, images_for
from tests.lowering.networks import MODELS, STEPS, TIMESTEPS, on_grid
from tests.lowering.reference import Values, model_spikes, run_graph, run_network

# Spikes that cost nothing make composing cheaper than any relay; spikes that cost much make relays cheaper.
SILENT, BUSY = 0.0, 1e4


def composed(graph: LayerGraph, rate: float) -> tuple[FloatNetwork, list[Stream]]:
    return compose_linear(fold_batchnorm(graph), {op.name: rate for op in graph.ops})


def assert_same_spikes(network: FloatNetwork, found: Values, expected: Values) -> None:
    """Every population sends the spikes of its part of the source layer."""
    for population in network.populations:
        if population.origin:
            part = slice(population.origin_start, population.origin_start + population.shape[0])
            torch.testing.assert_close(
                found[population.name], expected[population.origin][:, :, part], rtol=0, atol=0, msg=population.name
            )


@pytest.mark.parametrize("rate", [SILENT, BUSY])
@pytest.mark.parametrize("name", MODELS)
def test_a_torch_model_fires_as_its_network_of_populations(name: str, rate: float) -> None:
    model = on_grid(MODELS[name]())
    images = images_for(np.random.default_rng(2), (1, 8, 8), count=3)
    graph = trace(model, (1, 8, 8), TIMESTEPS, STEPS)
    network, streams = composed(graph, rate)
    assert any(p.is_relay for p in network.populations) == any(stream.relay for stream in streams)
    for step in (0, STEPS - 1):
        spikes, output = model_spikes(model, images, step)
        values = run_network(network, images, step)
        assert_same_spikes(network, values, dict(spikes))
        weights = torch.tensor([0.5 ** (TIMESTEPS - 1 - t) for t in range(TIMESTEPS)], dtype=torch.float64)
        read = torch.einsum("ntchw,t->nchw", values["readout"], weights)
        torch.testing.assert_close(read, output, rtol=0, atol=0)
        active = [float(sent.mean()) for sent in spikes.values()]
        assert min(active) > 0
        assert max(active) < 1


def test_real_streams_are_decided_both_ways() -> None:
    graph = trace(on_grid(MODELS["unet"]()), (1, 8, 8), TIMESTEPS, STEPS)
    cheap, all_composed = composed(graph, SILENT)
    dear, relayed = composed(graph, BUSY)
    assert not any(stream.relay for stream in all_composed)
    assert not any(p.is_relay for p in cheap.populations)
    assert any(stream.relay for stream in relayed)
    assert any(p.is_relay for p in dear.populations)


class _Seen:
    lowered = refused = relayed = transposed = gained = clocked = 0


def test_random_graphs() -> None:
    _random_graphs()
    assert _Seen.lowered > 150
    assert _Seen.refused > 5
    assert _Seen.relayed > 20
    assert _Seen.transposed > 30
    assert _Seen.gained > 30
    assert _Seen.clocked > 5


@settings(max_examples=300)
@given(graphs())
def _random_graphs(graph: LayerGraph) -> None:
    images = images_for(np.random.default_rng(3), graph.ops[0].shape)
    for rate in (SILENT, BUSY):
        try:
            network, _ = composed(graph, rate)
        except LoweringError as error:
            reasons = ("across the border", "current decays", "scales a value that depends on the diffusion step")
            assert any(reason in str(error) for reason in reasons)  # noqa: PT017
            _Seen.refused += 1
            return
        step = graph.steps - 1
        expected, found = run_graph(graph, images, step), run_network(network, images, step)
        assert_same_spikes(network, found, expected)
        torch.testing.assert_close(found["readout"], expected["readout"], rtol=0, atol=0)
        _Seen.relayed += any(p.is_relay for p in network.populations)
    _Seen.gained += any(p.kernel.gains is not None for p in network.projections)
    _Seen.clocked += bool(network.clocks())
    _Seen.lowered += 1
    _Seen.transposed += any(isinstance(op, ConvOp) and op.shuffle > 1 for op in graph.ops)


RNG = np.random.default_rng(4)
SHAPE: Shape = (2, 4, 4)


def conv(name: str, source: str, size: int = 3, bias: bool = False, padding: int | None = None) -> ConvOp:
    pad = size // 2 if padding is None else padding
    shape = (2, 4 + 2 * pad - size + 1, 4 + 2 * pad - size + 1)
    values = dyadic(RNG, 2) if bias else np.zeros(2)
    return ConvOp(name, (source,), shape, dyadic(RNG, 2, 2, size, size), values, padding=(pad, pad))


def fire(name: str, source: str, shape: Shape = SHAPE, du: int = 4095) -> NeuronOp:
    return NeuronOp(name, (source,), shape, 1.0, du, 0)


def network_of(*ops: Op, steps: int = 1) -> LayerGraph:
    """``ops`` behind an input, before a readout of the last one."""
    shape = ops[-1].shape
    readout = ReadoutOp("readout", (ops[-1].name,), shape, np.ones(2))
    return LayerGraph(2, steps, (InputOp("input", (), SHAPE), *ops, readout))


def checked(graph: LayerGraph, rate: float = SILENT) -> tuple[FloatNetwork, list[Stream]]:
    network, streams = composed(graph, rate)
    images = images_for(np.random.default_rng(5), SHAPE)
    expected, found = run_graph(graph, images), run_network(network, images)
    assert_same_spikes(network, found, expected)
    torch.testing.assert_close(found["readout"], expected["readout"], rtol=0, atol=0)
    return network, streams


def test_neurons_that_read_one_stream_become_one_population() -> None:
    graph = network_of(
        conv("c", "input", bias=True), fire("a", "c"), fire("b", "c"), AddOp("+", ("a", "b"), SHAPE), conv("d", "+")
    )
    network, _ = checked(graph)
    assert [p.name for p in network.populations] == ["a", "readout"]


def test_neurons_of_different_parameters_stay_two() -> None:
    slow = NeuronOp("b", ("c",), SHAPE, 2.0, 4095, 0)
    graph = network_of(conv("c", "input"), fire("a", "c"), slow, AddOp("+", ("a", "b"), SHAPE))
    network, _ = checked(graph)
    assert [p.name for p in network.populations if p.neuron is not None] == ["a", "b"]


def test_a_convolution_of_a_real_stream_forces_a_relay() -> None:
    network, streams = checked(network_of(conv("a", "input"), conv("b", "a"), fire("n", "b")))
    assert [p.name for p in network.populations] == ["a:relay", "n", "readout"]
    (stream,) = streams
    assert (stream.name, stream.readers, stream.relay) == ("a", 1, True)
    assert math.isnan(stream.composed_operations)
    assert math.isnan(stream.relay_operations)


def test_an_even_kernel_after_upsampling_forces_a_relay() -> None:
    up = UpsampleOp("up", ("n",), (2, 8, 8), 2)
    even = ConvOp("even", ("up",), (2, 7, 7), dyadic(RNG, 2, 2, 2, 2), np.zeros(2))
    network, _ = checked(network_of(conv("c", "input"), fire("n", "c"), up, even))
    assert [p.name for p in network.populations] == ["n", "up:relay", "readout"]


def test_a_bias_across_the_border_is_refused_by_name() -> None:
    with pytest.raises(LoweringError, match=r"^a: a value with a bias feeds a layer that reads across the border"):
        composed(network_of(conv("a", "input", bias=True), conv("b", "a"), fire("n", "b")), SILENT)


@pytest.mark.parametrize(("size", "padding"), [(1, 0), (3, 0)])
def test_a_bias_without_a_border_is_composed(size: int, padding: int) -> None:
    second = conv("b", "a", size, bias=True, padding=padding)
    checked(network_of(conv("a", "input", bias=True), second, fire("n", "b", second.shape)))


@pytest.mark.parametrize("source", ["biased", "conditioned"])
def test_a_bias_of_a_neuron_whose_current_decays_is_refused_by_name(source: str) -> None:
    biased = conv("biased", "input", bias=source == "biased")
    conditioned = ConditionOp("conditioned", ("biased",), SHAPE, dyadic(RNG, 1, 2))
    with pytest.raises(LoweringError, match=r"^n: its current decays and its input has a bias"):
        composed(network_of(biased, conditioned, fire("n", source, du=1023)), SILENT)


def test_a_readout_that_depends_on_the_diffusion_step_is_refused() -> None:
    conditioned = ConditionOp("t", ("b",), SHAPE, dyadic(RNG, 1, 2))
    with pytest.raises(LoweringError, match=r"^readout: a readout cannot depend on the diffusion step"):
        composed(network_of(conv("a", "input"), fire("n", "a"), conv("b", "n"), conditioned), SILENT)


def test_what_no_readout_hears_is_left_out() -> None:
    graph = network_of(conv("a", "input"), fire("unheard", "a"), conv("b", "input"), fire("heard", "b"))
    network, _ = checked(graph)
    assert [p.name for p in network.populations] == ["heard", "readout"]


def test_a_model_without_a_readout_is_refused() -> None:
    graph = network_of(conv("a", "input"), fire("n", "a"))
    with pytest.raises(LoweringError, match="no readout"):
        composed(LayerGraph(graph.timesteps, 1, graph.ops[:-1]), SILENT)


def stream_graph() -> LayerGraph:
    """n (8x8, stream of two 1x1 convolutions) -> + -> two neurons of different thresholds -> readout."""
    shape: Shape = (2, 4, 4)

    def pointwise(name: str, source: str) -> ConvOp:
        return ConvOp(name, (source,), shape, np.ones((2, 2, 1, 1)), np.zeros(2))

    ops = (
        pointwise("c", "input"),
        fire("m", "c"),
        ConvOp("k", ("m",), shape, np.ones((2, 2, 3, 3)), np.zeros(2), padding=(1, 1)),
        fire("a", "k"),
        NeuronOp("b", ("k",), shape, 2.0, 4095, 0),
        AddOp("+", ("a", "b"), shape),
    )
    return network_of(*ops)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.25, 0.5])
def test_the_cheaper_way_is_chosen_by_operations_that_a_hand_can_count(rate: float) -> None:
    graph = stream_graph()
    _, (stream,) = compose_linear(graph, {"m": rate, "a": 0.0, "b": 0.0})
    neurons, steps = 32, 2
    first = neurons * 2  # every input pixel, to two channels
    kernel = rate * neurons * 2 * 9  # every spike of m, to two channels and nine pixels
    # a relay: the kernel once, one update per relay neuron, and its 32 graded messages to each of the two readers
    assert stream.composed_operations == pytest.approx(steps * (first + 2 * kernel))
    assert stream.relay_operations == pytest.approx(steps * (first + kernel + neurons + 2 * neurons))
    assert stream.relay == (kernel > 3 * neurons)
    assert (stream.name, stream.readers) == ("k", 2)
