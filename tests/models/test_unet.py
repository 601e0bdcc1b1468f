"""The U-Net: shapes, what its readout means, and configurations that are refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from spikegen.errors import ConfigError
from spikegen.models import SpikingNeuron, SpikingUNet, UNetConfig
from spikegen.models.coding import DirectCoding
from spikegen.models.denoiser import TimeEmbedding
from spikegen.models.readouts import MembraneReadout


@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(image_size=8, width=2, timesteps=1, diffusion_steps=3),
        UNetConfig(image_size=8, channels=3, width=4, multipliers=(1, 2, 1), blocks=2, middle_blocks=2, timesteps=2),
        UNetConfig(image_size=5, width=2, multipliers=(3,), timesteps=3),
    ],
)
def test_the_noise_has_the_shape_of_the_image(config: UNetConfig) -> None:
    torch.manual_seed(0)
    model = SpikingUNet(config).eval()
    x = torch.randn(3, config.channels, config.image_size, config.image_size)
    with torch.no_grad():
        y = model(x, torch.tensor([0, 1, config.diffusion_steps - 1]))
        alone = model(x[1:2], torch.tensor([1]))
    assert y.shape == x.shape
    # float32 convolutions of another batch size may round differently, but no image sees another
    torch.testing.assert_close(y[1:2], alone, rtol=1e-3, atol=1e-3)


def test_everything_behind_the_first_convolution_is_driven_by_spikes() -> None:
    model = SpikingUNet(UNetConfig(width=2, timesteps=2)).eval()
    sent = []
    for module in model.modules():
        if isinstance(module, SpikingNeuron):
            module.register_forward_hook(lambda _m, _x, spikes: sent.append(set(spikes.unique().tolist())))
    model(torch.randn(2, 1, 8, 8), torch.tensor([0, 5]))
    assert len(sent) == sum(isinstance(module, SpikingNeuron) for module in model.modules())
    assert all(values <= {0.0, 1.0} for values in sent)


def test_the_readout_is_the_decayed_sum_over_time() -> None:
    x = torch.arange(6.0).reshape(6, 1, 1, 1)  # two images, three steps: image 0 sees 0, 2, 4
    y = MembraneReadout(3, decay=0.5)(x)
    assert y.flatten().tolist() == [0 * 0.25 + 2 * 0.5 + 4, 1 * 0.25 + 3 * 0.5 + 5]
    assert MembraneReadout(2).weights().tolist() == [0.8, 1.0]


def test_direct_coding_repeats_the_images_step_by_step() -> None:
    x = torch.arange(2.0).reshape(2, 1, 1, 1)
    assert DirectCoding(3)(x).flatten().tolist() == [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]


def test_the_embedding_interleaves_sines_and_cosines() -> None:
    embedding = TimeEmbedding(4, 8)
    seen: list[torch.Tensor] = []
    embedding.mlp.register_forward_hook(lambda _m, inputs, _y: seen.append(inputs[0]))
    embedding(torch.tensor([7]))
    slow = 7 * 10000 ** (-2 / 4)
    expected = [math.sin(7), math.cos(7), math.sin(slow), math.cos(slow)]
    assert seen[0][0].tolist() == pytest.approx(expected, abs=1e-5)  # float32


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"image_size": 0}, r"image_size is 0; it must be an integer in 1\.\.1024"),
    ({"channels": -1}, "channels is -1"),
    ({"blocks": True}, "blocks is True"),
    ({"middle_blocks": 1.0}, "middle_blocks is 1.0"),
    ({"timesteps": "4"}, "timesteps is '4'"),
    ({"diffusion_steps": None}, "diffusion_steps is None"),
    ({"width": 7}, "width is 7; it must be even"),
    ({"width": 10**9}, r"width is 1000000000; it must be an integer in 1\.\.4096"),
    ({"timesteps": 10**9}, "timesteps is 1000000000"),
    ({"diffusion_steps": 10**12}, "diffusion_steps is 1000000000000"),
    ({"multipliers": ()}, r"multipliers is \(\); it must be 1\.\.10 integers in 1\.\.64"),
    ({"multipliers": (1, 0)}, r"multipliers is \(1, 0\)"),
    ({"multipliers": (True,)}, r"multipliers is \(True,\)"),
    ({"multipliers": (1, 10**9)}, r"multipliers is \(1, 1000000000\)"),
    ({"multipliers": (1,) * 10**6}, r"multipliers is \(1, 1, "),
    ({"image_size": 6, "multipliers": (1, 2, 2)}, "image_size is 6; 3 levels need a multiple of 4"),
]


@pytest.mark.parametrize(("sizes", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_configuration_out_of_range_is_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^UNetConfig\.{message}") as refused:
        UNetConfig(**sizes)
    assert len(str(refused.value)) < 200
