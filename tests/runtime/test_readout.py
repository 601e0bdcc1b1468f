import numpy as np

from spikegen.program import Readout
from spikegen.runtime import host_readout


def test_every_element_equals_the_scalar_sum_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    readout = Readout("y", (2, 5, 7), 0.8 ** np.arange(8)[::-1], rng.normal(size=(8, 2)), 0.0123)
    currents = rng.integers(-(2**20), 2**20, (6, 8, 2, 5, 7)).astype(np.int32)
    result = host_readout(readout, currents)
    assert result.dtype == np.float64
    for index in np.ndindex(*result.shape):
        image, channel, y, x = index
        expected = 0.0
        for t in range(8):  # Python floats: one IEEE operation after another
            value = float(currents[image, t, channel, y, x]) * readout.scale + float(readout.bias[t, channel])
            expected += value * float(readout.weights[t])
        assert result[index] == expected


def test_one_bias_is_that_of_every_timestep() -> None:
    one = Readout("y", (2, 1, 1), np.array([0.5, 1.0, 2.0]), np.array([3.0, -1.0]))
    np.testing.assert_array_equal(one.bias, [[3.0, -1.0]] * 3)
    assert not one.bias.flags.writeable
    each = Readout("y", (2, 1, 1), one.weights, np.array([[3.0, -1.0], [0.0, 0.0], [1.0, 7.0]]))
    silent = np.zeros((1, 3, 2, 1, 1), dtype=np.int32)
    assert host_readout(one, silent).ravel().tolist() == [10.5, -3.5]
    assert host_readout(each, silent).ravel().tolist() == [3.5, 13.5]


def test_the_number_of_images_changes_no_bit() -> None:
    rng = np.random.default_rng(1)
    readout = Readout("y", (1, 3, 3), np.full(4, 0.1), np.array([0.7]), 0.3)
    currents = rng.integers(-(2**20), 2**20, (33, 4, 1, 3, 3)).astype(np.int32)
    together = host_readout(readout, currents)
    for n in range(33):
        np.testing.assert_array_equal(together[n], host_readout(readout, currents[n : n + 1])[0])
