"""Lava's own neuron models, called directly, equal ``numerics.lif_step`` on the values where widths end."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from lava.proc.graded.models import PyGradedVecModelFixed
from lava.proc.lif.models import PyLifModelBitAcc, PyLifResetModelBitAcc

from spikegen.program.numerics import (
    BIAS_EXP_MAX,
    BIAS_MANT_MAX,
    BIAS_MANT_MIN,
    CURRENT_LIMIT,
    DECAY_MAX,
    STATE_LIMIT,
    VTH_MAX,
    lif_step,
)

pytestmark = pytest.mark.lava


class Port:
    """Stands for an in-port that delivers ``message``, and for an out-port that keeps what is sent."""

    def __init__(self, message: Any = None) -> None:
        self.message = message

    def recv(self) -> Any:
        return self.message

    def send(self, message: Any) -> None:
        self.message = np.array(message)


def around(*values: int) -> st.SearchStrategy[int]:
    """Values near the given ones, and any between the lowest and the highest."""
    near = [value + offset for value in values for offset in (-2, -1, 0, 1, 2)]
    inside = [value for value in near if min(values) <= value <= max(values)]
    return st.sampled_from(inside) | st.integers(min(values), max(values))


U = around(1 - STATE_LIMIT, -(1 << 12), 0, 1 << 12, STATE_LIMIT)  # wrap24 gives (-2^23, 2^23]
V = around(1 - STATE_LIMIT, -(1 << 12), 0, 1 << 12, STATE_LIMIT - 1)
A = around(1 - CURRENT_LIMIT, -(1 << 17), 0, 1 << 17, CURRENT_LIMIT - 1)
PARAMETERS = {
    "vth": around(0, VTH_MAX),
    "du": around(0, DECAY_MAX),
    "dv": around(0, DECAY_MAX),
    "mantissa": around(BIAS_MANT_MIN, 0, BIAS_MANT_MAX),
    "exponent": st.integers(0, BIAS_EXP_MAX),
}


def model_of(cls: Any, states: list[tuple[int, int, int]], parameters: dict[str, int], **proc_params: int) -> Any:
    """A Lava model whose neurons have the states (u, v, a) of ``states``, as the builder sets it up."""
    model = cls(proc_params)
    u, v, a = np.array(states).T
    model.u, model.v = u.astype(np.int32), v.astype(np.int32)
    model.a_in, model.s_out = Port(a.astype(np.int32)), Port()
    model.du, model.dv, model.vth = parameters["du"], parameters["dv"], parameters["vth"]
    model.bias_mant = np.full(len(states), parameters["mantissa"], dtype=np.int16)
    model.bias_exp = np.full(len(states), parameters["exponent"], dtype=np.int16)
    return model


@settings(max_examples=300)
@given(states=st.lists(st.tuples(U, V, A), min_size=1, max_size=8), parameters=st.fixed_dictionaries(PARAMETERS))
def test_one_step_of_the_stock_lif(states: list[tuple[int, int, int]], parameters: dict[str, int]) -> None:
    model = model_of(PyLifModelBitAcc, states, parameters)
    model.run_spk()
    assert_step_equals(model, states, parameters)


@settings(max_examples=100)
@given(
    states=st.lists(st.tuples(U, V, A), min_size=1, max_size=4),
    parameters=st.fixed_dictionaries(PARAMETERS),
    interval=st.sampled_from((1, 2, 4, 8)),
    offset=st.integers(0, 20),
    time=st.integers(1, 40),
)
def test_the_reset_comes_before_the_step(
    states: list[tuple[int, int, int]], parameters: dict[str, int], interval: int, offset: int, time: int
) -> None:
    model = model_of(PyLifResetModelBitAcc, states, parameters, reset_interval=interval, reset_offset=offset)
    model.time_step = time
    model.run_spk()
    if time % interval == offset % interval:
        states = [(0, 0, a) for _, _, a in states]
    assert_step_equals(model, states, parameters)


def assert_step_equals(model: Any, states: list[tuple[int, int, int]], parameters: dict[str, int]) -> None:
    u, v, a = np.array(states, dtype=np.int64).T
    bias = parameters["mantissa"] << parameters["exponent"]
    new_u, new_v, spikes = lif_step(u, v, a, vth=parameters["vth"], du=parameters["du"], dv=parameters["dv"], bias=bias)
    np.testing.assert_array_equal(model.u, new_u)
    np.testing.assert_array_equal(model.v, new_v)
    np.testing.assert_array_equal(model.s_out.message, spikes)


@given(st.lists(around(1 - STATE_LIMIT, -1, 0, 1, STATE_LIMIT - 1), min_size=1, max_size=8))
def test_graded_vec_with_threshold_0_passes_everything_on(values: list[int]) -> None:
    model = PyGradedVecModelFixed({})
    model.v, model.vth = np.zeros(len(values), dtype=np.int32), np.zeros(1, dtype=np.int32)
    model.a_in, model.s_out = Port(np.array(values, dtype=np.int32)), Port()
    for _ in range(2):
        model.run_spk()
        np.testing.assert_array_equal(model.s_out.message, values)
