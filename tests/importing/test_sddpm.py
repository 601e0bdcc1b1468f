"""An imported SDDPM or SDM computes what the authors' network computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spikegen.importing import import_sddpm, import_sdm
from spikegen.models import SpikingUNet, UNetConfig
from spikegen.models.checkpoint import Checkpoint
from tests.importing.authors_sddpm import AuthorsUNet
from tests.importing.networks import assert_equal_spikes, randomised, recorded

# (arguments of the authors' network, image size). The first has each kind of layer once; one image channel and T = 8;
# widths that repeat, as in the paper.
SIZES: list[tuple[dict[str, Any], int]] = [
    ({"ch": 4, "ch_mult": (1, 2), "num_res_blocks": 1, "timestep": 4}, 8),
    ({"ch": 6, "ch_mult": (2, 3), "num_res_blocks": 2, "timestep": 8, "img_ch": 1, "steps": 50}, 8),
    ({"ch": 4, "ch_mult": (1, 2, 2, 4), "num_res_blocks": 2, "timestep": 3}, 16),
    ({"ch": 4, "ch_mult": (1,), "num_res_blocks": 1, "timestep": 2}, 4),
]


def inputs(sizes: dict[str, Any], image_size: int, images: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(images, sizes.get("img_ch", 3), image_size, image_size, generator=generator)
    return x, torch.linspace(0, sizes.get("steps", 1000) - 1, images).long()


def authors(sizes: dict[str, Any], image_size: int, *, tsm: bool) -> AuthorsUNet:
    torch.manual_seed(0)
    network = AuthorsUNet(**sizes, tsm=tsm)
    x, t = inputs(sizes, image_size, 4)
    randomised(network, lambda: network(x, t))
    return network


def imported(network: AuthorsUNet, folder: Path, image_size: int, *, tsm: bool) -> Checkpoint:
    torch.save({"net_model": network.state_dict(), "step": 500000}, folder / "ckpt.pt")
    if tsm:
        return import_sdm(folder / "ckpt.pt", image_size=image_size)
    return import_sddpm(folder / "ckpt.pt", image_size=image_size, timesteps=network.timestep)


def compare(theirs: AuthorsUNet, ours: SpikingUNet, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The noise that both predict; their spikes must be equal."""
    with recorded(theirs) as their_spikes:
        expected = theirs(x, t)
    with recorded(ours) as our_spikes:
        found = ours(x, t)
    assert_equal_spikes(our_spikes, their_spikes)
    return found, expected


@pytest.mark.parametrize("tsm", [False, True], ids=["sddpm", "sdm"])
@pytest.mark.parametrize(("sizes", "image_size"), SIZES)
def test_the_noise_agrees_and_the_spikes_are_equal(
    sizes: dict[str, Any], image_size: int, tsm: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = authors(sizes, image_size, tsm=tsm)
    ours = imported(theirs, tmp_path, image_size, tsm=tsm).model
    assert isinstance(ours, SpikingUNet)
    x, t = inputs(sizes, image_size)
    with torch.no_grad():
        # The last layers add in another order (a Conv3d, an einsum): float32 rounds each sum by 6e-8 of its size.
        torch.testing.assert_close(ours(x, t), theirs(x, t), rtol=1e-5, atol=1e-5)

    # In float64, where a membrane that meets the threshold within rounding is out of reach. Their table of sinusoids
    # was rounded to float32, so it takes the place of ours, which is the same in float32.
    theirs, ours = theirs.double(), ours.double()
    table = theirs.time_embedding.timembedding[0].weight
    monkeypatch.setattr(ours.embedding, "sinusoids", lambda t: table[t])
    found, expected = compare(theirs, ours, x.double(), t)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert float(expected.std()) > 0.05


def test_the_table_of_sinusoids_is_ours() -> None:
    theirs = AuthorsUNet(ch=8, ch_mult=(1,)).time_embedding.timembedding[0].weight
    ours = SpikingUNet(UNetConfig(width=8, multipliers=(1,))).embedding.sinusoids(torch.arange(1000))
    torch.testing.assert_close(ours, theirs, rtol=0.0, atol=1e-6)


def test_the_comparison_can_fail(tmp_path: Path) -> None:
    sizes, image_size = SIZES[0]
    theirs = authors(sizes, image_size, tsm=False).double()
    ours = imported(theirs, tmp_path, image_size, tsm=False).model.double()
    assert isinstance(ours, SpikingUNet)
    x, t = inputs(sizes, image_size)
    ours.down[0].conv1[1].eps *= 100.0
    with pytest.raises(AssertionError):
        compare(theirs, ours, x.double(), t)


@pytest.mark.parametrize("tsm", [False, True], ids=["sddpm", "sdm"])
@pytest.mark.parametrize(("sizes", "image_size"), SIZES)
def test_the_sizes_are_read_from_the_shapes(sizes: dict[str, Any], image_size: int, tsm: bool, tmp_path: Path) -> None:
    checkpoint = imported(AuthorsUNet(**sizes, tsm=tsm), tmp_path, image_size, tsm=tsm)
    assert checkpoint.model.config == UNetConfig(
        image_size=image_size,
        channels=sizes.get("img_ch", 3),
        width=sizes["ch"],
        multipliers=sizes["ch_mult"],
        blocks=sizes["num_res_blocks"],
        middle_blocks=2,
        timesteps=sizes["timestep"],
        diffusion_steps=sizes.get("steps", 1000),
        neuron="hard-reset",
        tail="swish",
        tsm=tsm,
    )
    assert checkpoint.beta_schedule == "linear"
    name = "mnist" if sizes.get("img_ch") == 1 else "cifar10"
    assert checkpoint.dataset == (name if (name, image_size) == ("cifar10", 32) else f"{name}@{image_size}")


def test_the_networks_of_the_paper_have_as_many_parameters() -> None:
    with torch.device("meta"):
        theirs = AuthorsUNet()
        gained = AuthorsUNet(timestep=8, tsm=True)
        ours = SpikingUNet(
            UNetConfig(
                image_size=32,
                channels=3,
                width=128,
                multipliers=(1, 2, 2, 4),
                blocks=2,
                middle_blocks=2,
                neuron="hard-reset",
                tail="swish",
            )
        )

    def parameters(network: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in network.parameters())

    assert parameters(theirs) == 66_696_413
    assert parameters(ours) == 66_696_413 - 1000 * 128  # their frozen table of sinusoids, which ours computes
    convolutions = sum(isinstance(m, torch.nn.Conv2d) for m in gained.modules())
    assert parameters(gained) == 66_696_413 + 8 * convolutions
