"""The clock fires when it should, and its weights make any bias that changes over time."""

from __future__ import annotations

import numpy as np
import pytest

from spikegen.errors import LoweringError
from spikegen.lowering import clock
from spikegen.lowering.nearest import quantized_population
from spikegen.program import Lif
from spikegen.program.numerics import lif_step
from tests.lowering.graphs import dyadic


@pytest.mark.parametrize("timesteps", [2, 3, 4, 5, 8, 16, 33, clock.TIMESTEPS_MAX])
def test_it_fires_when_it_says(timesteps: int) -> None:
    population = clock.clock(timesteps, 1, 1)
    nothing = np.zeros(timesteps - 1, dtype=np.int64)
    built = quantized_population(population, 1.0, population.bias, (nothing, nothing))
    assert built is not None
    node, _ = built
    assert isinstance(node, Lif)
    assert node.bias_exp == 0
    u = v = nothing
    bias = node.bias_mant.astype(np.int64)
    sent = []
    for _ in range(timesteps):
        u, v, spikes = lif_step(u, v, nothing, vth=node.vth, du=node.du, dv=node.dv, bias=bias)
        sent.append(spikes)
    fired = clock.spikes(timesteps)
    np.testing.assert_array_equal(np.array(sent), fired)
    assert not fired[0].any()
    assert fired.argmax(axis=0).tolist() == list(range(1, timesteps))  # channel k - 1 begins at timestep k


@pytest.mark.parametrize("timesteps", [2, 4, 7, 64])
def test_its_weights_make_any_bias(timesteps: int) -> None:
    bias = dyadic(np.random.default_rng(timesteps), timesteps, 3)
    constant, weight = clock.clocked("n", bias)
    assert weight is not None
    made = constant + clock.spikes(timesteps) @ weight[:, :, 0, 0].T
    np.testing.assert_array_equal(made, bias)


def test_a_bias_that_does_not_change_needs_no_clock() -> None:
    bias = dyadic(np.random.default_rng(0), 3)
    for given in (bias, np.tile(bias, (4, 1))):
        constant, weight = clock.clocked("n", given)
        np.testing.assert_array_equal(constant, bias)
        assert weight is None


def test_more_timesteps_than_a_clock_has_are_refused() -> None:
    bias = np.arange(65.0)[:, None]
    with pytest.raises(LoweringError, match=r"^n: its bias differs between 65 timesteps, limit is 64; use fewer"):
        clock.clocked("n", bias)
