"""Our counts beside those of NeuroBench 2.3.0 where definitions agree, and each difference that docs/counting.md lists.

NeuroBench runs a layer with its input and weights made binary and sums what comes out; "effective" leaves zero weights
out, "dense" makes all inputs and weights ones.
"""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from spikegen.energy import count_operations
from spikegen.lowering.graph import InputOp
from spikegen.lowering.transposed import transposed_conv
from spikegen.program import Conv, Counts, Dense, Input, Lif, Program, Projection, Readout
from spikegen.simulator import Simulator

neurobench = pytest.importorskip("neurobench", reason="neurobench, a part of the extra test, is not installed")

Frames = npt.NDArray[np.int32]
IMAGES, TIMESTEPS = 2, 3


def theirs(net: nn.Module, frames: Frames) -> dict[str, float]:
    """What NeuroBench counts per sample in ``net``, called once for each timestep of [N, T, C, H, W]."""
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel

    model = TorchModel(net)
    model.register_hooks()
    with torch.no_grad():
        for timestep in range(frames.shape[1]):
            model(torch.from_numpy(frames[:, timestep]).float())
        found: dict[str, float] = SynapticOperations()(model, None, (torch.zeros(len(frames)), None))
    return found


def ours(projection: Projection, target: tuple[int, int, int], frames: Frames, bits: int = 0) -> Counts:
    """What one projection behind the input port counts, from a run of the simulator."""
    program = Program(
        "layer",
        frames.shape[1],
        Input("in", (frames.shape[2], frames.shape[3], frames.shape[4]), bits, 1.0, streamed=True),
        (
            Lif("a", target, 1 << 16, 4095, 0, np.zeros(target[0], dtype=np.int16), 0),
            Readout("out", (1, 1, 1), np.ones(frames.shape[1]), np.zeros(1)),
        ),
        (projection, Dense("a>out", "a", "out", np.full((1, int(np.prod(target))), 2, dtype=np.int8), 0)),
    )
    counts = Simulator(program).evaluate(frames, 0).counts
    kinds = {p.name: p.kind for p in count_operations(program, 0, counts).projections}
    assert kinds[projection.name] == ("analog" if bits else "binary")
    return counts


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Conv2d, Conv, Frames]:
    """A convolution in both worlds, zeros among its weights, and binary messages."""
    groups = draw(st.integers(1, 2))
    inputs, outputs = (groups * draw(st.integers(1, 3)) for _ in range(2))
    kernel, stride, padding, dilation = (
        (draw(st.integers(low, high)), draw(st.integers(low, high))) for low, high in ((1, 3), (1, 3), (0, 2), (1, 2))
    )
    least = [max(1, d * (k - 1) + 1 - 2 * p) for d, k, p in zip(dilation, kernel, padding, strict=True)]
    height, width = (draw(st.integers(size, size + 4)) for size in least)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight = (rng.integers(-3, 4, (outputs, inputs // groups, *kernel)) * 2).astype(np.int8)
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups)
    layer.weight.data = torch.from_numpy(weight).float()
    projection = Conv("in>a", "in", "a", weight, 0, stride=stride, padding=padding, dilation=dilation, groups=groups)
    frames = (rng.random((IMAGES, TIMESTEPS, inputs, height, width)) < draw(st.sampled_from((0.0, 0.3, 1.0)))).astype(
        np.int32
    )
    return layer, projection, frames


def target_of(layer: nn.Conv2d, frames: Frames) -> tuple[int, int, int]:
    with torch.no_grad():
        shape = layer(torch.zeros(1, *frames.shape[2:])).shape[1:]
    return int(shape[0]), int(shape[1]), int(shape[2])


@settings(max_examples=60, deadline=None)
@given(case=convolutions())
def test_convolutions(case: tuple[nn.Conv2d, Conv, Frames]) -> None:
    """Effective equals effective; stored equals it without zero weights, and dense where every neuron sends."""
    layer, projection, frames = case
    found = ours(projection, target_of(layer, frames), frames)
    counted = theirs(nn.Sequential(layer), frames)
    assert counted["Effective_MACs"] == 0
    assert counted["Effective_ACs"] * IMAGES == found.effective["in>a"]
    layer.weight.data = torch.ones_like(layer.weight)
    without_zeros = theirs(nn.Sequential(layer), frames)
    assert without_zeros["Effective_ACs"] * IMAGES == found.stored["in>a"]
    if frames.all():
        assert counted["Dense"] * IMAGES == found.stored["in>a"]  # padding has no synapses in either
    else:
        assert counted["Dense"] * IMAGES >= found.stored["in>a"]  # dense takes every neuron to send


@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0])
def test_linear_layers(rate: float) -> None:
    rng = np.random.default_rng(3)
    weight = (rng.integers(-2, 3, (7, 12)) * 2).astype(np.int8)
    layer = nn.Linear(12, 7)  # with a bias, which neither counts as a synaptic operation
    layer.weight.data = torch.from_numpy(weight).float()
    frames = (rng.random((IMAGES, TIMESTEPS, 3, 2, 2)) < rate).astype(np.int32)
    found = ours(Dense("in>a", "in", "a", weight, 0), (7, 1, 1), frames)
    counted = theirs(nn.Sequential(nn.Flatten(), layer), frames)
    assert counted["Effective_ACs"] * IMAGES == found.effective["in>a"]
    if rate == 1.0:
        assert counted["Dense"] * IMAGES == found.stored["in>a"] == IMAGES * TIMESTEPS * 84


def test_values_decide_there_what_is_declared_here() -> None:
    """An image that happens to hold ones, or zeros, is spikes to NeuroBench; here the port says that it is graded."""
    kernel = np.full((1, 1, 1, 1), 2, dtype=np.int8)
    layer = nn.Sequential(nn.Conv2d(1, 1, 1))
    for value, kind in ((1, "Effective_ACs"), (-1, "Effective_ACs"), (2, "Effective_MACs")):
        frames = np.full((1, 1, 1, 2, 2), value, dtype=np.int32)
        assert theirs(layer, frames)[kind] == 4
        assert ours(Conv("in>a", "in", "a", kernel, 0), (1, 2, 2), frames, bits=4).stored["in>a"] == 4
    # and the kind of one layer changes from timestep to timestep
    mixed = np.stack([np.full((1, 1, 2, 2), value, dtype=np.int32) for value in (1, 2)], axis=1)
    assert theirs(layer, mixed) == {"Effective_ACs": 4.0, "Effective_MACs": 4.0, "Dense": 8.0}


@pytest.mark.parametrize(
    "layer", [nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1), nn.AvgPool2d(2), nn.Upsample(scale_factor=2)]
)
def test_layers_that_are_missing_there(layer: nn.Module) -> None:
    assert theirs(nn.Sequential(layer), np.ones((1, 1, 1, 4, 4), dtype=np.int32))["Dense"] == 0


def test_a_transposed_convolution_is_counted_here() -> None:
    """Effective operations are the taps of the transposed one; the sub-pixel kernel that is stored has zeros."""
    weight = np.full((1, 1, 4, 4), 2.0)
    lowered = transposed_conv(
        "up", InputOp("in", (), (1, 4, 4)), weight, np.zeros(1), (2, 2), (1, 1), (0, 0), (1, 1), 1
    )
    kernel = lowered.weight.astype(np.int8)
    projection = Conv("in>a", "in", "a", kernel, 0, padding=lowered.padding, shuffle=lowered.shuffle)
    counts = ours(projection, (1, 8, 8), np.ones((1, 1, 1, 4, 4), dtype=np.int32))
    ones = torch.ones(1, 1, 4, 4)
    assert counts.effective["in>a"] == nn.functional.conv_transpose2d(ones, ones, stride=2, padding=1).sum()
    assert counts.stored["in>a"] > counts.effective["in>a"]


def test_a_skip_connection_is_missing_there_and_synapses_here() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.conv(x) + x
            return found

    frames = np.ones((1, 1, 1, 2, 2), dtype=np.int32)
    assert theirs(Residual(), frames)["Effective_ACs"] == 4
    kernel = np.full((1, 1, 1, 1), 2, dtype=np.int8)
    program = Program(
        "residual",
        1,
        Input("in", (1, 2, 2), 0, 1.0, streamed=True),
        (Readout("out", (1, 2, 2), np.ones(1), np.zeros(1)),),
        (Conv("conv", "in", "out", kernel, 0), Conv("skip", "in", "out", kernel, 0)),
    )
    counts = Simulator(program).evaluate(frames, 0).counts
    assert sum(counts.stored.values()) == 8


def test_sums_beyond_the_mantissa_of_a_float_are_exact_here_only() -> None:
    inputs, outputs, size = 65, 67, 29
    layer = nn.Conv2d(inputs, outputs, 3)
    layer.weight.data = torch.ones_like(layer.weight)
    frames = np.ones((1, 1, inputs, size, size), dtype=np.int32)
    exact = inputs * outputs * 9 * 27 * 27  # an odd number above 2^24
    weight = np.full((outputs, inputs, 3, 3), 2, dtype=np.int8)
    assert exact % 2 == 1
    assert ours(Conv("in>a", "in", "a", weight, 0), (outputs, 27, 27), frames).stored["in>a"] == exact
    assert theirs(nn.Sequential(layer), frames)["Dense"] == pytest.approx(exact, rel=1e-6)
    assert theirs(nn.Sequential(layer), frames)["Dense"] != exact
