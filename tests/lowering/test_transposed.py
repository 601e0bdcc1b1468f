"""A transposed convolution on the small grid is torch's, borders included: integers, equality; or it is refused."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from torch import nn
from torch.nn import functional

from spikegen.errors import LoweringError
from spikegen.lowering.calls import Call
from spikegen.lowering.graph import ConvOp, InputOp, LayerGraph
from spikegen.lowering.layers import LAYERS
from spikegen.lowering.trace import trace
from spikegen.lowering.transposed import transposed_conv
from spikegen.models.readouts import MembraneReadout
from spikegen.program import Conv
from spikegen.simulator.currents import projection_currents

Pair = tuple[int, int]
HINT = re.compile(
    r"^up: its output has \d+ x \d+ pixels, which is no multiple of its stride \d; use output_padding=\((\d), (\d)\)$"
)


@dataclass(frozen=True)
class Geometry:
    """Parameters of :class:`torch.nn.ConvTranspose2d` and the size of its input."""

    size: Pair
    kernel: Pair
    stride: int
    padding: Pair
    output_padding: Pair
    dilation: Pair
    groups: int = 1

    @property
    def outputs(self) -> Pair:
        height, width = (
            (n - 1) * self.stride - 2 * p + d * (k - 1) + extra + 1
            for n, k, p, extra, d in zip(
                self.size, self.kernel, self.padding, self.output_padding, self.dilation, strict=True
            )
        )
        return height, width


def lowered(geometry: Geometry, weight: npt.NDArray[np.float64], bias: npt.NDArray[np.float64]) -> ConvOp:
    g = geometry
    source = InputOp("input", (), (weight.shape[0], *g.size))
    return transposed_conv(
        "up", source, weight, bias, (g.stride,) * 2, g.padding, g.output_padding, g.dilation, g.groups
    )


def program_currents(conv: ConvOp, messages: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """The currents of the Program's projection."""
    weight = conv.weight.astype(np.int8)
    np.testing.assert_array_equal(weight, conv.weight)
    projection = Conv("p", "a", "b", weight, 0, conv.stride, conv.padding, conv.dilation, conv.groups, conv.shuffle)
    assert projection.target_shape((messages.shape[1], messages.shape[2], messages.shape[3])) == conv.shape
    return projection_currents(projection, messages)


def check(geometry: Geometry, seed: int, inputs: int = 2, out: int = 2) -> bool:
    """Whether the geometry can be lowered; it is then exact, and else refused with a cure that is exact."""
    rng = np.random.default_rng(seed)
    g = geometry
    weight = rng.integers(-9, 10, (inputs, out // g.groups, *g.kernel)).astype(np.float64)
    messages = rng.integers(-9, 10, (2, inputs, *g.size))
    bias = np.zeros(out)
    if min(g.outputs) < 1:
        with pytest.raises(LoweringError, match=r"^up: its output would have -?\d+ x -?\d+ pixels; use less padding$"):
            lowered(g, weight, bias)
        return False
    if any(size % g.stride for size in g.outputs):
        with pytest.raises(LoweringError) as refused:
            lowered(g, weight, bias)
        hint = HINT.match(str(refused.value))
        assert hint is not None
        cured = Geometry(g.size, g.kernel, g.stride, g.padding, (int(hint[1]), int(hint[2])), g.dilation, g.groups)
        assert max(cured.output_padding) < max(g.stride, 1)
        if min(cured.outputs) >= 1:
            assert check(cured, seed, inputs, out)
        return False
    expected = functional.conv_transpose2d(
        torch.from_numpy(messages.astype(np.float64)),
        torch.from_numpy(weight),
        None,
        g.stride,
        g.padding,
        g.output_padding,
        g.groups,
        g.dilation,
    )
    conv = lowered(g, weight, bias)
    np.testing.assert_array_equal(program_currents(conv, messages.astype(np.int32)), expected.numpy())
    assert LayerGraph(1, 1, (InputOp("input", (), (inputs, *g.size)), conv)).macs() == macs(g, inputs, out)
    return True


def macs(g: Geometry, inputs: int, out: int) -> int:
    """Input pixels times taps that reach the output, axis by axis."""
    rows, columns = (
        sum(0 <= i * g.stride - p + a * d < outputs for i in range(n) for a in range(k))
        for n, k, p, d, outputs in zip(g.size, g.kernel, g.padding, g.dilation, g.outputs, strict=True)
    )
    return rows * columns * inputs * out // g.groups


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    def pair(low: int, high: int) -> Pair:
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    stride, dilation = draw(st.integers(1, 3)), pair(1, 2)
    extra = tuple(draw(st.integers(0, max(stride, d) - 1)) for d in dilation)
    return Geometry(
        pair(1, 5), pair(1, 5), stride, pair(0, 4), (extra[0], extra[1]), dilation, draw(st.sampled_from((1, 2)))
    )


@given(geometries(), st.integers(0, 2**32 - 1))
def test_any_geometry_is_exact_or_refused_with_a_cure(geometry: Geometry, seed: int) -> None:
    check(geometry, seed, inputs=2 * geometry.groups, out=2)


def test_every_square_geometry_has_an_output_padding_that_is_exact() -> None:
    exact: set[tuple[tuple[int, ...], int]] = set()
    refused: set[tuple[tuple[int, ...], int]] = set()
    for stride, kernel, padding, dilation in itertools.product((1, 2, 3), range(1, 6), range(4), (1, 2)):
        shape = (stride, kernel, padding, dilation)
        for extra in range(max(stride, dilation)):
            geometry = Geometry((4, 5), (kernel,) * 2, stride, (padding,) * 2, (extra,) * 2, (dilation,) * 2)
            # both axes at once: 4 - 1 and 5 - 1 strides differ by one stride, so the remainders are equal
            if min(geometry.outputs) >= 1:
                (exact if check(geometry, kernel) else refused).add((shape, extra))
    assert {shape for shape, _ in exact} >= {shape for shape, _ in refused}
    assert (len(exact), len(refused)) == (132, 120)


def test_the_usual_doubling_has_a_3x3_kernel_on_the_small_grid() -> None:
    """4x4 with stride 2 and padding 1, and 3x3 with output_padding 1, both of which make the size twice as large."""
    for kernel, extra in ((4, 0), (3, 1)):
        weight = np.ones((2, 3, kernel, kernel))
        conv = lowered(Geometry((5, 4), (kernel,) * 2, 2, (1, 1), (extra,) * 2, (1, 1)), weight, np.arange(3.0))
        assert (conv.shape, conv.weight.shape) == ((3, 10, 8), (12, 2, 3, 3))
        assert (conv.stride, conv.padding, conv.shuffle) == ((1, 1), (1, 1), 2)
        assert conv.bias.tolist() == [0.0, 1.0, 2.0]
        assert conv.taps is not None
        assert conv.taps.sum() == kernel**2  # every tap in exactly one phase
        np.testing.assert_array_equal(
            conv.weight.reshape(3, 4, 2, 3, 3) != 0, conv.taps[None, :, None].repeat(3, 0).repeat(2, 2)
        )


class Up(nn.Module):
    """One layer, called with any further arguments."""

    def __init__(self, layer: nn.Module, *arguments: Any, **named: Any) -> None:
        super().__init__()
        self.up, self.readout = layer, MembraneReadout(1)
        self.arguments, self.named = arguments, named

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.readout(self.up(x, *self.arguments, **self.named))
        return y


LAYER = nn.ConvTranspose2d(1, 2, 3, 2, 1, 1)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Up(LAYER, [8, 8]), r"up \(ConvTranspose2d\): arguments \[\[8, 8\]\] are not supported; pass the input only"),
        (Up(LAYER, output_size=[8, 8]), r"up \(ConvTranspose2d\): arguments output_size=\[8, 8\] are not supported"),
        (Up(nn.ConvTranspose2d(1, 1, 3, (1, 2))), r"up: its strides \(1, 2\) differ; .* use equal strides"),
        (
            Up(nn.ConvTranspose2d(1, 1, 3, 2)),
            r"up: its output has 9 x 11 pixels, which is no multiple of its stride 2; use output_padding=\(1, 1\)",
        ),
        (Up(nn.ConvTranspose2d(1, 1, 1, 1, 3)), "up: its output would have -2 x -1 pixels; use less padding"),
        (Up(nn.ConvTranspose1d(1, 1, 3)), r"up \(ConvTranspose1d\): unknown layer"),
    ],
)
def test_what_has_no_sub_pixel_form_is_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(LoweringError, match=message):
        trace(model, (1, 4, 5), 1, 1)


def test_another_padding_mode_is_refused() -> None:
    layer = nn.ConvTranspose2d(1, 1, 3)
    layer.padding_mode = "circular"  # torch itself refuses it in the constructor
    with pytest.raises(LoweringError, match=r"^up: padding mode 'circular'; use zeros$"):
        LAYERS[nn.ConvTranspose2d].handler(layer, [InputOp("input", (), (1, 4, 4))], Call("up", {}))
