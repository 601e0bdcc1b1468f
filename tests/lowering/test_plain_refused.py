"""Models of other libraries that are refused, by name and with what to do; and what the forms of time mean."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn

from spikegen.errors import LoweringError
from spikegen.lowering.export_module import InputSpec, export_module
from spikegen.lowering.plain import time_of
from spikegen.models import SpikingNeuron
from tests.lowering.plain_cases import CUBA, FEATURES, IMAGE, STREAMED, Calls, T, between, conv, fire, spikes
from tests.lowering.slayer_networks import Skip, normed, program_of, slayer

pytestmark = pytest.mark.filterwarnings("ignore:torch.nn.utils.weight_norm is deprecated:UserWarning")


class Loop(nn.Module):
    """The timesteps in the model itself."""

    def __init__(self) -> None:
        super().__init__()
        self.body = spikes()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x) + self.body(x)
        return y


def broken_code(x: Tensor) -> Tensor:
    broken: Tensor = x + torch.zeros(1).tolist()[1]
    return broken


REFUSED: dict[str, tuple[Callable[[], nn.Module], InputSpec, str]] = {
    "max pool of currents": (
        lambda: nn.Sequential(conv(), nn.MaxPool2d(2), fire()),
        IMAGE,
        "1: 0 is real-valued; .* beh",
    ),
    "soft reset": (
        lambda: nn.Sequential(conv(), neuron.IFNode(v_reset=None)),
        IMAGE,
        "1: it subtracts its threshold; ",
    ),
    "reset to another": (
        lambda: nn.Sequential(conv(), neuron.IFNode(v_reset=0.5)),
        IMAGE,
        r"resets to 0\.5; .*v_reset=0\.0",
    ),
    "single-step layer": (
        lambda: nn.Sequential(layer.Conv2d(2, 2, 1), fire("m")),
        IMAGE,
        r"its step_mode is 's'.*use step_mode='m'",
    ),
    "torch layer of all timesteps": (
        lambda: nn.Sequential(nn.Conv2d(2, 2, 1), fire("m")),
        IMAGE,
        r"0 \(Conv2d\): it does not take \(T, N, \.\.\.\).*SeqToANN",
    ),
    "torch layer in SLAYER": (
        lambda: nn.Sequential(nn.Conv2d(2, 2, 1), slayer(lambda c: c.Pool(CUBA, 2))),
        STREAMED,
        r"\(N, \.\.\., T\).*slayer\.block",
    ),
    "state in a folded container": (
        lambda: layer.SeqToANNContainer(nn.Conv2d(2, 2, 1), fire()),
        IMAGE,
        r"0\.1 \(IFNode\): it does not take \(T \* N",
    ),
    "two libraries": (
        lambda: nn.Sequential(fire(), SpikingNeuron(T)),
        IMAGE,
        "step by 0, folded by 1; use the layers of one library",
    ),
    "loop": (Loop, IMAGE, "body.0: it is used twice.*leave loops over timesteps out"),
    "flatten of time": (
        lambda: nn.Sequential(spikes("m"), nn.Flatten()),
        IMAGE,
        r"axes 1 to 4 of \(6, 'N', 4, 6, 6\) .* flatten\(2, 4\)",
    ),
    "no features": (
        lambda: nn.Sequential(spikes(), nn.Linear(6, 6), fire()),
        IMAGE,
        r"1: it reads \(4, 6, 6\), not features; flatten",
    ),
    "features to convolution": (
        lambda: between(nn.Flatten(), conv()),
        IMAGE,
        "2 .Conv2d.: it takes pixels, its input is features",
    ),
    "features that differ": (lambda: between(features=9), IMAGE, r"2\.0: it reads 9 features, 0\.1 has 144"),
    "no square of a Linear": (
        lambda: nn.Sequential(nn.Linear(12, 8, bias=False), nn.Unflatten(1, (2, 1, 4)), conv(), fire()),
        FEATURES,
        "only spikes become pixels",
    ),
    "pixels to pixels": (
        lambda: Calls(lambda x: x.view(-1, 2, 8, 9), spikes(), nn.Sequential(conv(), fire())),
        IMAGE,
        "by way of a Linear",
    ),
    "large rectangles": (
        lambda: nn.Sequential(nn.Linear(12, 4100), fire(), nn.Unflatten(1, (1, 41, 100)), conv(inputs=1), fire()),
        FEATURES,
        r"its features take 16810000 weights to become \(1, 41, 100\), .*limit is 16777216",
    ),
    "biases that become pixels": (
        lambda: nn.Sequential(nn.Linear(12, 8), nn.Unflatten(1, (2, 2, 2)), conv(), fire()),
        FEATURES,
        "a Linear without a bias",
    ),
    "batch into features": (lambda: Calls(lambda x: x.view(6, -1), spikes()), IMAGE, "time and batch must stay"),
    "mean over pixels": (lambda: Calls(lambda x: x.mean(-1), spikes("m")), IMAGE, "only a mean or sum over SNN time"),
    "mean of features": (lambda: between(nn.BatchNorm1d(4)), IMAGE, r"BatchNorm1d\): it takes|BatchNorm2d, before"),
    "repeated another number of times": (
        lambda: Calls(lambda x: x.unsqueeze(0).repeat(3, 1, 1, 1, 1), nn.Identity(), spikes("m")),
        IMAGE,
        r"repeat: \(3, 1, 1, 1, 1\): only the input is repeated, over SNN time, 6 times; -T says",
    ),
    "repeated elsewhere": (
        lambda: Calls(lambda x: x.repeat(6, 1, 1, 1, 1), spikes("m"), spikes("m")),
        IMAGE,
        "repeat: .*only the input is repeated",
    ),
    "another axis": (
        lambda: Calls(lambda x: x.unsqueeze(1), nn.Identity(), spikes("m")),
        IMAGE,
        r"unsqueeze: a new axis is supported only as that of SNN time",
    ),
    "repeated and streamed": (
        lambda: Calls(lambda x: x.unsqueeze(0).repeat(6, 1, 1, 1, 1), nn.Identity(), spikes("m")),
        STREAMED,
        "Calls: it repeats its input over time, which cannot be streamed then; use --constant",
    ),
    "two values": (lambda: Calls(lambda x: (x, x), spikes()), IMAGE, "a model must return one value"),  # type: ignore[arg-type, return-value]
    "power-of-two norm": (
        lambda: normed("WgtScaleBatchNorm", 0),
        STREAMED,
        "WgtScaleBatchNorm of its neuron .*use MeanOnlyBatchNorm",
    ),
    "count_log": (lambda: slayer(lambda c: c.Pool(CUBA, 2, count_log=True)), STREAMED, "count_log=False"),
    "overlapping pools": (
        lambda: slayer(lambda c: c.Pool(CUBA, 3, stride=2)),
        STREAMED,
        r"kernel \(3, 3\), stride \(2, 2\).* mix channels",
    ),
    "pool that leaves a rest": (
        lambda: slayer(lambda c: c.Pool(CUBA, 4)),
        InputSpec((1, 5, 5), T),
        "5 pixels are no whole windows of 4",
    ),
    "blocks": (
        lambda: slayer(lambda c: c.Recurrent(dict(CUBA), 4, 4), lambda c: c.Affine(CUBA, 4, 4)),
        InputSpec((4, 1, 1), T, flat=True),
        r"(?s)0 .Recurrent.: .*use Dense.*1 .Affine.*use Dense",
    ),
    "many": (
        lambda: nn.Sequential(conv(), nn.ReLU(), nn.GroupNorm(1, 4), nn.Softmax(1)),
        IMAGE,
        "(?s)ReLU.*spiking neuron.*GroupNorm.*BatchNorm2d.*Softmax.*host",
    ),
    "neurons of other kinds": (
        lambda: nn.Sequential(conv(), neuron.QIFNode()),
        IMAGE,
        "1 .QIFNode.: unknown layer; use IFNode or LIFNode",
    ),
    "an error of the model": (
        lambda: Calls(broken_code, spikes()),
        IMAGE,
        r"cannot be traced: IndexError: .* \(test_plain_refused\.py, line \d+, in broken_code\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_lowered_is_refused_by_name(name: str) -> None:
    build, spec, message = REFUSED[name]
    with pytest.raises(LoweringError) as refused:
        export_module(build(), spec)
    assert re.search(message, str(refused.value)), refused.value


def test_unknown_readout() -> None:
    with pytest.raises(LoweringError, match="readout 'max' is unknown; choose one of mean, sum, last"):
        export_module(between(), IMAGE, readout="max")


@pytest.mark.parametrize(("readout", "weights"), [("mean", [1 / T] * T), ("sum", [1.0] * T), ("last", [0.0] * 5 + [1])])
def test_the_readout_of_a_model_that_has_none(readout: str, weights: list[float]) -> None:
    (found,) = program_of(between(), IMAGE, readout=readout).readouts()
    np.testing.assert_array_equal(found.weights, weights)


def test_where_a_model_has_time() -> None:
    assert time_of(between()) == "step"
    assert time_of(nn.Sequential(spikes("m"), layer.SeqToANNContainer(nn.Conv2d(4, 2, 1)))) == "first"
    assert time_of(Skip(shift=True)) == "last"
    assert time_of(SpikingNeuron(T)) == "folded"
    assert time_of(nn.Linear(2, 2)) == "step"
