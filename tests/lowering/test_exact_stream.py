"""The residual stream is exact: a U-Net of whole numbers, exported with all its streams composed or relayed, computes
what its layers compute one by one in int64.

The reference is SDDPM's network written out (arXiv 2306.17046, ``model/SpikingUNet.py``): the real-valued stream is an
array of its own, the neurons fire at >=.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from spikegen.errors import LoweringError
from spikegen.lowering import InputFormat, lower
from spikegen.lowering.calibrate import Calibration
from spikegen.models import SpikingUNet, UNetConfig
from spikegen.models.hard_reset import HardResetNeuron
from spikegen.models.swish_tail import SwishTailReadout
from spikegen.models.unet import ConvNorm, Resample, ResidualBlock
from spikegen.program import Lif, Program, Relay, overflow_risks
from spikegen.simulator import Simulator

IntArray = npt.NDArray[np.int64]
T, STEPS, LARGEST = 3, 2, 3
SIZES = {
    "one level": UNetConfig(4, 2, 2, (1,), 2, 1, T, STEPS, "hard-reset"),
    "wider below": UNetConfig(4, 1, 2, (1, 2), 1, 1, T, STEPS, "hard-reset"),
    "three levels": UNetConfig(8, 1, 2, (1, 2, 1), 1, 2, T, STEPS, "hard-reset"),
    "two blocks": UNetConfig(4, 3, 2, (2, 3), 2, 1, T, STEPS, "hard-reset"),
    "published tail": UNetConfig(4, 2, 2, (1, 2), 1, 1, T, STEPS, "hard-reset", "swish"),
}


def whole_numbers(config: UNetConfig, seed: int, unit: float = 1.0) -> SpikingUNet:
    """The U-Net with small whole weights, biases, BatchNorms and thresholds, all times ``unit`` between two neurons."""
    rng = np.random.default_rng(seed)
    model = SpikingUNet(config)
    model.embedding = nn.Embedding(STEPS, 4 * config.width)  # type: ignore[assignment]

    def draw(tensor: Tensor, low: int, high: int, scale: float = 1.0) -> None:
        tensor.copy_(torch.from_numpy(rng.integers(low, high + 1, tuple(tensor.shape)) * scale))

    host = {id(part) for part in model.readout.modules()}
    with torch.no_grad():
        for name, module in model.named_modules():
            if id(module) in host:
                continue
            if isinstance(module, nn.Conv2d):
                # what feeds the stream has the unit; a 1x1 shortcut scales the stream itself
                scale = 1.0 if name.endswith("shortcut") else unit
                draw(module.weight, -1, 1, scale)
                if module.bias is not None:
                    draw(module.bias, -1, 1, unit)
            elif isinstance(module, nn.Linear):
                draw(module.weight, -1, 1, unit)
                draw(module.bias, -1, 1, unit)
            elif isinstance(module, nn.Embedding):
                draw(module.weight, 0, 1)
            elif isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
                assert module.running_mean is not None
                draw(module.weight, 1, 2)
                draw(module.bias, -1, 2, unit)
                draw(module.running_mean, -1, 1, unit)
            elif isinstance(module, HardResetNeuron):
                module.threshold = int(rng.integers(1, 5)) * unit
    return model.eval()


@dataclass
class Reference:
    """The unfused network in int64; values are in units of ``unit``."""

    model: SpikingUNet
    unit: float = 1.0
    spikes: dict[str, IntArray] = field(default_factory=dict)  # neuron layer -> [N, T, C, H, W]

    def run(self, images: IntArray, step: int) -> IntArray:
        """What the readout receives, int64 [N, T, C, H, W], for images [N, C, H, W]."""
        model = self.model
        names = {id(module): name for name, module in model.named_modules()}
        embedding = self._whole(model.embedding.weight[step], 1.0)

        def fire(module: nn.Module, x: IntArray) -> IntArray:
            assert isinstance(module, HardResetNeuron)
            membrane = np.zeros_like(x[:, 0])
            threshold = round(module.threshold / self.unit)
            sent = np.zeros_like(x)
            for t in range(T):
                membrane = membrane + x[:, t]
                sent[:, t] = membrane >= threshold
                membrane = np.where(sent[:, t] == 1, 0, membrane)
            self.spikes[names[id(module)]] = sent
            return sent

        def block(layer: ResidualBlock, x: IntArray) -> IntArray:
            a = self._conv_norm(layer.conv1, fire(layer.neuron1, x))
            linear = layer.time.linear
            a = a + (self._whole(linear.weight) @ embedding + self._whole(linear.bias))[:, None, None]
            b = self._conv_norm(layer.conv2, fire(layer.neuron2, a))
            if isinstance(layer.shortcut, nn.Conv2d):
                x = self._conv(layer.shortcut, x, unit=1.0)
            return b + x

        def resample(layer: Resample, x: IntArray) -> IntArray:
            sent = fire(layer[0], x)
            if isinstance(layer[1], nn.Upsample):
                sent = sent.repeat(2, axis=3).repeat(2, axis=4)
            last = layer[-1]
            assert isinstance(last, ConvNorm)
            return self._conv_norm(last, sent)

        first, neuron, second = model.stem
        assert isinstance(first, ConvNorm)
        assert isinstance(second, ConvNorm)
        h = self._conv_norm(second, fire(neuron, self._conv_norm(first, np.repeat(images[:, None], T, axis=1))))
        skips = [h]
        for layer in model.down:
            h = block(layer, h) if isinstance(layer, ResidualBlock) else resample(layer, h)
            skips.append(h)
        for layer in model.middle:
            h = block(layer, h)
        for layer in model.up:
            if isinstance(layer, ResidualBlock):
                h = block(layer, np.concatenate([h, skips.pop()], axis=2))
            else:
                h = resample(layer, h)
        if isinstance(model.tail, nn.Identity):
            return h
        assert isinstance(model.tail, nn.Sequential)
        neuron, conv = model.tail
        assert isinstance(conv, nn.Conv2d)
        return self._conv(conv, fire(neuron, h))

    def _whole(self, values: Tensor, unit: float | None = None) -> IntArray:
        units = values.detach().double().numpy() / (unit or self.unit)
        whole: IntArray = np.rint(units).astype(np.int64)
        np.testing.assert_allclose(units, whole, rtol=0, atol=1e-5)
        return whole

    def _conv(self, conv: nn.Conv2d, x: IntArray, unit: float | None = None) -> IntArray:
        """Correlation tap by tap."""
        weight, padding, stride = self._whole(conv.weight, unit), conv.padding[0], conv.stride[0]
        assert isinstance(padding, int)
        padded = np.pad(x, ((0, 0), (0, 0), (0, 0), (padding, padding), (padding, padding)))
        size = (x.shape[3] + 2 * padding - weight.shape[2]) // stride + 1
        reach = (size - 1) * stride + 1
        total = np.zeros((*x.shape[:2], weight.shape[0], size, size), dtype=np.int64)
        for i in range(weight.shape[2]):
            for j in range(weight.shape[3]):
                seen = padded[:, :, :, i : i + reach : stride, j : j + reach : stride]
                total += np.einsum("oc,ntchw->ntohw", weight[:, :, i, j], seen)
        assert conv.bias is not None
        total += self._whole(conv.bias)[:, None, None]
        return total

    def _conv_norm(self, layer: ConvNorm, x: IntArray) -> IntArray:
        conv, norm = layer[0], layer[-1]
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        scale, mean = self._whole(norm.weight, 1.0), self._whole(norm.running_mean)
        y: IntArray = (self._conv(conv, x) - mean[:, None, None]) * scale[:, None, None]
        y += self._whole(norm.bias)[:, None, None]
        return y


def exported(model: SpikingUNet, images: IntArray, streams: str) -> Program:
    config = model.config
    data = Calibration(images[:2].astype(np.float64), np.arange(2))
    return lower(
        model,
        (config.channels, config.image_size, config.image_size),
        T,
        STEPS,
        data,
        input_format=InputFormat.integers((-LARGEST,) * config.channels, (LARGEST,) * config.channels),
        streams=streams,
    )


def images_for(config: UNetConfig, seed: int) -> IntArray:
    shape = (5, config.channels, config.image_size, config.image_size)
    return np.random.default_rng(seed).integers(-LARGEST, LARGEST + 1, shape)


@pytest.mark.parametrize("streams", ["composed", "relayed", "cheapest"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_program_is_the_unfused_network(size: str, streams: str, seed: int) -> None:
    config = SIZES[size]
    model, images = whole_numbers(config, seed), images_for(config, seed)
    program = exported(model, images, streams)
    check(program, Reference(model), images)
    assert overflow_risks(program) == []
    relays = [node for node in program.populations if isinstance(node, Relay)]
    assert bool(relays) is (streams == "relayed") or streams == "cheapest"


@pytest.mark.parametrize("unit", [0.25, 0.1, 3.0])
@pytest.mark.parametrize("streams", ["composed", "relayed"])
def test_any_grid_will_do(unit: float, streams: str) -> None:
    """0.1 is on no grid of binary numbers: its multiples are rounded."""
    config = SIZES["wider below"]
    model, images = whole_numbers(config, 3, unit), images_for(config, 3)
    check(exported(model, images, streams), Reference(model, unit), images)


def check(program: Program, reference: Reference, images: IntArray) -> None:
    """Spikes of every neuron layer and currents of the readout equal the reference at every diffusion step."""
    assert {row["relative_error"] for row in program.report["quantisation"]} == {0.0}
    layers = [node for node in program.populations if isinstance(node, Lif)]
    fired = 0
    for step in range(STEPS):
        found = Simulator(program).evaluate(images.astype(np.int32), step, record=True)
        expected = reference.run(images, step)
        assert {node.origin for node in layers} <= reference.spikes.keys()
        for node in layers:
            channels = slice(node.origin_start, node.origin_start + node.shape[0])
            np.testing.assert_array_equal(
                found.messages[node.name], reference.spikes[node.origin][:, :, channels], err_msg=node.name
            )
            fired += 0 < found.messages[node.name].mean() < 1
        covered = sum(node.shape[0] for node in layers)
        assert covered <= sum(sent.shape[2] for sent in reference.spikes.values())
        (readout,) = program.readouts()
        currents = found.readouts[readout.name] * readout.scale + readout.bias[:, :, None, None]
        np.testing.assert_allclose(currents / reference.unit, expected, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(np.rint(currents / reference.unit), expected)
    assert fired > len(layers)  # more than half of all populations, over both diffusion steps


def test_the_published_tail_reads_the_stream() -> None:
    assert isinstance(SpikingUNet(SIZES["published tail"]).readout, SwishTailReadout)


def test_an_unknown_policy_is_refused() -> None:
    config = SIZES["one level"]
    with pytest.raises(LoweringError, match="stream policy 'both' is unknown; choose one of cheapest, composed"):
        exported(whole_numbers(config, 0), images_for(config, 0), "both")
