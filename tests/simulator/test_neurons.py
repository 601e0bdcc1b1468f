"""The neurons of the torch engine against ``lif_step``, spike for spike and integer for integer."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings

from spikegen.program import Lif
from spikegen.program.ir import Shape
from spikegen.program.numerics import CURRENT_LIMIT, DECAY_MAX, STATE_LIMIT, VTH_MAX, decay, lif_step
from spikegen.simulator import neurons
from spikegen.simulator.compiled import _BLOCK
from spikegen.simulator.neurons import COMPILED, CompiledFire, Fire, Neurons, fire_by_torch

IntArray = npt.NDArray[np.int64]

WAYS = ("torch", "compiled", "threads")
each_way = pytest.mark.parametrize("way", WAYS)

DECAYS = (0, 1, 2, 100, 1023, 2047, 2048, 3000, 3071, 3072, 3584, 4031, 4064, 4080, 4088, 4092, 4093, 4094, 4095)
SIZES: tuple[Shape, ...] = (
    (1, 1, 1),
    (3, 5, 7),
    (_BLOCK - 1, 1, 1),
    (_BLOCK // 8, 2, 4),
    (5, 5, 41),  # one more
    (3, 19, 36),  # four more than two blocks
)


def fire(way: str) -> Fire:
    if way == "torch":
        return fire_by_torch
    return CompiledFire(1 if way == "compiled" else 2)


@pytest.fixture(autouse=True)
def _threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neurons, "_PARALLEL", 0)


def test_numba_is_there() -> None:
    assert COMPILED


def driven(
    rng: np.random.Generator, population: Lif, bias: IntArray, images: int, timesteps: int
) -> tuple[IntArray, IntArray]:
    """Currents [n, T, C, H, W] that lead most membranes to the threshold or to the ends of their range, and the spikes.

    So close that a state that is off by one is a spike more or less; never so far that a current wraps or a membrane
    clips.
    """
    size = (images, *population.shape)
    threshold, end = population.vth << 6, STATE_LIMIT - 1
    u, v = np.zeros((2, *size), dtype=np.int64)
    currents, spikes = [], []
    for _ in range(timesteps):
        before, kept = decay(u, population.du + 1), decay(v, population.dv) + bias
        goals = rng.choice([threshold, -end, end], size, p=[0.8, 0.1, 0.1])
        # of u = before + 64 a and of v = kept + u: what they may be
        low, high = np.maximum(-end, -end - kept), np.minimum(end, end - kept)
        wanted = np.clip(goals - kept + rng.integers(-70, 70, size), low, high)
        least, most = -((before - low) // 64), (high - before) // 64
        a = np.clip((wanted - before) // 64, np.maximum(least, 1 - CURRENT_LIMIT), np.minimum(most, CURRENT_LIMIT - 1))
        u, v, fired = lif_step(u, v, a, vth=population.vth, du=population.du, dv=population.dv, bias=bias)
        currents.append(a)
        spikes.append(fired)
    return np.stack(currents, axis=1), np.stack(spikes, axis=1)


def assert_fires(way: str, population: Lif, currents: IntArray, expected: npt.NDArray[Any]) -> None:
    """``currents`` [n, T or 1, C, H, W] make ``expected`` [n, T, C, H, W]."""

    def last(values: npt.NDArray[np.generic], axis: int) -> npt.NDArray[np.generic]:
        return np.ascontiguousarray(np.moveaxis(values, axis, -1))

    charge = torch.from_numpy(last(-(currents << 6).astype(np.float32), 2))
    bias = torch.from_numpy(-(population.bias_mant.astype(np.int64) << population.bias_exp).astype(np.float32))
    expected = last(expected, 2).astype(np.uint8)
    spikes = torch.full(expected.shape, 77, dtype=torch.uint8)
    events = torch.arange(expected[0, 0].size, dtype=torch.int32).view(expected.shape[2:])
    with torch.inference_mode():
        fire(way)(Neurons.of(population), charge, bias, spikes, events)
    np.testing.assert_array_equal(spikes.numpy(), expected)
    counted = events.numpy() - np.arange(expected[0, 0].size).reshape(expected.shape[2:])
    np.testing.assert_array_equal(counted, expected.sum(axis=(0, 1), dtype=np.int64))


@st.composite
def populations(draw: st.DrawFn) -> tuple[Lif, np.random.Generator]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.sampled_from(SIZES))
    exponent = draw(st.integers(0, 7))
    mantissas = rng.integers(-4096, 4096, shape[0]) >> draw(st.sampled_from((0, 6, 12)))
    du, dv = draw(st.sampled_from((DECAY_MAX, *DECAYS))), draw(st.sampled_from((0, *DECAYS)))
    if draw(st.booleans()):
        du, dv = DECAY_MAX, 0
    vth = draw(st.sampled_from((0, 1, 12_345, VTH_MAX - 1, VTH_MAX)) | st.integers(0, VTH_MAX))
    return Lif("n", shape, vth, du, dv, mantissas.astype(np.int16), exponent), rng


def biases(population: Lif) -> IntArray:
    bias: IntArray = (population.bias_mant.astype(np.int64) << population.bias_exp)[:, None, None]
    return bias


@each_way
@settings(max_examples=70)
@given(made=populations(), images=st.integers(1, 2), timesteps=st.integers(1, 8))
def test_neurons_equal_lif_step(way: str, made: tuple[Lif, np.random.Generator], images: int, timesteps: int) -> None:
    population, rng = made
    assert_fires(way, population, *driven(rng, population, biases(population), images, timesteps))


@each_way
@pytest.mark.parametrize("du", [DECAY_MAX, 0, 1000, 2047])
@pytest.mark.parametrize("dv", [0, 1, 2048, DECAY_MAX])
def test_off_by_one_would_be_seen(way: str, du: int, dv: int) -> None:
    """Many neurons at the threshold, at half their range and at its end."""
    for vth in (0, 60_001, VTH_MAX):
        rng = np.random.default_rng(vth)
        population = Lif(
            "n", (2 * _BLOCK + 1, 1, 1), vth, du, dv, rng.integers(-99, 99, 2 * _BLOCK + 1).astype(np.int16), 0
        )
        currents, expected = driven(rng, population, biases(population), 1, 6)
        assert 0.05 < expected.mean() < 0.95
        assert_fires(way, population, currents, expected)


@each_way
@settings(max_examples=40)
@given(made=populations(), images=st.integers(1, 2), timesteps=st.integers(1, 8))
def test_a_steady_current_is_given_once(
    way: str, made: tuple[Lif, np.random.Generator], images: int, timesteps: int
) -> None:
    population, rng = made
    a = rng.integers(-1000, 1000, (images, *population.shape))
    u, v = np.zeros((2, *a.shape), dtype=np.int64)
    spikes = []
    for _ in range(timesteps):
        u, v, fired = lif_step(u, v, a, vth=population.vth, du=population.du, dv=population.dv, bias=biases(population))
        spikes.append(fired)
    assert np.abs(v).max() < STATE_LIMIT - 1 or np.abs(population.bias_mant).max() << population.bias_exp > 1 << 18
    if np.abs(v).max() < STATE_LIMIT - 1:
        assert_fires(way, population, a[:, None], np.stack(spikes, axis=1))


@each_way
def test_a_membrane_at_its_threshold_is_silent(way: str) -> None:
    population = Lif("n", (3, 1, 1), 2, DECAY_MAX, 0, np.array([-1, 0, 1], dtype=np.int16), 0)
    currents = np.full((1, 2, 3, 1, 1), 2)
    currents[0, 1] = 0
    expected = np.array([[0, 0, 1], [0, 0, 0]]).reshape(1, 2, 3, 1, 1)  # 127, 128, 129 > 128; then 126, 128, 1
    assert_fires(way, population, currents, expected)


@each_way
def test_the_largest_states(way: str) -> None:
    """2^23 - 1 and its negative, reached, kept and decayed."""
    end = STATE_LIMIT - 1
    for dv in (0, 1):
        population = Lif("n", (2, 1, 1), VTH_MAX, DECAY_MAX, dv, np.array([-1, 1], dtype=np.int16), 0)
        # the threshold is 2^23 - 64: the first falls to about -2^23 and comes back to above it, the second starts there
        first, second = [-(end // 64), 0, end // 64, end // 64, 2], [end // 64, 0, 0, 0, 0]
        currents = np.array([first, second]).T.reshape(1, 5, 2, 1, 1)
        u, v = np.zeros((2, 2), dtype=np.int64)
        expected = []
        for a in currents.reshape(5, 2):
            u, v, fired = lif_step(u, v, a, vth=VTH_MAX, du=DECAY_MAX, dv=dv, bias=np.array([-1, 1]))
            assert max(np.abs(v).max(), np.abs(u).max()) < end
            expected.append(fired)
        assert np.array(expected).sum(axis=0).tolist() == [1, 1]
        assert_fires(way, population, currents, np.array(expected).reshape(1, 5, 2, 1, 1))


@pytest.mark.parametrize("amount", [*DECAYS, 4096])
def test_decays_of_torch_are_those_of_integers(amount: int) -> None:
    """Every low part of 12 bits, with high parts from 0 to the largest."""
    low = np.arange(4096)
    states = np.concatenate([low + (high << 12) for high in (0, 1, 2, 1023, 1024, 2046, 2047)] + [[STATE_LIMIT]])
    states = np.concatenate([states, -states])
    found = neurons._decayed(torch.from_numpy(states.astype(np.float32)), amount).numpy()
    np.testing.assert_array_equal(found, decay(states, amount))
