"""The algebra of kernels is exact, borders included: integer data in float64, equality."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch import Tensor
from torch.nn import functional

from spikegen.errors import LoweringError
from spikegen.lowering import kernels
from spikegen.lowering.graph import ConvOp
from spikegen.lowering.kernels import Kernel
from tests.lowering.reference import apply

SEEDS = st.integers(0, 2**32 - 1)


class Case(NamedTuple):
    """A random convolution and messages for it."""

    conv: ConvOp
    messages: Tensor
    rng: np.random.Generator


def integers(rng: np.random.Generator, *shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return rng.integers(-9, 10, shape).astype(np.float64)


def messages(rng: np.random.Generator, channels: int, height: int = 4, width: int = 5) -> Tensor:
    return torch.from_numpy(integers(rng, 2, channels, height, width))


def conv_op(rng: np.random.Generator, inputs: int, out: int, kernel: int, groups: int = 1, **geometry: int) -> ConvOp:
    """A ConvOp; its own shape is never read by the kernels."""
    weight = integers(rng, out, inputs // groups, kernel, kernel)
    pairs: dict[str, Any] = {name: (value, value) for name, value in geometry.items()}
    return ConvOp("conv", ("x",), (out, 1, 1), weight, np.zeros(out), groups=groups, **pairs)


def applied(conv: ConvOp, x: Tensor) -> Tensor:
    weight = torch.from_numpy(conv.weight)
    return functional.conv2d(x, weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)


def enlarged(x: Tensor, factor: int) -> Tensor:
    y: Tensor = functional.interpolate(x, scale_factor=factor, mode="nearest")
    return y


@st.composite
def first_kernels(draw: st.DrawFn, rng: np.random.Generator, channels: int) -> Kernel:
    """A convolution kernel with any geometry, groups and shuffle that fit a 4 x 5 source."""
    size, shuffle = draw(st.sampled_from((1, 2, 3))), draw(st.sampled_from((1, 2, 3)))
    groups = draw(st.sampled_from((1, channels)))
    out = channels * draw(st.integers(1, 2)) * shuffle**2
    stride, padding, dilation = (draw(st.integers(low, 2)) for low in (1, 0, 1))
    if dilation * (size - 1) >= 4 + 2 * padding:
        dilation = 1
    weight = integers(rng, out, channels // groups, size, size)
    return Kernel(weight, (stride,) * 2, (padding,) * 2, (dilation,) * 2, groups, shuffle)


@given(SEEDS, st.data())
def test_a_convolution_after_the_identity_is_that_convolution(seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    conv = conv_op(
        rng, 2, 4, data.draw(st.sampled_from((1, 2, 3))), groups=data.draw(st.sampled_from((1, 2))), padding=1
    )
    kernel = kernels.after_identity(Kernel(), conv, conv.weight, conv.groups)
    assert kernel is not None
    x = messages(rng, 2)
    torch.testing.assert_close(apply(kernel, x), applied(conv, x), rtol=0, atol=0)


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("groups", [1, 2])
@given(seed=SEEDS)
def test_upsampling_and_a_convolution_on_the_small_grid(factor: int, size: int, groups: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    conv = conv_op(rng, 2, 4, size, groups, padding=(size - 1) // 2)
    kernel = kernels.after_identity(Kernel(upsample=factor), conv, conv.weight, groups)
    assert kernel is not None
    assert kernel.shuffle == factor
    x = messages(rng, 2, int(rng.integers(1, 5)), int(rng.integers(1, 5)))
    torch.testing.assert_close(apply(kernel, x), applied(conv, enlarged(x, factor)), rtol=0, atol=0)


@pytest.mark.parametrize("geometry", [{"stride": 2, "padding": 1}, {"padding": 0}, {"dilation": 2, "padding": 1}])
def test_upsampling_and_a_convolution_of_another_geometry_do_not_compose(geometry: dict[str, int]) -> None:
    conv = conv_op(np.random.default_rng(0), 1, 1, 3, **geometry)
    assert kernels.after_identity(Kernel(upsample=2), conv, conv.weight, 1) is None


@given(SEEDS, st.data())
def test_a_pointwise_convolution_after_any_convolution(seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    first = data.draw(first_kernels(rng, 2))
    x = messages(rng, 2)
    middle = apply(first, x)
    groups = data.draw(st.sampled_from((1, 2)))
    conv = conv_op(rng, middle.shape[1], 4, 1, groups)
    kernel = kernels.after_conv(first, conv, conv.weight, groups)
    assert kernel is not None
    torch.testing.assert_close(apply(kernel, x), applied(conv, middle), rtol=0, atol=0)


@pytest.mark.parametrize(("size", "geometry"), [(3, {"padding": 1}), (1, {"stride": 2}), (1, {"padding": 1})])
def test_what_is_not_pointwise_does_not_compose_with_a_convolution(size: int, geometry: dict[str, int]) -> None:
    rng = np.random.default_rng(0)
    conv = conv_op(rng, 2, 2, size, **geometry)
    assert kernels.after_conv(Kernel(integers(rng, 2, 2, 3, 3)), conv, conv.weight, 1) is None
    assert kernels.after_conv(Kernel(), conv_op(rng, 2, 2, 1), conv.weight, 1) is None


def test_a_shuffled_convolution_composes_with_the_identity_only() -> None:
    rng = np.random.default_rng(0)
    conv = dataclasses.replace(conv_op(rng, 2, 8, 1), shuffle=2)
    kernel = kernels.after_identity(Kernel(), conv, conv.weight, 1)
    assert kernel is not None
    assert kernel.shuffle == 2
    assert kernels.after_identity(Kernel(upsample=2), conv, conv.weight, 1) is None
    assert kernels.after_conv(Kernel(integers(rng, 2, 2, 3, 3)), conv, conv.weight, 1) is None


def test_the_mean_fan_out_of_a_shuffled_convolution() -> None:
    """Each of the 2 x 4 x 5 source neurons feeds, borders aside, 12 taps of each of 4 phases of 3 channels."""
    kernel = Kernel(np.ones((12, 2, 2, 6)), padding=(0, 3), shuffle=2)
    assert kernels.mean_fan_out(kernel, (3, 8, 10), (2, 4, 5)) == 12 * 4 * 3


@given(SEEDS, st.sampled_from((2, 3)), st.data())
def test_upsampling_after_a_kernel(seed: int, factor: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    first = data.draw(first_kernels(rng, 2) | st.sampled_from((Kernel(), Kernel(upsample=2))))
    kernel = kernels.then_upsample(first, factor)
    if first.shuffle > 1:
        assert kernel is None
        return
    assert kernel is not None
    x = messages(rng, 2)
    torch.testing.assert_close(apply(kernel, x), enlarged(apply(first, x), factor), rtol=0, atol=0)


@given(SEEDS, st.sampled_from((1, 2)), st.sampled_from((1, 2)))
def test_kernels_that_are_centred_alike_become_one(seed: int, stride: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    small, large = (
        Kernel(integers(rng, 4, 2 // groups, size, size), (stride,) * 2, (size // 2,) * 2, groups=groups)
        for size in (1, 3)
    )
    x = messages(rng, 2)
    for a, b in ((small, large), (large, small), (small, small), (large, large)):
        kernel = kernels.add_kernels(a, b)
        assert kernel is not None
        torch.testing.assert_close(apply(kernel, x), apply(a, x) + apply(b, x), rtol=0, atol=0)


def test_kernels_of_different_geometry_stay_two() -> None:
    rng = np.random.default_rng(0)
    kernel = Kernel(integers(rng, 4, 4, 3, 3), padding=(1, 1))
    for other in (
        dataclasses.replace(kernel, padding=(0, 0)),
        dataclasses.replace(kernel, dilation=(2, 2), padding=(2, 2)),
        dataclasses.replace(kernel, stride=(2, 2)),
        Kernel(integers(rng, 4, 1, 3, 3), padding=(1, 1), groups=4),
        Kernel(integers(rng, 4, 4, 2, 2)),
        Kernel(integers(rng, 4, 4, 1, 3), padding=(0, 1)),
        Kernel(integers(rng, 16, 4, 3, 3), padding=(1, 1), shuffle=2),
        Kernel(),
    ):
        assert kernels.add_kernels(kernel, other) is None
        assert kernels.add_kernels(other, kernel) is None
    assert kernels.add_kernels(Kernel(), Kernel()) is None


@given(SEEDS, st.sampled_from((1, 2, 3)))
def test_a_grouped_weight_written_out(seed: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    weight = integers(rng, 2 * groups, 2, 3, 3)
    dense = kernels.dense_weight(weight, groups)
    assert dense.shape == (2 * groups, 2 * groups, 3, 3)
    x = messages(rng, 2 * groups)
    grouped = functional.conv2d(x, torch.from_numpy(weight), groups=groups)
    torch.testing.assert_close(functional.conv2d(x, torch.from_numpy(dense)), grouped, rtol=0, atol=0)


def test_an_identity_has_no_weight_to_write_out() -> None:
    with pytest.raises(LoweringError, match="identity"):
        kernels.dense_weight(None, 1)
