"""Currents of one projection against PyTorch's convolution and pixel shuffle, exactly."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import assume, given, settings

from spikegen.errors import BackendError
from spikegen.program import Conv, Dense
from spikegen.simulator import currents
from spikegen.simulator.currents import projection_currents

pairs = st.tuples


def by_torch(projection: Conv, messages: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """float64 holds every integer that occurs here."""
    result = torch.nn.functional.conv2d(
        torch.tensor(messages, dtype=torch.float64),
        torch.tensor(projection.weight, dtype=torch.float64) * 2**projection.exponent,
        stride=projection.stride,
        padding=projection.padding,
        dilation=projection.dilation,
        groups=projection.groups,
    )
    shuffled: npt.NDArray[np.int64] = torch.pixel_shuffle(result, projection.shuffle).numpy().astype(np.int64)
    return shuffled


@settings(max_examples=200)
@given(
    stride=pairs(st.integers(1, 4), st.integers(1, 4)),
    padding=pairs(st.integers(0, 4), st.integers(0, 4)),
    dilation=pairs(st.integers(1, 3), st.integers(1, 3)),
    kernel=pairs(st.integers(1, 5), st.integers(1, 5)),
    size=pairs(st.integers(1, 9), st.integers(1, 9)),
    groups=st.integers(1, 4),
    channels=pairs(st.integers(1, 3), st.integers(1, 3)),
    shuffle=st.integers(1, 3),
    exponent=st.integers(0, 15),
    bits=st.sampled_from((1, 4, 12, 23)),
    batch=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_conv_equals_torch(
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    kernel: tuple[int, int],
    size: tuple[int, int],
    channels: tuple[int, int],
    *,
    groups: int,
    shuffle: int,
    exponent: int,
    bits: int,
    batch: int,
    seed: int,
) -> None:
    assume(all(n + 2 * p > d * (k - 1) for n, p, d, k in zip(size, padding, dilation, kernel, strict=True)))
    rng = np.random.default_rng(seed)
    inputs, outputs = channels[0] * groups, channels[1] * groups * shuffle**2
    weight = rng.integers(-128, 128, (outputs, channels[0], *kernel))
    projection = Conv(
        "c", "a", "b", weight.astype(np.int8), exponent, stride, padding, dilation, groups=groups, shuffle=shuffle
    )
    limit = (1 << bits) - 1
    messages = rng.integers(-limit, limit + 1, (batch, inputs, *size)).astype(np.int32)
    found = projection_currents(projection, messages)
    assert found.dtype == np.int64
    assert found.shape == (batch, *projection.target_shape((inputs, *size)))
    np.testing.assert_array_equal(found, by_torch(projection, messages))


@settings(max_examples=50)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 15), st.sampled_from((1, 23)), st.integers(0, 2**32 - 1))
def test_dense_equals_integers(inputs: int, outputs: int, exponent: int, bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-128, 128, (outputs, inputs))
    messages = rng.integers(1 - (1 << bits), 1 << bits, (2, inputs, 1, 1))
    found = projection_currents(Dense("d", "a", "b", weight.astype(np.int8), exponent), messages.astype(np.int32))
    np.testing.assert_array_equal(found, messages[:, :, 0, 0] @ weight.T << exponent)


EDGES = [(1 << 17, 1), (1 << 10, 127), (1 << 10, 129), (3, 1 << 22), (1 << 16, (1 << 23) - 1)]


@pytest.mark.parametrize(("taps", "message"), EDGES)
def test_sums_at_the_edge_of_a_float_are_exact(taps: int, message: int) -> None:
    messages = np.full((1, taps, 1, 1), message, dtype=np.int32)
    lowest = np.full((1, taps), -128, dtype=np.int8)
    assert projection_currents(Dense("d", "a", "b", lowest, 0), messages).tolist() == [[-128 * taps * message]]
    odd = lowest.copy()
    odd[0, 0] = -127  # an odd multiple needs every bit of the mantissa
    assert projection_currents(Dense("d", "a", "b", odd, 0), messages).tolist() == [[(1 - 128 * taps) * message]]


def test_the_width_of_the_sum_is_chosen_by_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = []
    conv = currents._conv

    def spy(projection: Conv, messages: Any, weight: Any) -> Any:
        widths.append((messages.dtype.name, weight.dtype.name))
        return conv(projection, messages, weight)

    monkeypatch.setattr(currents, "_conv", spy)
    projection = Conv("c", "a", "b", np.ones((1, 1, 2, 1), dtype=np.int8), 0)
    # 2 taps x 128 x 65535 < 2^24 <= 2 taps x 128 x 65536
    for message in (65535, 65536, -65535, -65536):
        projection_currents(projection, np.full((1, 1, 2, 1), message, dtype=np.int32))
    assert widths == [("float32",) * 2, ("float64",) * 2] * 2


def test_currents_have_a_limit() -> None:
    """What there truly is counts, gains included, not what there could be."""

    def dense(exponent: int, *gains: int) -> Dense:
        return Dense(
            "d", "a", "b", np.full((1, 2), -128, dtype=np.int8), exponent, gains=np.array(gains, dtype=np.int32)
        )

    def sent(first: int, second: int) -> npt.NDArray[np.int32]:
        return np.array([first, second], dtype=np.int32).reshape(1, 2, 1, 1)

    # 128 x (2^22 + 2^22) << 15 = 2^45, times the gain 2^7: 2^52
    whole, limit = sent(1 << 22, 1 << 22), 1 << 52
    message = f"d: its currents reach {limit}, limit is {limit - 1}"
    with pytest.raises(BackendError, match=message):
        projection_currents(dense(15, 1, 128, 3), whole)
    with pytest.raises(BackendError, match=message):
        projection_currents(dense(15, 1, -128), whole)
    assert projection_currents(dense(15, 1, 127), whole).tolist() == [[-(1 << 45)]]
    assert projection_currents(dense(15), whole).tolist() == [[-(1 << 45)]]
    # the two cancel, but for one
    assert projection_currents(dense(15, 128), sent(1 << 22, 1 - (1 << 22))).tolist() == [[-(128 << 15)]]


def test_sums_beyond_float64_are_refused() -> None:
    taps = 1 << 23  # x 2^7 x 2^23 = 2^53
    weight = np.broadcast_to(np.int8(1), (1, taps))
    messages = np.full((1, taps, 1, 1), 1 << 23, dtype=np.int32)
    with pytest.raises(BackendError, match="d: sums of up to 9007199254740992 are not exact in float64"):
        projection_currents(Dense("d", "a", "b", weight, 0), messages)
