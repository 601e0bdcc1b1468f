"""Random torch models on an integer grid: the Program fires as the model does, and as SLAYER does on its integers."""

from __future__ import annotations

from collections.abc import Sequence

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from spikegen.lowering import InputFormat, lower
from spikegen.lowering.calibrate import Calibration
from spikegen.models import SpikingNeuron
from spikegen.models.coding import DirectCoding
from spikegen.models.readouts import FusedReadout, MeanReadout, MembraneReadout, TemporalReadout
from spikegen.program import Program, overflow_risks
from spikegen.simulator import Simulator
from spikegen.verification.slayer import SlayerTarget
from tests.lowering.reference import model_spikes

T, SIDE, LARGEST = 4, 4, 15
UNIT = 1 / 64  # SLAYER's state has 64 points in it, as the membrane of a Program has in one unit of current
NEURONS = ((1.0, 0.0, 1.0), (1.0, 0.5, 0.5), (1.0, 0.5, 0.5), (1.0, 0.25, 0.25), (0.5, 0.25, 1.0), (0.25, 0.5, 2.0))


class Stage(nn.Module):
    """Layers that change the size, and a neuron; weights are even multiples of the neuron's unit, the largest 254."""

    def __init__(self, kind: str, channels: Sequence[int], out: int, rng: np.random.Generator, graded: bool) -> None:
        super().__init__()
        inputs = sum(channels)
        current_decay, voltage_decay, gain = NEURONS[rng.integers(len(NEURONS))]
        # a bias enters the membrane past the current's decay, so there is none where that is not complete
        self.layer = self._layer(kind, inputs, out, bias=current_decay == 1.0)
        unit = UNIT / gain
        self.neuron = SpikingNeuron(T, float(rng.integers(1, 9)) * 64 * UNIT, current_decay, voltage_decay, gain)
        conv = self.layer[-1]
        assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
        mantissas = rng.integers(-126, 127, tuple(conv.weight.shape))
        middle = (..., *(size // 2 for size in mantissas.shape[2:]))
        mantissas[middle] = 127  # every input and output channel has the largest weight
        with torch.no_grad():
            conv.weight.copy_(torch.from_numpy(mantissas * 2 * unit * (LARGEST + 1 if graded else 1)))
            if conv.bias is not None:
                conv.bias.copy_(torch.from_numpy(rng.integers(-4095, 4096, out) * unit / 64))

    @staticmethod
    def _layer(kind: str, inputs: int, out: int, bias: bool) -> nn.Sequential:
        if kind == "up":
            return nn.Sequential(nn.ConvTranspose2d(inputs, out, 3, 2, 1, output_padding=1, bias=bias))
        if kind == "up4":
            return nn.Sequential(nn.ConvTranspose2d(inputs, out, 4, 2, 1, bias=bias))
        if kind == "same":
            return nn.Sequential(nn.ConvTranspose2d(inputs, out, 3, padding=1, bias=bias))
        if kind == "nearest":
            return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(inputs, out, 1, bias=bias))
        return nn.Sequential(nn.Conv2d(inputs, out, 3, 2 if kind == "down" else 1, 1, bias=bias))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.neuron(self.layer(x))
        return y


class RandomNetwork(nn.Module):
    """A chain of stages; some read a concatenation with the last spikes of their size. Takes the image only."""

    def __init__(self, kinds: Sequence[str], readout: TemporalReadout, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.coding = DirectCoding(T)
        self.stages = nn.ModuleList()
        self.skips: list[int | None] = []
        sizes, widths = [SIDE], [1]
        for kind in kinds:
            same = [i for i in range(1, len(sizes) - 1) if sizes[i] == sizes[-1]]
            skip = same[-1] if same and rng.integers(2) else None
            self.skips.append(skip)
            channels = [widths[-1]] if skip is None else [widths[-1], widths[skip]]
            out = int(rng.integers(1, 5))
            self.stages.append(Stage(kind, channels, out, rng, graded=not self.skips[1:]))
            widths.append(out)
            sizes.append({"down": (sizes[-1] + 1) // 2, "conv": sizes[-1], "same": sizes[-1]}.get(kind, 2 * sizes[-1]))
        self.readout = readout

    def forward(self, x: Tensor) -> Tensor:
        values = [self.coding(x)]
        for stage, skip in zip(self.stages, self.skips, strict=True):
            h = values[-1] if skip is None else torch.cat([values[-1], values[skip]], 1)
            values.append(stage(h))
        y: Tensor = self.readout(values[-1])
        return y


class _Seen:
    networks = spikes = 0


def test_random_networks() -> None:
    _random_networks()
    assert _Seen.networks > 50
    assert _Seen.spikes > 0.9 * _Seen.networks  # nearly every last layer fires


@settings(max_examples=60)
@given(
    kinds=st.lists(st.sampled_from(("conv", "down", "up", "up4", "same", "nearest")), min_size=1, max_size=4).filter(
        lambda kinds: sum(kind in ("up", "up4", "nearest") for kind in kinds) <= 2
    ),
    readout=st.sampled_from((MeanReadout(T), MembraneReadout(T, 0.5), FusedReadout(T, 0.5))),
    seed=st.integers(0, 2**32 - 1),
)
def _random_networks(kinds: list[str], readout: TemporalReadout, seed: int) -> None:
    model = RandomNetwork(kinds, readout, seed)
    images = np.random.default_rng(seed).integers(-LARGEST, LARGEST + 1, (6, 1, SIDE, SIDE)) / (LARGEST + 1)
    data = Calibration(images, np.zeros(len(images), dtype=np.int64))
    program = lower(model.eval(), (1, SIDE, SIDE), T, 1, data, input_format=InputFormat(4, LARGEST / (LARGEST + 1)))
    assert overflow_risks(program) == []
    assert [row["relative_error"] for row in program.report["quantisation"]] == [0.0] * (len(kinds) + 1)
    frames = program.input.quantize(images)
    found, slayer = (target(program).evaluate(frames, 0, record=True) for target in (Simulator, SlayerTarget))
    assert found.messages.keys() == slayer.messages.keys()
    for name, sent in found.messages.items():
        np.testing.assert_array_equal(sent, slayer.messages[name], err_msg=name)
    assert found.counts == slayer.counts
    spikes, output = model_spikes(model, images)
    for name, expected in spikes.items():
        np.testing.assert_array_equal(found.messages[name], expected.numpy(), err_msg=name)
    np.testing.assert_array_equal(_read(program, found.readouts["readout"]), output.numpy())
    _Seen.networks += 1
    _Seen.spikes += bool(output.any())


def _read(program: Program, currents: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    (readout,) = program.readouts()
    values = currents * readout.scale + readout.bias[:, :, None, None]
    result: npt.NDArray[np.float64] = np.einsum("ntchw,t->nchw", values, readout.weights)
    return result
