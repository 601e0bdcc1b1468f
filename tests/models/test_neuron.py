"""The neuron is the documented recurrence, on SLAYER's own grid."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from spikegen.models import SpikingNeuron
from spikegen.models.vqsvae import lif

SHAPE = (2, 3, 2)


def reference(inputs: list[int], threshold: int, current_decay: int, voltage_decay: int) -> list[int]:
    """Spikes of one neuron; states, inputs and threshold in units of 1/4096, Python integers."""

    def kept(state: int, amount: int) -> int:
        magnitude = abs(state) * (4096 - amount) >> 12
        return magnitude if state >= 0 else -magnitude

    u = v = 0
    spikes = []
    for x in inputs:
        u = kept(u, current_decay) + x
        v = kept(v, voltage_decay) + u
        spikes.append(int(v > threshold))
        v = 0 if spikes[-1] else v
    return spikes


@pytest.mark.parametrize(
    ("current_decay", "voltage_decay"), [(4096, 0), (4096, 512), (1024, 0), (2048, 1000), (1, 4095)]
)
@given(seed=st.integers(0, 2**32 - 1), timesteps=st.integers(1, 8), threshold=st.sampled_from((16, 64, 100)))
def test_the_documented_recurrence(
    current_decay: int, voltage_decay: int, seed: int, timesteps: int, threshold: int
) -> None:
    rng = np.random.default_rng(seed)
    units = rng.integers(-4096, 8192, (timesteps, 3, *SHAPE))
    # the membrane meets the threshold exactly now and then: equality must not fire
    units[rng.random(units.shape) < 0.2] = threshold * 64
    layer = SpikingNeuron(timesteps, threshold / 64, current_decay / 4096, voltage_decay / 4096)
    x = torch.from_numpy(units / 4096).float().flatten(0, 1)
    expected = np.apply_along_axis(
        lambda column: reference([int(value) for value in column], threshold * 64, current_decay, voltage_decay),
        0,
        units,
    )
    for _ in range(2):  # the state is reset between calls
        spikes = layer(x)
        assert spikes.shape == x.shape
        np.testing.assert_array_equal(spikes.unflatten(0, (timesteps, 3)).numpy(), expected)


def test_a_membrane_at_the_threshold_does_not_fire() -> None:
    layer = SpikingNeuron(1, 1.0)
    x = torch.tensor([1.0, 1.0 + 1 / 4096, 1.0 - 1 / 4096]).reshape(3, 1, 1, 1)
    assert layer(x).flatten().tolist() == [0.0, 1.0, 0.0]


def test_the_threshold_is_rounded_down_to_a_multiple_of_1_64() -> None:
    layer = SpikingNeuron(1, 1.0 + 1 / 100)
    assert layer(torch.full((1, 1, 1, 1), 1.0 + 1 / 4096)).item() == 1.0


@given(seed=st.integers(0, 2**32 - 1), timesteps=st.integers(1, 5))
def test_decay_and_gain_of_one_half_are_a_lif_with_input_decay(seed: int, timesteps: int) -> None:
    """``v = v + (x - v) / 2`` in Python integers; steps of 1/16 are halved 8 times before SLAYER's 1/4096 ends."""
    units = np.random.default_rng(seed).integers(-16, 48, (timesteps, 3, *SHAPE))
    layer = SpikingNeuron(timesteps, 1.0, voltage_decay=0.5, gain=0.5)
    spikes = layer(torch.from_numpy(units / 16).float().flatten(0, 1)).unflatten(0, (timesteps, 3)).numpy()
    v = np.zeros(units.shape[1:], dtype=np.int64)
    for t in range(timesteps):
        v = v + (units[t] * 256 - v) // 2
        fired = v > 16 * 256
        np.testing.assert_array_equal(spikes[t], fired)
        v = np.where(fired, 0, v)


@given(seed=st.integers(0, 2**32 - 1), timesteps=st.integers(1, 7))
def test_the_lif_of_the_autoencoder_is_that_of_spikingjelly(seed: int, timesteps: int) -> None:
    """SpikingJelly's ``LIFNode(tau=2, decay_input=True, v_threshold=1, v_reset=0)``, one neuron after another.

    Inputs are multiples of 1/16, whose halves SLAYER's state (1/4096) holds exactly for 7 steps. At exactly the
    threshold SpikingJelly fires and Loihi does not; such neurons are left out.
    """
    layer = lif(timesteps)
    inputs = np.random.default_rng(seed).integers(-32, 64, (timesteps, 40)) / 16
    spikes = layer(torch.from_numpy(inputs).float()[:, :, None, None]).reshape(timesteps, 40).tolist()
    for neuron in range(40):
        v, expected, tie = 0.0, [], False
        for x in inputs[:, neuron].tolist():
            u = v + (x - v) / 2.0
            tie |= u == 1.0
            expected.append(float(u >= 1.0))
            v = u * (1.0 - expected[-1])
        assert tie or [row[neuron] for row in spikes] == expected


def test_the_lif_does_not_fire_at_its_threshold() -> None:
    x = torch.tensor([2.0, 2.0 + 1 / 1024]).reshape(2, 1, 1, 1)
    assert lif(1)(x).flatten().tolist() == [0.0, 1.0]


def test_images_and_shapes_may_change_between_calls() -> None:
    layer = SpikingNeuron(2)
    for shape in ((2, 1, 3, 3), (6, 1, 3, 3), (4, 2, 5, 4), (2, 1, 3, 3)):
        assert layer(torch.full(shape, 0.75)).unflatten(0, (2, -1))[:, 0, 0, 0, 0].tolist() == [0.0, 1.0]


def test_the_gradient_reaches_neurons_near_the_threshold() -> None:
    x = torch.full((1, 1, 1, 2), 0.9).requires_grad_()
    with torch.no_grad():
        x[..., 1] = -50.0
    SpikingNeuron(1)(x).sum().backward()
    assert x.grad is not None
    near, far = x.grad.flatten().tolist()
    # exp(-2 |v - threshold|), the surrogate that the module's constants stand for; float32, and v on a 1/4096 grid
    assert near == pytest.approx(np.exp(-2 * 0.1), rel=1e-2)
    assert far == pytest.approx(0.0, abs=1e-6)


def test_an_input_of_mixed_precision_is_integrated_in_float32() -> None:
    """SLAYER's state has 18 fractional bits; in bfloat16 a membrane that grows by 1/256 would stand still at 1."""
    neuron = SpikingNeuron(400, voltage_decay=0.0)
    x = torch.full((400, 1, 1, 1), 1 / 256, dtype=torch.bfloat16)
    spikes = neuron(x)
    assert spikes.dtype == torch.float32
    torch.testing.assert_close(spikes, neuron(x.float()), rtol=0, atol=0)
    assert spikes.sum() == 1
