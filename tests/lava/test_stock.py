"""Our process models for processes of Lava, called directly, equal Lava's own, value by value."""

from __future__ import annotations

from typing import Any
from unittest import mock

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from lava.proc.conv import utils
from lava.proc.conv.models import PyConvModelFixed
from lava.proc.conv.process import Conv
from lava.proc.lif.models import PyLifResetModelBitAcc

from spikegen.exporters.lava.processes import stock
from spikegen.exporters.lava.processes.stock import FastConv, HostBiasLif

pytestmark = pytest.mark.lava


class Port:
    """Stands for an in-port that delivers ``messages`` in turn, and for an out-port that keeps what is sent."""

    def __init__(self, shape: tuple[int, ...], messages: Any = ()) -> None:
        self.shape, self.messages, self.sent = shape, list(messages), list[Any]()

    def recv(self) -> Any:
        return self.messages.pop(0).copy()

    def send(self, data: Any) -> None:
        self.sent.append(np.array(data))


def currents(cls: Any, process: Any, messages: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """What a model of ``process`` sends, set up as Lava's builder does: one step more than there are messages."""
    model = cls(process.proc_params)
    wide = ("weight", "a_buf", "weight_exp")
    for name in (*wide, "kernel_size", "stride", "padding", "dilation", "groups", "num_message_bits"):
        var = getattr(process, name)
        array = np.empty(var.shape, dtype=np.int32 if name in wide else np.int8)
        array[:] = var.init
        setattr(model, name, array)
    model.s_in, model.a_out = Port(process.s_in.shape, [*messages, messages[0]]), Port(process.a_out.shape)
    for _ in range(len(messages) + 1):
        model.run_spk()
    sent: npt.NDArray[np.int32] = np.stack(model.a_out.sent)
    assert sent.dtype == np.int32
    return sent


# Largest message and weight: sums that float32 holds, and sums that wrap around 24 bits but fit 32.
RANGES = {"float32": (60, 127), "float64": (1 << 16, 127 << 2), "no format": (1 << 16, 127 << 2)}


@pytest.mark.parametrize("reach", list(RANGES))
@settings(max_examples=40, deadline=None)
@given(
    groups=st.integers(1, 2),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    size=st.tuples(st.integers(5, 8), st.integers(5, 8)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    binary=st.booleans(),
    seed=st.integers(0, 99),
)
def test_fast_conv_is_the_stock_conv(
    reach: str,
    groups: int,
    channels: tuple[int, int],
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    binary: bool,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    largest, heaviest = RANGES[reach]
    inputs, out = channels
    process = Conv(
        weight=rng.integers(-heaviest, heaviest, (out * groups, *kernel, inputs)).astype(np.int32),
        input_shape=(*size, inputs * groups),
        padding=padding,
        stride=stride,
        dilation=dilation,
        groups=groups,
        num_message_bits=0 if binary else 24,
    )
    messages = rng.integers(-largest, largest, (3, *size, inputs * groups)).astype(np.int32)
    messages[1] = 0
    messages[:, rng.random(messages.shape[1:]) < 0.5] = 0
    formats = {} if reach == "no format" else stock._FORMATS
    with mock.patch.object(stock, "_FORMATS", formats):
        found = currents(FastConv, process, messages)
    np.testing.assert_array_equal(found, currents(PyConvModelFixed, process, messages))


def test_a_format_is_used_as_far_as_it_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """One weight of 1: the largest message decides. At 2^24 float32 would still hold it, but not every sum below."""
    used: list[Any] = []
    original = stock._Product.__init__

    def remember(self: Any, model: Any, dtype: Any) -> None:
        used.append(dtype)
        original(self, model, dtype)

    monkeypatch.setattr(stock._Product, "__init__", remember)
    monkeypatch.setattr(utils, "conv", lambda *_: pytest.fail("Lava's own code is not needed here"))
    weight = np.ones((1, 1, 1, 1), dtype=np.int32)
    process = Conv(weight=weight, input_shape=(1, 1, 1), num_message_bits=24)
    for largest in ((1 << 24) - 1, 1 << 24):
        currents(FastConv, process, np.full((2, 1, 1, 1), largest, dtype=np.int32))
    assert used == [np.float32, np.float64]


def test_biases_of_the_host_come_at_the_start_of_a_run() -> None:
    """Steps 1 .. 4 are a run, 5 .. 8 the next; what the host writes in a run is not seen before the next one."""
    biases = np.array([5, -3], dtype=np.int16)
    parameters = {"reset_interval": 4, "reset_offset": 1, "biases": biases, "period": 4}
    model, lava = (cls(parameters) for cls in (HostBiasLif, PyLifResetModelBitAcc))
    for lif in (model, lava):
        lif.u, lif.v = np.zeros((2, 3, 2), dtype=np.int32), np.zeros((2, 3, 2), dtype=np.int32)
        lif.bias_mant, lif.bias_exp = np.zeros((2, 3, 2), dtype=np.int16), np.full((2, 3, 2), 6, dtype=np.int16)
        lif.du, lif.dv, lif.vth = 4095, 0, 12
        lif.a_in = Port((2, 3, 2), np.random.default_rng(0).integers(-3, 9, (12, 2, 3, 2)).astype(np.int32))
        lif.s_out = Port((2, 3, 2))
    for time in range(1, 13):
        if time in (1, 5, 9):
            biases[:] = [5, -3] if time != 5 else [-9, 20]
            lava.bias_mant[:] = biases
        if time == 7:
            biases[:] = 99
        for lif in (model, lava):
            lif.time_step = time
            lif.run_spk()
        np.testing.assert_array_equal(model.v, lava.v)
    np.testing.assert_array_equal(model.s_out.sent, lava.s_out.sent)
    assert 0.1 < np.mean(model.s_out.sent) < 0.9
