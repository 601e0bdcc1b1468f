"""An imported Spiking-Diffusion computes what the authors' two networks compute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from spikegen.importing import import_spiking_diffusion
from spikegen.models import SpikingDiffusion, SpikingDiffusionConfig
from spikegen.models.sdid import denoiser_input
from tests.importing.authors_spiking_diffusion import AuthorsDenoiser, AuthorsVQVAE, MembraneOutput
from tests.importing.networks import assert_equal_spikes, randomised, recorded

SMALL = SpikingDiffusionConfig(
    image_size=8,
    channels=1,
    widths=(5, 6),
    strides=(2, 2),
    latent=4,
    codes=7,
    denoiser_widths=(8, 5, 6),
    timesteps=6,
    neuron="hard-reset",
)
DEEP = SpikingDiffusionConfig(
    image_size=16,
    channels=3,
    widths=(4, 5, 6),
    strides=(2, 2, 2),
    latent=5,
    codes=9,
    denoiser_widths=(7, 6),
    timesteps=16,
    neuron="hard-reset",
)


def authors(size: SpikingDiffusionConfig, images: int = 4) -> tuple[AuthorsVQVAE, AuthorsDenoiser, Tensor, Tensor]:
    """Both networks, pixels and half-masked tokens."""
    torch.manual_seed(0)
    vq = AuthorsVQVAE(size.channels, size.widths, size.latent, size.codes, size.timesteps)
    denoiser = AuthorsDenoiser(size.codes, size.denoiser_widths, size.timesteps)
    pixels = torch.rand(images, size.channels, size.image_size, size.image_size) - 0.5
    tokens = torch.randint(0, size.codes + 1, (images, size.grid, size.grid))
    randomised(vq, lambda: (vq.encode(pixels), vq.decode(tokens % size.codes)))
    steps = torch.arange(1, images + 1)
    randomised(denoiser, lambda: denoiser(tokens[:, None].float(), steps))
    return vq, denoiser, pixels, tokens


def saved(vq: AuthorsVQVAE, denoiser: AuthorsDenoiser, folder: Path) -> Path:
    (folder / "diff_result").mkdir()
    torch.save(vq.state_dict(), folder / "model.pth")
    torch.save(denoiser.state_dict(), folder / "diff_result" / "diff_model.pth")
    return folder


@pytest.mark.parametrize("size", [SMALL, DEEP], ids=["small", "deep"])
def test_tokens_logits_and_images_agree_and_the_spikes_are_equal(size: SpikingDiffusionConfig, tmp_path: Path) -> None:
    vq, denoiser, pixels, tokens = authors(size)
    checkpoint = import_spiking_diffusion(saved(vq, denoiser, tmp_path), image_size=size.image_size)
    ours = checkpoint.model
    assert isinstance(ours, SpikingDiffusion)
    assert ours.config == size
    assert (checkpoint.beta_schedule, checkpoint.dataset) == ("absorbing", "mnist")

    # In float64, where a membrane that meets the threshold within rounding is out of reach.
    vq, denoiser, ours = vq.double(), denoiser.double(), ours.double()
    for module in vq.modules():
        if isinstance(module, MembraneOutput):  # the weights were rounded to float32
            module.coef = torch.pow(0.8, torch.arange(size.timesteps - 1, -1, -1).double()).view_as(module.coef)
    pixels, autoencoder = pixels.double(), ours.autoencoder
    steps = torch.arange(1, len(tokens) + 1)

    with recorded(vq) as theirs:
        expected = vq.encode(pixels)
    with recorded(ours) as found:
        assert torch.equal(autoencoder.tokens(autoencoder.encoder(pixels)), expected)
    assert_equal_spikes(found, theirs)
    assert len(expected.unique()) > 1

    codes = tokens % size.codes
    with recorded(vq) as theirs:
        image = vq.decode(codes)
    with recorded(ours) as found:
        value = torch.tanh(autoencoder.decoder(autoencoder.code_vectors(codes)))
    assert_equal_spikes(found, theirs)
    torch.testing.assert_close(value, image, rtol=1e-12, atol=1e-12)

    with recorded(denoiser) as theirs:
        logits = denoiser(tokens[:, None].double(), steps)
    with recorded(ours) as found:
        value = ours.denoiser(denoiser_input(tokens, steps).double())
    assert_equal_spikes(found, theirs)
    torch.testing.assert_close(value, logits, rtol=1e-12, atol=1e-12)


def test_two_files_are_as_good_as_a_folder(tmp_path: Path) -> None:
    vq, denoiser, _, _ = authors(SMALL)
    folder = saved(vq, denoiser, tmp_path)
    files = (folder / "model.pth", folder / "diff_result" / "diff_model.pth")
    states = [import_spiking_diffusion(*arguments, image_size=8).model.state_dict() for arguments in ((folder,), files)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
