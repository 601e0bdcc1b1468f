"""Files of ``export_hdf5``: every layer of the table fires as SLAYER does, and numbers are taken as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from spikegen.errors import ConfigError, ExchangeError
from spikegen.exporters.netx import convert
from spikegen.exporters.netx.convert import import_netx
from spikegen.exporters.netx.layers import LAYERS, REFUSED
from spikegen.exporters.netx.structure import read_structure
from spikegen.program import Conv, Dense, Lif, Program, Readout
from spikegen.simulator import Simulator
from tests.netx.files import CUBA, FLATTEN, IF, conv, dense, input_layer, network, write
from tests.netx.slayer import block, spikes, written

T = 8
quiet = pytest.mark.filterwarnings("ignore:torch.nn.utils.weight_norm is deprecated:UserWarning")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of our own need no process of their own."""
    monkeypatch.setattr(convert, "read_checked", read_structure)


def _if(threshold: float, **norm: Any) -> dict[str, Any]:
    return {"neuron": {"threshold": threshold, "current_decay": 1.0, "voltage_decay": 0.0, **norm}}


def _norm() -> dict[str, Any]:
    from lava.lib.dl.slayer.neuron.norm import MeanOnlyBatchNorm

    return _if(1.0, norm=MeanOnlyBatchNorm)


def _encoder() -> list[nn.Module]:
    options = {"current_decay": 1.0, "threshold": 1.0}
    return [block("Input", weight=1.5, bias=0.25, neuron=options), block("Conv", 2, 3, 3, weight_scale=4)]


def uneven(made: nn.Module) -> nn.Module:
    """A pooling whose window is not the same everywhere."""
    weight = made.synapse.weight
    weight.data.copy_(torch.linspace(0.2, 1.2, weight.numel()).reshape(weight.shape))
    return made


# (what SLAYER computes with, the shape of its input) for every row of the table
EXAMPLES: Mapping[str, tuple[Callable[[], list[nn.Module]], tuple[int, ...]]] = {
    "input": (_encoder, (2, 5, 4)),
    "dense": (
        lambda: [block("Dense", 12, 7, weight_scale=4, weight_norm=True, delay=True), block("Dense", 7, 3, **_norm())],
        (12,),
    ),
    "conv": (
        lambda: [
            block("Conv", 2, 4, 3, stride=(2, 1), padding=(1, 2), dilation=(1, 2), weight_scale=4, delay=True),
            block("Conv", 4, 2, 2, groups=2, weight_scale=4, weight_norm=True),
        ],
        (2, 7, 6),
    ),
    "flatten": (lambda: [block("Conv", 1, 3, 3, **_norm()), block("Flatten"), block("Dense", 18, 4)], (1, 4, 5)),
    "pool": (
        lambda: [
            block("Pool", 2, weight_scale=0.5, delay=True),
            block("Conv", 2, 3, 2, weight_scale=3),
            uneven(block("Pool", (2, 1))),
        ],
        (2, 7, 6),
    ),
    "convT": (
        lambda: [
            block("ConvT", 2, 4, 3, stride=2, padding=1, weight_scale=6),
            block("ConvT", 4, 2, 2, stride=2, groups=2, weight_scale=6, delay=True),
        ],
        (2, 3, 3),
    ),
    "unpool": (lambda: [uneven(block("Unpool", 2, delay=True)), block("Conv", 2, 3, 3)], (2, 3, 4)),
}


@quiet
@pytest.mark.lava
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_fires_as_slayer_does(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, shape = EXAMPLES[name]
    blocks, rng = make(), np.random.default_rng(0)
    inputs = (rng.random((3, T, *shape)) < 0.5) * 1.0
    if name == "input":
        inputs = rng.normal(0, 1.5, (3, T, *shape))
    elif name == "convT":  # an output of 5 x 5 is no whole number of blocks
        blocks[0] = block("ConvT", 2, 4, 4, stride=2, padding=1, weight_scale=6)
    _train_norms(blocks, inputs)
    expected = spikes(blocks, inputs)
    assert 0.02 < expected.mean() < 0.98
    found = import_netx(written(blocks, tmp_path / "a.net"), T, _three(shape))
    program = found.pipeline.network("network")
    messages = program.input.quantize(inputs.reshape(3, T, *_three(shape)))
    sent = Simulator(program).evaluate(messages, 0, record=True).messages[program.populations[-2].name]
    np.testing.assert_array_equal(sent.reshape(expected.shape), expected)


def _three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)


def _train_norms(blocks: list[nn.Module], inputs: Any) -> None:
    """Means as training leaves them, so that biases are not 0."""
    nn.ModuleList(blocks).train()
    spikes(blocks, inputs)
    nn.ModuleList(blocks).eval()
    for made in blocks:
        norm = getattr(getattr(made, "neuron", None), "norm", None)
        if norm is not None:
            norm.running_mean.copy_(torch.linspace(-0.5, 0.3, norm.running_mean.numel()))


def program_of(tmp_path: Path, *layers: Any, **options: Any) -> Program:
    return import_netx(write(tmp_path / "a.net", *layers), T, **options).pipeline.network("network")


def test_integers_are_taken_as_they_are(tmp_path: Path) -> None:
    layers = network()
    layers[3]["bias"] = [3.0, 0.0, -4096.0, 4095.0, 1.0]
    program = program_of(tmp_path, *layers)
    first, second, end = program.populations
    into, flat, copy = program.projections
    assert isinstance(first, Lif)
    assert isinstance(second, Lif)
    assert isinstance(end, Readout)
    assert (first.vth, first.du, first.dv, first.bias_exp) == (80, 1023, 128, 6)
    assert second.bias_mant.tolist() == [3, 0, -4096, 4095, 1]
    assert isinstance(into, Conv)
    assert isinstance(flat, Dense)
    for projection, layer in ((into, layers[1]), (flat, layers[3])):
        assert projection.exponent == 1
        np.testing.assert_array_equal(projection.weight.astype(int) << 1, layer["weight"])
    assert isinstance(copy, Conv)
    assert copy.is_copy
    assert program.input.streamed
    assert program.ann_macs == 3 * 16 * 18 + 5 * 48
    assert not program_of(tmp_path, *layers, streamed=False).input.streamed
    assert program_of(tmp_path, *layers, bits=5).input.bits == 5


@pytest.mark.parametrize(
    ("neuron", "reads"),
    [
        (None, "sums"),
        ({**IF, "vThMant": 1 << 17}, "sums"),
        ({**IF, "vDecay": 4096, "vThMant": (1 << 18) - 1}, "currents"),
        ({**IF, "iDecay": 0, "vDecay": 4096, "vThMant": 1 << 18}, "sums"),
    ],
)
def test_neurons_that_never_fire_are_read(neuron: Any, reads: str, tmp_path: Path) -> None:
    """lava-dl's Affine: with no neurons at all, or with a threshold out of reach."""
    last = dense(3, 5)
    del last["neuron"]
    program = program_of(tmp_path, dense(5, 6), last if neuron is None else {**last, "neuron": neuron})
    end = program.populations[-1]
    assert isinstance(end, Readout), reads
    assert end.weights.tolist() == [1.0] * T
    assert len(program.projections) == 2


def test_the_shape_of_the_input(tmp_path: Path) -> None:
    assert program_of(tmp_path, dense(5, 6)).input.shape == (6, 1, 1)
    assert program_of(tmp_path, conv(), shape=(2, 4, 4)).input.shape == (2, 4, 4)
    assert program_of(tmp_path, FLATTEN, dense(), shape=(3, 4, 4)).input.shape == (3, 4, 4)
    assert program_of(tmp_path, dense(shape=(5, 1, 1), weight=np.full(5 * 48, 2))).input.shape == (48, 1, 1)
    with pytest.raises(ExchangeError, match=r"layer 0 \(conv\): nothing says the shape of the input"):
        program_of(tmp_path, conv())
    with pytest.raises(ExchangeError, match=r"layer 0 \(input\): shape is \(2, 4, 4\), and --input says \(2, 5, 5\)"):
        program_of(tmp_path, *network(), shape=(2, 5, 5))
    with pytest.raises(ConfigError, match=r"T is 0, allowed 1\.\.1024"):
        import_netx(tmp_path / "a.net", 0)


@pytest.mark.parametrize(
    ("layer", "warning"),
    [
        (conv(bias=[1, 0, 2]), "layer 1 (conv): its bias goes to the membrane, as netx does it"),
        (conv(delay=[1.0, 0.0, 70.0]), "layer 1 (conv): a delay of 70 becomes 62, as netx does it"),
        (conv(delay=[1.0, 0.0, 7.0]), "layer 1 (conv): its neurons have delays, as in SLAYER; netx ignores"),
        (conv(delay=[1, 0, 7], bias=[1, 0, 2]), "layer 1 (conv): bias and delays: its spikes are delayed"),
    ],
)
def test_what_netx_does_otherwise_is_told(layer: Any, warning: str, tmp_path: Path) -> None:
    found = import_netx(write(tmp_path / "a.net", input_layer(2, 4, 4), layer), T)
    assert any(text.startswith(warning) for text in found.warnings), found.warnings
    delays = found.pipeline.network("network").populations[0]
    assert isinstance(delays, Lif)
    if "delay" in layer:
        assert delays.delays[:, 0, 0].tolist() == [min(int(value), 62) for value in layer["delay"]]


def test_weights_that_netx_cuts_are_taken_as_they_are(tmp_path: Path) -> None:
    found = import_netx(write(tmp_path / "a.net", dense(2, 3, weight=np.full((2, 3), -128))), T)
    assert found.warnings == (
        "layer 0 (dense): its weights are -128..-128, taken as they are; netx makes others of them",
    )


def test_groups_that_netx_forgets_are_told(tmp_path: Path) -> None:
    weight = np.full((128, 1, 1, 1), 2)
    layer = conv(
        shape=(128, 1, 1), weight=weight, padding=0, groups=128, inChannels=128, outChannels=128, kernelSize=(1, 1)
    )
    found = import_netx(write(tmp_path / "a.net", input_layer(128), layer), T)
    assert found.warnings[0].startswith("layer 1 (conv): its kernel, stride, padding, dilation or groups reach 128")


NEURON = "layer 1 (conv): neuron"
REFUSALS: Mapping[str, tuple[Any, str]] = {
    "complex": (conv(weight={"real": [1], "imag": [1]}), "layer 1 (conv): weight is a group of parameters (complex"),
    "no weight": ({k: v for k, v in conv().items() if k != "weight"}, "layer 1 (conv): it has no weight"),
    "no neurons": ({k: v for k, v in conv().items() if k != "neuron"}, "layer 1 (conv): it has no neurons"),
    "unknown parameter": (conv(noise=1), "layer 1 (conv): noise is no parameter of conv"),
    "neurons of another type": (conv(neuron={**CUBA, "type": "SDNN"}), "layer 1 (conv): neurons of type 'SDNN'"),
    "parameter of neurons": (conv(neuron={**CUBA, "messageBits": 8}), f"{NEURON}: messageBits is no parameter of CUBA"),
    "refractory": (conv(neuron={**CUBA, "refDelay": 3}), f"{NEURON}: refDelay is 3; only 1"),
    "graded": (conv(neuron={**CUBA, "gradedSpike": True}), f"{NEURON}: gradedSpike is set; spikes are 0 or 1"),
    "scaled by a norm": (conv(neuron={**CUBA, "weight_exp": [1.0]}), f"{NEURON}: weight_exp is set; netx ignores it"),
    "decay": (conv(neuron={**CUBA, "iDecay": 4097}), f"{NEURON}: iDecay is 4097, allowed 0..4096"),
    "no decay": (conv(neuron={**CUBA, "iDecay": 0}), f"{NEURON}: iDecay is 0 and vDecay 128; a neuron that fires"),
    "many decays": (conv(neuron={**CUBA, "vDecay": [1, 2, 3]}), f"{NEURON}: vDecay has 3 numbers; one for all"),
    "threshold": (conv(neuron={**CUBA, "vThMant": -1}), f"{NEURON}: vThMant is -1, it must be at least 0"),
    "leaky readout": (conv(neuron={**CUBA, "vThMant": 1 << 18}), f"{NEURON}: vThMant is 262144: it never fires"),
    "wide weights": (conv(weight=np.full((3, 2, 3, 3), 201.0)), "layer 1 (conv): its weights are 201..201; a Program"),
    "half weights": (conv(weight=np.full((3, 2, 3, 3), 0.5)), "layer 1 (conv): weight has numbers that are not whole"),
    "bias": (conv(bias=[0, 0, 5000]), "layer 1 (conv): bias is 0..5000, allowed -4096..4095"),
    "bias of other channels": (conv(bias=[1, 2]), "layer 1 (conv): bias has shape (2,), its neurons (3, 4, 4)"),
    "delays": (conv(delay=[1, 2]), "layer 1 (conv): 2 delays for 3 channels"),
    "delays before": (conv(delay=[-1, 0, 0]), "layer 1 (conv): a delay is -1, it must be at least 0"),
    "shape": (
        conv(shape=(3, 5, 4)),
        "layer 1 (conv): shape is (3, 5, 4), its input of shape (2, 4, 4) makes (3, 4, 4)",
    ),
    "channels": (conv(weight=np.ones((3, 1, 3, 3))), "layer 1 (conv): inChannels is 2, its weight says 1"),
    "groups": (conv(groups=2, inChannels=4), "weight (3, 2, 3, 3) with 2 groups, stride (1, 1) and dilation (1, 1)"),
    "no flatten": (dense(inputs=32, inFeatures=32), "layer 1 (dense): a flatten layer must stand between"),
    "second input": (input_layer(2, 4, 4), "layer 1 (input): an input can only be layer 0"),
    "flatten at the end": (FLATTEN, "layer 1 (flatten): no dense layer follows it"),
    **{name: ({"type": name}, f"layer 1 ({name}): {why}") for name, why in REFUSED.items()},
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_a_program_cannot_say_is_refused(name: str, tmp_path: Path) -> None:
    layer, message = REFUSALS[name]
    with pytest.raises(ExchangeError) as error:
        import_netx(write(tmp_path / "a.net", input_layer(2, 4, 4), layer), T)
    assert str(error.value).startswith(f"{tmp_path / 'a.net'}: ")
    assert message in str(error.value)


OTHERS: Mapping[str, tuple[list[Any], str]] = {
    "a layer behind currents": (
        [dense(5, 6, neuron={**IF, "vThMant": 1 << 18}), dense(5, 5)],
        "layer 1 (dense): the layer before it never fires",
    ),
    "conv behind dense": ([input_layer(2, 4, 4), FLATTEN, dense(5, 32), conv()], "layer 3 (conv): it needs (channels,"),
    "input with a leak": ([input_layer(2, neuron=CUBA)], "layer 0 (input): netx feeds its neurons by their bias"),
    "input with odd weights": ([input_layer(2, neuron=IF, weight=[[10.0]])], "layer 0 (input): weight is 10 / 64"),
    "only an input": ([input_layer(2)], "it has no layer with neurons"),
    "features": ([dense(5, 6, weight=np.ones((4, 6)))], "layer 0 (dense): weight has shape (4, 6), its 5 neurons take"),
    "inputs": ([dense(5, 6), dense(5, 6)], "layer 1 (dense): weight has shape (5, 6), its input 5 neurons"),
    "windows that overlap": (
        [input_layer(2, 4, 4), {**conv(), "type": "pool", "weight": np.ones((1, 1, 3, 3))}],
        "layer 1 (pool): inChannels is no parameter of pool",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_networks_that_are_refused(name: str, tmp_path: Path) -> None:
    layers, message = OTHERS[name]
    with pytest.raises(ExchangeError) as error:
        import_netx(write(tmp_path / "a.net", *layers), T)
    assert message in str(error.value)


POOL = {"type": "pool", "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1), "neuron": CUBA}


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            {"stride": (1, 1), "weight": np.ones((1, 1, 2, 2)), "shape": (2, 3, 3)},
            "windows of (2, 2) pixels with stride",
        ),
        ({"padding": (1, 1), "weight": np.ones((1, 1, 2, 2)), "shape": (2, 3, 3)}, "padding (1, 1)"),
        (
            {"stride": (3, 3), "weight": np.ones((1, 1, 3, 3)), "shape": (2, 2, 2)},
            "windows of (3, 3) do not tile (5, 5)",
        ),
    ],
)
def test_windows_that_mix_channels(layer: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExchangeError) as error:
        program_of(tmp_path, {**POOL, **layer}, shape=(2, 5, 5))
    assert message in str(error.value)


def test_windows_of_bounded_size(tmp_path: Path) -> None:
    layer = {**POOL, "stride": (50, 50), "weight": np.ones((1, 1, 50, 50)), "shape": (1 << 15, 1, 1)}
    with pytest.raises(ExchangeError, match=r"windows of \(50, 50\) pixels in 32768 channels are too large"):
        program_of(tmp_path, layer, shape=(1 << 15, 50, 50))


def test_everything_unknown_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ExchangeError) as error:
        program_of(tmp_path, {"type": "lstm"}, {"type": "concat"}, conv(noise=1))
    for part in ("layer 0 (lstm): unknown type", "layer 1 (concat): the file", "layer 2 (conv): noise", "supported: "):
        assert part in str(error.value)
