"""Readouts are the documented weighted sums over SNN time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spikegen.models.readouts import FusedReadout, MeanReadout, MembraneReadout, TemporalReadout

T = 4
EXPECTED = {
    "membrane": (MembraneReadout(T, 0.5), [1 / 8, 1 / 4, 1 / 2, 1.0]),
    "mean": (MeanReadout(T), [1 / 4] * 4),
    "fused": (FusedReadout(T, 0.5), [3 / 16, 1 / 4, 3 / 8, 5 / 8]),
}


@pytest.mark.parametrize("case", EXPECTED)
def test_the_sum_over_time_has_the_documented_weights(case: str) -> None:
    readout, expected = EXPECTED[case]
    weights = readout.weights()
    assert weights.dtype == torch.float64
    assert weights.tolist() == expected
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (T * 2, 3, 2, 5))).float()
    y = readout(x)
    assert (y.shape, y.dtype) == ((2, 3, 2, 5), torch.float32)
    slow = sum(weight * x[2 * t : 2 * t + 2] for t, weight in enumerate(expected))
    torch.testing.assert_close(y, slow, rtol=0, atol=0)


def test_the_mix_is_learnt() -> None:
    """The derivative by alpha is the mean minus the membrane."""
    readout = FusedReadout(T, 0.5)
    assert [name for name, _ in readout.named_parameters()] == ["alpha"]
    readout(torch.ones(T, 1, 1, 1)).sum().backward()
    assert readout.alpha.grad is not None
    assert readout.alpha.grad.item() == 1.0 - (1 / 8 + 1 / 4 + 1 / 2 + 1.0)


@pytest.mark.parametrize(("steps", "decay", "alpha"), [(1, 0.8, 0.5), (16, 0.8, 0.25), (3, 0.0, 1.0), (5, 0.9, -2.0)])
def test_the_weights_follow_alpha(steps: int, decay: float, alpha: float) -> None:
    readout = FusedReadout(steps, decay)
    assert readout.alpha.item() == 0.5
    with torch.no_grad():
        readout.alpha.fill_(alpha)
    expected = [(1 - alpha) * decay ** (steps - 1 - t) + alpha / steps for t in range(steps)]
    assert readout.weights().tolist() == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_the_gradient_of_a_spike_is_its_weight() -> None:
    readout = FusedReadout(16)
    x = torch.ones(16, 1, 1, 1, requires_grad=True)
    y = readout(x)
    membrane = (1 - 0.8**16) / (1 - 0.8)  # 4.86, the largest value of the paper's first term
    assert y.item() == pytest.approx(0.5 * membrane + 0.5)
    y.backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == pytest.approx(readout.weights().tolist())


def test_the_base_class_has_no_weights() -> None:
    with pytest.raises(TypeError, match=r"abstract class TemporalReadout .*weights"):
        TemporalReadout(2)  # type: ignore[abstract]
