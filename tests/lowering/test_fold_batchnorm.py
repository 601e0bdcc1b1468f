"""Folding a BatchNorm changes no value."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given

from spikegen.lowering.fold_batchnorm import fold_batchnorm
from spikegen.lowering.graph import AddOp, ConvOp, InputOp, LayerGraph, NormOp
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
    assert not any(isinstance(op, NormOp) for op in folded.ops)
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
