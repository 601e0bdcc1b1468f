"""Folding a BatchNorm changes no value."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given

from spikegen.lowering.fold_batchnorm import fold_batchnorm
from spikegen.lowering.graph import AddOp, ConvOp, GainOp, InputOp, LayerGraph, NormOp, Op
from spikegen.lowering.transposed import transposed_conv
from tests.lowering.graphs import dyadic, graphs, images_for
from tests.lowering.reference import run_graph

RNG = np.random.default_rng(0)
SHAPE = (3, 4, 4)


def conv(name: str, source: str) -> ConvOp:
    return ConvOp(name, (source,), SHAPE, dyadic(RNG, 3, 3, 3, 3), dyadic(RNG, 3), padding=(1, 1))


def norm(name: str, source: str) -> NormOp:
    return NormOp(name, (source,), SHAPE, np.array([0.5, -2.0, 1.0]), dyadic(RNG, 3))


def folded_equals(graph: LayerGraph) -> LayerGraph:
    """The folded graph, whose every remaining value is that of the original."""
    folded = fold_batchnorm(graph)
    assert not any(isinstance(op, NormOp | GainOp) for op in folded.ops)
    images = images_for(np.random.default_rng(1), graph.ops[0].shape)
    before, after = run_graph(graph, images), run_graph(folded, images)
    torch.testing.assert_close(after[folded.ops[-1].name], before[graph.ops[-1].name], rtol=0, atol=0)
    return folded


def test_a_norm_becomes_part_of_the_convolution_before_it() -> None:
    graph = LayerGraph(2, 1, (InputOp("input", (), SHAPE), conv("conv", "input"), norm("norm", "conv")))
    folded = folded_equals(graph)
    assert [op.name for op in folded.ops] == ["input", "conv"]


def test_two_norms_in_a_row_are_both_folded() -> None:
    ops = (InputOp("input", (), SHAPE), conv("conv", "input"), norm("a", "conv"), norm("b", "a"))
    assert [op.name for op in folded_equals(LayerGraph(2, 1, ops)).ops] == ["input", "conv"]


def gain(name: str, source: str, *values: float) -> GainOp:
    return GainOp(name, (source,), SHAPE, np.array(values))


@pytest.mark.parametrize("order", [("gain", "norm"), ("norm", "gain"), ("gain", "norm", "other")])
def test_gains_and_norms_in_any_order_are_folded(order: tuple[str, ...]) -> None:
    ops: list[Op] = [InputOp("input", (), SHAPE), conv("conv", "input")]
    for name in order:
        last = ops[-1].name
        ops.append(norm(name, last) if name == "norm" else gain(name, last, 1.0, 0.5 if name == "gain" else -2.0))
    (_, folded) = folded_equals(LayerGraph(2, 1, tuple(ops))).ops
    assert isinstance(folded, ConvOp)
    assert folded.gains is not None
    assert folded.gains.tolist() == ([1.0, -1.0] if "other" in order else [1.0, 0.5])
    assert folded.bias.shape == (2, 3)


def test_gains_that_are_all_equal_scale_the_weights() -> None:
    ops = (InputOp("input", (), SHAPE), conv("conv", "input"), gain("gain", "conv", 0.5, 0.5))
    (_, folded) = folded_equals(LayerGraph(2, 1, ops)).ops
    assert isinstance(folded, ConvOp)
    assert folded.gains is None
    assert folded.bias.shape == (3,)


def test_a_gain_of_what_others_read_too_becomes_a_convolution_of_one_channel_per_group() -> None:
    ops = (
        InputOp("input", (), SHAPE),
        conv("conv", "input"),
        gain("gain", "conv", 1.0, 0.5),
        AddOp("sum", ("gain", "conv"), SHAPE),
    )
    folded = folded_equals(LayerGraph(2, 1, ops)).ops[2]
    assert isinstance(folded, ConvOp)
    assert (folded.name, folded.groups, folded.weight.shape) == ("gain", 3, (3, 1, 1, 1))


def test_a_convolution_that_others_read_keeps_its_value() -> None:
    ops = (
        InputOp("input", (), SHAPE),
        conv("conv", "input"),
        norm("norm", "conv"),
        AddOp("+", ("conv", "norm"), SHAPE),
    )
    folded = folded_equals(LayerGraph(2, 1, ops))
    alone = folded.ops[2]
    assert isinstance(alone, ConvOp)
    assert (alone.name, alone.groups, alone.weight.shape) == ("norm", 3, (3, 1, 1, 1))


def test_a_norm_without_a_convolution_becomes_one() -> None:
    ops = (InputOp("input", (), SHAPE), norm("norm", "input"), conv("conv", "norm"))
    assert [type(op) for op in folded_equals(LayerGraph(2, 1, ops)).ops] == [InputOp, ConvOp, ConvOp]


@given(graphs())
def test_random_graphs(graph: LayerGraph) -> None:
    folded_equals(graph)


def test_a_norm_scales_every_phase_of_a_transposed_convolution() -> None:
    source = InputOp("input", (), SHAPE)
    weight = dyadic(RNG, 3, 3, 3, 3)
    up = transposed_conv("up", source, weight, dyadic(RNG, 3), (2, 2), (1, 1), (1, 1), (1, 1), 1)
    after = NormOp("norm", ("up",), up.shape, np.array([0.5, -2.0, 1.0]), dyadic(RNG, 3))
    assert [op.name for op in folded_equals(LayerGraph(2, 1, (source, up, after))).ops] == ["input", "up"]
