"""Input ports: bits, integers, ranges, and what a narrow range is good for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from spikegen.errors import LoweringError
from spikegen.lowering import InputFormat, lower
from spikegen.lowering.calibrate import Calibration
from spikegen.models import SpikingNeuron
from spikegen.models.readouts import MeanReadout
from spikegen.program import overflow_risks


def test_integers_are_sent_as_they_are() -> None:
    port = InputFormat.integers(low=(0, 1), high=(128, 49)).port((2, 7, 7))
    assert (port.bits, port.scale, port.low.tolist(), port.high.tolist()) == (8, 1.0, [0, 1], [128, 49])
    x = np.stack([np.arange(49.0), np.arange(49.0) - 3]).reshape(1, 2, 7, 7)
    np.testing.assert_array_equal(port.quantize(x), x.clip(min=np.array([0, 1])[:, None, None]))
    assert InputFormat.integers(low=[-300], high=[7]).bits == 9
    assert InputFormat.integers(low=[0], high=[0]).bits == 1


def test_an_input_format_without_ranges_uses_all_of_its_bits() -> None:
    port = InputFormat(5, 2.0).port((3, 1, 1))
    assert (port.scale, port.low.tolist(), port.high.tolist()) == (2.0 / 31, [-31] * 3, [31] * 3)
    assert (InputFormat(0, 1.0).scale, InputFormat(0, 1.0).port((1, 1, 1)).high.tolist()) == (1.0, [1])


def test_a_range_for_every_channel_is_needed() -> None:
    with pytest.raises(
        LoweringError, match=r"^input: InputFormat\.low has 2 values, the input 3 channels; give one each$"
    ):
        InputFormat.integers(low=(0, 1), high=(2, 2)).port((3, 1, 1))


def test_a_narrow_range_proves_what_the_whole_range_of_the_bits_does_not() -> None:
    """The channel of 0 .. 3 has large weights; if it could hold 4095, the current might leave its 24 bits."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    images = np.stack([rng.integers(0, 4, (8, 4, 4)), rng.integers(0, 4096, (8, 4, 4))], 1).astype(np.float64)
    data = Calibration(images, np.zeros(8, dtype=np.int64))
    model = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), SpikingNeuron(4, 500.0), MeanReadout(4)).eval()
    with torch.no_grad():
        model[0].weight[:, 0] *= 16
        model[0].weight[:, 1].abs_()
    narrow, wide = (
        lower(model, (2, 4, 4), 4, 1, data, input_format=given)
        for given in (InputFormat.integers((0, 0), (3, 4095)), InputFormat(12, 4095.0))
    )
    first, second = (program.report["quantisation"][0] for program in (narrow, wide))
    assert (first["overflow"], second["overflow"]) == ("impossible", "possible")
    assert overflow_risks(narrow) == []
    assert first["current_max"] < second["current_max"] * second["lsb"] / first["lsb"]
