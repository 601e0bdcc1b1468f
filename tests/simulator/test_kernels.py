"""Each kernel against the currents of the numpy engine, exactly."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import assume, given, settings
from torch import Tensor

from spikegen.program import Conv, Dense, Projection
from spikegen.program.ir import Shape
from spikegen.simulator.currents import projection_currents
from spikegen.simulator.kernels import EXACT_FLOAT32, KERNELS, Convolution
from spikegen.simulator.parts import Part, parts
from spikegen.simulator.selection import is_exact

Values = npt.NDArray[np.int64]

NAMES = ("int8", "float32", "matmul")
pairs = st.tuples


def laid_out(values: npt.NDArray[Any], dtype: torch.dtype) -> Tensor:
    """(n, C, H, W) that lies in memory as (n, H, W, C)."""
    return torch.from_numpy(np.ascontiguousarray(values.transpose(0, 2, 3, 1))).to(dtype).permute(0, 3, 1, 2)


def computed(
    name: str, convolution: Convolution, messages: npt.NDArray[Any], factor: int, before: Values | None = None
) -> Values:
    """Currents of a kernel; with ``before``, those that it adds to these."""
    kernel = KERNELS[name](convolution, float(factor))
    sent = laid_out(messages, torch.uint8 if name == "int8" else torch.float32)
    with torch.inference_mode():
        if before is None:
            found = kernel(sent)
        else:
            found = laid_out(before * factor, torch.float32)
            kernel(sent, found)  # in place: what it returns besides does not matter
    assert found.dtype == torch.float32
    assert found.permute(0, 2, 3, 1).is_contiguous()
    whole: Values = found.numpy().astype(np.int64)
    return whole


def delivered(projection: Projection, part: Part, target: Shape, currents: Values) -> Values:
    """What the outputs of ``part`` have to be, given the currents (n, C, H, W) of the projection."""
    if isinstance(projection, Dense):
        return currents.reshape(-1, *target).transpose(0, 2, 3, 1).reshape(len(currents), -1, 1, 1)
    (a, b), r = part.phase, projection.shuffle
    return currents[:, :, a::r, b::r]


def cut(part: Part, found: Values, expected: Values) -> Values:
    """The outputs of ``part`` that the target has."""
    (y, x), (height, width) = part.corner, expected.shape[2:]
    return found[:, :, y : y + height, x : x + width]


def largest_sum(projection: Projection) -> int:
    """Of the magnitudes of the weights of an output."""
    return int(np.abs(projection.weight.astype(np.int64)).reshape(len(projection.weight), -1).sum(axis=1).max())


@st.composite
def projections(draw: st.DrawFn) -> tuple[Projection, Shape]:
    """A projection of any geometry, and the shape of its source."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    style = draw(st.sampled_from(("any", "sparse", "edges", "zero", "ends")))

    def weight(*shape: int) -> npt.NDArray[np.int8]:
        drawn = rng.integers(-128, 128, shape)
        if style == "sparse":
            drawn = drawn * (rng.random(shape) < 0.2)
        elif style == "edges":  # whole rows and columns of the kernel are zero
            drawn = drawn * (rng.random((1, 1, *shape[2:])) < 0.5)
        elif style == "ends":
            drawn = rng.choice([-128, 127], shape)
        return (drawn * (style != "zero")).astype(np.int8)

    if draw(st.integers(0, 4)) == 4:
        source = draw(pairs(*[st.integers(1, 4)] * 3))
        return Dense("d", "a", "b", weight(draw(st.integers(1, 4)) * 6, int(np.prod(source))), 0), source
    stride, padding, dilation, kernel, size = (
        draw(pairs(st.integers(least, most), st.integers(least, most)))
        for least, most in ((1, 3), (0, 3), (1, 2), (1, 4), (1, 8))
    )
    assume(all(n + 2 * p > d * (k - 1) for n, p, d, k in zip(size, padding, dilation, kernel, strict=True)))
    groups, inputs, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    shuffle = draw(st.sampled_from((1, 1, 2, 3)))
    drawn = weight(outputs * groups * shuffle**2, inputs, *kernel)
    made = Conv("c", "a", "b", drawn, 0, stride, padding, dilation, groups=groups, shuffle=shuffle)
    return made, (inputs * groups, *size)


SEEN: Counter[str] = Counter()


@settings(max_examples=250)
@given(
    made=projections(),
    name=st.sampled_from(NAMES),
    sign=st.sampled_from((1, -1)),
    exponent=st.integers(0, 21),
    images=st.integers(1, 3),
    ones=st.integers(0, 3),
    adds=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def _random_kernels(
    made: tuple[Projection, Shape],
    name: str,
    sign: int,
    exponent: int,
    images: int,
    ones: int,
    adds: bool,
    seed: int,
) -> None:
    projection, source = made
    rng = np.random.default_rng(seed)
    shared = (EXACT_FLOAT32 - 1) // (1 + adds)
    reach = 1 if name == "int8" else min((1 << 23) - 1, shared // max(1, largest_sum(projection)))
    messages = rng.integers(0 if name == "int8" else -reach, reach + 1, (images, *source)).astype(np.int32)
    if not ones:
        messages[:] = reach
    expected = projection_currents(projection, messages)
    target = projection.target_shape(source) if isinstance(projection, Conv) else (len(projection.weight) // 6, 2, 3)
    expected = expected.reshape(images, *target)
    if isinstance(projection, Dense):
        messages = messages.transpose(0, 2, 3, 1).reshape(images, -1, 1, 1)
    factor = sign << exponent
    for part in parts(projection, source, target):
        convolution = part.convolution
        if not is_exact(name, convolution, reach, torch.device("cpu")):  # oneDNN (of torch 2.3) is wrong
            assert name != "matmul"
            assert not convolution.ordinary or (convolution.stride[1] > 1 and convolution.outputs[2] == 1)
            SEEN["wrong"] += convolution.ordinary
            continue
        assert (images, *convolution.outputs) == computed(name, convolution, messages, factor).shape
        before = rng.integers(-shared, shared + 1, (images, *convolution.outputs)) if adds else None
        found = computed(name, convolution, messages, factor, before)
        if before is not None:
            found = found - before * factor
        wanted = delivered(projection, part, target, expected) * factor
        np.testing.assert_array_equal(cut(part, found, wanted), wanted)
        SEEN[f"{name} {'adds' if adds else 'alone'}"] += 1
        SEEN["trimmed"] += convolution.weight.shape[2:] != projection.weight.shape[2:] and isinstance(projection, Conv)
        SEEN["moved"] += part.corner != (0, 0)
        SEEN["dense"] += isinstance(projection, Dense)
        SEEN["grouped phases"] += convolution.groups > 1 and part.phase != (0, 0)


def test_kernels_equal_the_currents_of_numpy() -> None:
    SEEN.clear()
    _random_kernels()
    assert min(SEEN[f"{name} {how}"] for name in NAMES for how in ("adds", "alone")) > 3
    assert min(SEEN[kind] for kind in ("trimmed", "moved", "dense", "grouped phases")) > 10
    assert SEEN["wrong"] < 30


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_at_the_edge_of_float32(name: str, sign: int) -> None:
    """The largest sum that a population may have: 131071 spikes times 128, less one for an odd number."""
    weight = torch.full((1, (1 << 17) - 1, 1, 1), -128, dtype=torch.int8)
    weight[0, 77] = -127
    convolution = Convolution("w", weight, (weight.shape[1], 1, 1))
    messages = np.ones((2, weight.shape[1], 1, 1), dtype=np.int64)
    messages[1, 77] = 0
    odd = 128 * ((1 << 17) - 1) - 1
    assert computed(name, convolution, messages, sign).ravel().tolist() == [-sign * odd, -sign * (odd - 127)]


@pytest.mark.parametrize("name", ["float32", "matmul"])
def test_graded_sums_at_the_edge_of_float32(name: str) -> None:
    weight = torch.tensor([127, -128], dtype=torch.int8).view(1, 2, 1, 1)
    messages = np.array([[65793, 1], [65793, 0], [65792, 1]]).reshape(3, 2, 1, 1)
    expected = [127 * 65793 - 128, 127 * 65793, 127 * 65792 - 128]
    assert computed(name, Convolution("w", weight, (2, 1, 1)), messages, 1).ravel().tolist() == expected
    before = np.full((3, 1, 1, 1), EXACT_FLOAT32 - 1 - 127 * 65793)
    added = computed(name, Convolution("w", weight, (2, 1, 1)), messages, 1 << 21, before).ravel() >> 21
    assert added.tolist() == [value + int(before.flat[0]) for value in expected]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [-128, 127])
def test_many_channels_of_extreme_weights(name: str, value: int) -> None:
    """Where pairs of products or sums of 16 bits would saturate."""
    weight = np.full((67, 515, 3, 3), value, dtype=np.int8)
    projection = Conv("c", "a", "b", weight, 0, padding=(1, 1))
    messages = np.ones((1, 515, 5, 4), dtype=np.int32)
    (part,) = parts(projection, (515, 5, 4), (67, 5, 4))
    found = computed(name, part.convolution, messages.astype(np.int64), -64)
    np.testing.assert_array_equal(found, -64 * projection_currents(projection, messages))


def test_phases_of_a_transposed_convolution_have_what_they_need_of_its_kernel() -> None:
    """Of 3x3 weights of which phase (0, 0) uses the middle, (0, 1) the middle row, (1, 1) a corner, (1, 0) nothing."""
    weight = np.zeros((4, 1, 3, 3), dtype=np.int8)
    weight[0, 0, 1, 1], weight[1, 0, 1], weight[3, 0, 1:, 1:] = 5, 6, 7
    projection = Conv("c", "a", "b", weight, 0, padding=(1, 1), shuffle=2)
    found = [
        (part.phase, part.corner, tuple(part.convolution.weight.shape[2:]), part.convolution.outputs)
        for part in parts(projection, (1, 4, 5), (1, 8, 10))
    ]
    assert found == [
        ((0, 0), (0, 0), (1, 1), (1, 4, 5)),
        ((0, 1), (0, 0), (1, 3), (1, 4, 5)),
        ((1, 0), (0, 0), (1, 1), (1, 4, 5)),
        ((1, 1), (1, 1), (2, 2), (1, 5, 6)),
    ]
    # the first outputs that are none lie as far apart as the taps
    dilated = dataclasses.replace(projection, dilation=(2, 1), padding=(2, 1))
    assert [p.corner for p in parts(dilated, (1, 4, 5), (1, 8, 10))] == [(0, 0), (0, 0), (0, 0), (2, 1)]
    messages = np.random.default_rng(0).integers(0, 2, (2, 1, 4, 5)).astype(np.int32)
    expected = projection_currents(dilated, messages)
    for part in parts(dilated, (1, 4, 5), (1, 8, 10)):
        wanted = delivered(dilated, part, (1, 8, 10), expected)
        for name in NAMES:
            np.testing.assert_array_equal(cut(part, computed(name, part.convolution, messages, 1), wanted), wanted)
    # a stride would begin between two outputs of the trimmed kernel
    strided = dataclasses.replace(projection, stride=(2, 1))
    shapes = [tuple(part.convolution.weight.shape[2:]) for part in parts(strided, (1, 4, 5), (1, 4, 10))]
    assert shapes == [(3, 1), (3, 3), (3, 1), (3, 2)]


def test_groups_that_share_a_shuffle_block_have_no_parts() -> None:
    """4 outputs in 2 groups become one channel of 2x2 pixels: no phase has both groups."""
    shuffled = Conv("c", "a", "b", np.ones((4, 1, 1, 1), dtype=np.int8), 0, groups=2, shuffle=2)
    assert parts(shuffled, (2, 3, 3), (1, 6, 6)) == ()
    whole = Conv("c", "a", "b", np.ones((8, 1, 1, 1), dtype=np.int8), 0, groups=2, shuffle=2)
    assert [tuple(part.convolution.weight.shape) for part in parts(whole, (2, 3, 3), (2, 6, 6))] == [(2, 1, 1, 1)] * 4


def depthwise(value: int, **changes: object) -> Conv:
    made = Conv("c", "a", "b", np.full((3, 1, 1, 1), value, dtype=np.int8), 0, groups=3)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def test_what_a_copy_is() -> None:
    other = np.array([1, 1, 2], dtype=np.int8).reshape(3, 1, 1, 1)
    assert depthwise(-7).is_copy
    assert depthwise(0).is_copy
    for change in (
        {"stride": (1, 2)},
        {"padding": (1, 0)},
        {"weight": other},
        {"weight": np.ones((3, 3, 1, 1), dtype=np.int8), "groups": 1},
        {"weight": np.ones((6, 1, 1, 1), dtype=np.int8)},
        {"weight": np.ones((3, 1, 2, 1), dtype=np.int8)},
        {"weight": np.ones((12, 1, 1, 1), dtype=np.int8), "shuffle": 2},
    ):
        assert not depthwise(1, **change).is_copy, change


@pytest.mark.parametrize("value", [-128, 0, 1, 127])
@pytest.mark.parametrize("factor", [1, -(1 << 21)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_copies(value: int, factor: int, dtype: torch.dtype) -> None:
    projection = depthwise(value)
    rng = np.random.default_rng(0)
    messages = rng.integers(0, 2, (2, 3, 4, 5)) * (1 if dtype == torch.uint8 else 131071)
    expected = factor * projection_currents(projection, messages.astype(np.int32))
    (part,) = parts(projection, (3, 4, 5), (3, 4, 5))
    kernel = KERNELS["copy"](part.convolution, float(factor))
    sent = laid_out(messages, dtype)
    found = kernel(sent)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), expected)
    before = laid_out(np.full((2, 3, 4, 5), 7 * factor), torch.float32)
    kernel(sent, before)
    np.testing.assert_array_equal(before.numpy(), expected + 7 * factor)
    np.testing.assert_array_equal(sent.numpy(), messages)  # not touched
