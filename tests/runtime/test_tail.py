"""The host's tail: PyTorch's layers to rounding, and the same bits for any number of images."""

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional

from spikegen.program import Readout, SwishTail
from spikegen.runtime import host_readout
from spikegen.runtime import tail as tail_module
from spikegen.runtime.tail import exp_of_minus, swish, swish_tail

CHANNELS, OUTPUTS, TIMESTEPS = 5, 2, 3


def tail(kernel: tuple[int, int] = (3, 3), mix: tuple[int, int] = (3, 1)) -> SwishTail:
    """Random layers, every number of them other than 0 and 1."""
    rng = np.random.default_rng(3)
    return SwishTail(
        norm_scale=rng.normal(size=CHANNELS),
        norm_shift=rng.normal(size=CHANNELS),
        weight=rng.normal(size=(OUTPUTS, CHANNELS, *kernel)),
        bias=rng.normal(size=OUTPUTS),
        gains=rng.normal(size=TIMESTEPS),
        mix_weight=rng.normal(size=(OUTPUTS, OUTPUTS, *mix)),
        mix_bias=rng.normal(size=OUTPUTS),
    )


def readout(shape: tuple[int, int, int] = (CHANNELS, 6, 5)) -> Readout:
    rng = np.random.default_rng(4)
    bias = rng.normal(size=(TIMESTEPS, CHANNELS))
    return Readout("y", shape, np.array([0.64, 0.8, 1.0]), bias, 0.01, tail())


def by_torch(layers: SwishTail, t: int, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The equations of :class:`SwishTail` with PyTorch's layers."""
    arrays = {field.name: torch.from_numpy(getattr(layers, field.name).copy()) for field in dataclasses.fields(layers)}
    normed = torch.from_numpy(x) * arrays["norm_scale"][:, None, None] + arrays["norm_shift"][:, None, None]
    q = arrays["gains"][t] * functional.conv2d(
        functional.silu(normed), arrays["weight"], arrays["bias"], padding="same"
    )
    mixed = functional.conv2d(q, arrays["mix_weight"], arrays["mix_bias"], padding="same")
    result: npt.NDArray[np.float64] = (functional.silu(mixed) + q).numpy()
    return result


@pytest.mark.parametrize("kernel", [(3, 3), (1, 1), (5, 3)])
@pytest.mark.parametrize("mix", [(3, 3), (1, 3)])
@pytest.mark.parametrize("t", range(TIMESTEPS))
def test_it_equals_torch(kernel: tuple[int, int], mix: tuple[int, int], t: int) -> None:
    layers = tail(kernel, mix)
    x = np.random.default_rng(5).normal(size=(2, CHANNELS, 6, 5)) * 10
    found, expected = swish_tail(layers, t, x), by_torch(layers, t, x)
    assert found.shape == (2, OUTPUTS, 6, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())


def test_a_readout_with_a_tail() -> None:
    port = readout()
    assert port.output_shape == (OUTPUTS, 6, 5)
    currents = np.random.default_rng(6).integers(-1000, 1000, (2, TIMESTEPS, *port.shape)).astype(np.int32)
    found = host_readout(port, currents)
    assert port.tail is not None
    expected = np.zeros((2, *port.output_shape))
    for t in range(TIMESTEPS):
        expected += port.weights[t] * by_torch(port.tail, t, 0.01 * currents[:, t] + port.bias[t][:, None, None])
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())


def test_the_number_of_images_changes_no_bit() -> None:
    """Odd sizes, so that images begin and end anywhere within the vectors of a processor."""
    port = readout((CHANNELS, 7, 3))
    currents = np.random.default_rng(7).integers(-3000, 3000, (7, TIMESTEPS, *port.shape)).astype(np.int32)
    together = host_readout(port, currents)
    for batch in range(1, 8):
        for start in range(0, 7, batch):
            part = host_readout(port, currents[start : start + batch])
            np.testing.assert_array_equal(part, together[start : start + batch])


def test_every_element_equals_the_scalar_equations_bit_for_bit() -> None:
    """Python's numbers, one IEEE operation after another: the result depends on no processor's wide instructions."""
    layers = tail()
    x = np.random.default_rng(8).normal(size=(1, CHANNELS, 3, 4)) * 5
    found = swish_tail(layers, 1, x)

    def correlation(weight: Any, values: list[Any], out: int, row: int, column: int) -> float:
        total = 0.0
        for c, i, j in np.ndindex(weight.shape[1:]):
            y, z = row + i - weight.shape[2] // 2, column + j - weight.shape[3] // 2
            inside = 0 <= y < 3 and 0 <= z < 4
            total += float(weight[out, c, i, j]) * (values[c][y][z] if inside else 0.0)
        return total

    normed = [
        [
            [scalar_swish(float(v) * float(layers.norm_scale[c]) + float(layers.norm_shift[c])) for v in row]
            for row in x[0, c]
        ]
        for c in range(CHANNELS)
    ]
    q = [
        [
            [
                (correlation(layers.weight, normed, o, y, z) + float(layers.bias[o])) * float(layers.gains[1])
                for z in range(4)
            ]
            for y in range(3)
        ]
        for o in range(OUTPUTS)
    ]
    for o, y, z in np.ndindex(OUTPUTS, 3, 4):
        mixed = correlation(layers.mix_weight, q, o, y, z) + float(layers.mix_bias[o])
        assert found[0, o, y, z] == scalar_swish(mixed) + q[o][y][z]


def scalar_swish(z: float) -> float:
    small = scalar_exp(abs(z))
    return z * (small if z < 0 else 1.0) / (1.0 + small)


def scalar_exp(x: float) -> float:
    minus = -min(x, 800.0)
    k = round(minus / math.log(2))
    r = (minus - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10
    series = 0.0
    for n in range(13, -1, -1):
        series = series * r + 1 / math.factorial(n)
    return math.ldexp(series, k)


def test_the_exponential() -> None:
    x = np.concatenate([np.linspace(0, 50, 5001), np.linspace(50, 708, 1001), [1e-300, 1e-17, math.log(2) / 2]])
    found = exp_of_minus(x)
    expected = np.array([math.exp(-value) for value in x])
    assert (np.abs(found - expected) <= 2 * np.spacing(expected)).all()
    assert exp_of_minus(np.array([0.0])) == 1.0
    # numbers below the normal range, then none at all
    assert exp_of_minus(np.array([740.0]))[0] == pytest.approx(math.exp(-740), rel=1e-2)
    assert exp_of_minus(np.array([800.0, 1e308])).tolist() == [0.0, 0.0]


def test_swish_of_extreme_numbers() -> None:
    z = np.array([-1e308, -800.0, -40.0, -1e-300, 0.0, 1e-300, 40.0, 800.0, 1e308])
    found = swish(z)
    assert found[[0, 1, 4]].tolist() == [0.0, 0.0, 0.0]
    np.testing.assert_allclose(found[[2, 3, 5]], [-40 * math.exp(-40), -5e-301, 5e-301], rtol=1e-15)
    assert found[6:].tolist() == [40.0, 800.0, 1e308]


@pytest.mark.skipif(not tail_module.COMPILED, reason="numba is not installed")
def test_machine_code_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Underflow, subnormal results, both zeros and both signs among them."""
    rng = np.random.default_rng(0)
    edges = [0.0, -0.0, 708.3, 744.4, 745.13, 745.2, 800.0, 801.0, 1e6, 1e308, 5e-324, 2**-1022]
    z = np.concatenate(
        [
            edges,
            np.negative(edges),
            -np.linspace(700, 760, 5001),
            rng.normal(size=5000) * 10 ** rng.uniform(-3, 3, 5000),
        ]
    )
    weight, x = rng.normal(size=(3, 5, 3, 3)), rng.normal(size=(4, 5, 9, 7))
    found = [tail_module.swish(z), tail_module.correlation(weight, x)]
    monkeypatch.setattr(tail_module, "COMPILED", False)
    expected = [tail_module.swish(z), tail_module.correlation(weight, x)]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.view(np.int64), b.view(np.int64))
