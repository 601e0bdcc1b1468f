"""`spikegen import` as a user runs it, and what becomes of the folder it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from spikegen.models import SpikingDiffusion, SpikingUNet, load_checkpoint
from tests.cli.commands import names, refuse, succeed
from tests.importing.authors_sddpm import AuthorsUNet
from tests.importing.networks import randomised
from tests.importing.test_spiking_diffusion import SMALL, authors, saved


@pytest.fixture(autouse=True)
def _working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def network(*, tsm: bool = False) -> AuthorsUNet:
    torch.manual_seed(0)
    result = AuthorsUNet(ch=4, ch_mult=(1, 2), num_res_blocks=1, steps=20, timestep=4, img_ch=1, tsm=tsm)
    x, t = torch.randn(4, 1, 8, 8), torch.tensor([0, 5, 10, 19])
    randomised(result, lambda: result(x, t))
    return result


@pytest.mark.parametrize("source", ["sddpm", "sdm"])
def test_a_u_net_becomes_a_folder_like_any_other(source: str) -> None:
    torch.save({"net_model": network(tsm=source == "sdm").state_dict()}, "ckpt.pt")
    output = succeed("import", "ckpt.pt", "--from", source, "-o", "taken", "--image-size", 8).output
    assert "Wrote taken" in output
    assert "images of 1 x 8 x 8, T = 4, 20 diffusion steps, data set mnist@8" in output
    checkpoint = load_checkpoint("taken")
    assert isinstance(checkpoint.model, SpikingUNet)
    assert checkpoint.model.config.tsm == (source == "sdm")
    assert json.loads(Path("taken/config.json").read_text())["training"]["imported"]["format"] == source


def test_an_imported_sddpm_is_exported_and_sampled() -> None:
    torch.save(network().state_dict(), "ckpt.pt")
    succeed("import", "ckpt.pt", "--from", "sddpm", "-o", "taken", "--image-size", 8, "--dataset", "noise:1x8x8")
    succeed("export", "taken", "-o", "taken.h5")
    succeed("sample", "taken.h5", "-n", 1, "--steps", 2, "-o", "image.png")


def test_both_files_of_spiking_diffusion() -> None:
    vq, denoiser, _, _ = authors(SMALL)
    saved(vq, denoiser, Path())
    Path("diff_result/diff_model.pth").rename("sdid.pth")
    succeed(
        "import", "model.pth", "--denoiser", "sdid.pth", "--from", "spiking-diffusion", "-o", "a", "--image-size", 8
    )
    Path("diff_result/diff_model.pth").write_bytes(Path("sdid.pth").read_bytes())
    succeed("import", ".", "--from", "spiking-diffusion", "-o", "b", "--image-size", 8, "--dataset", "digits")
    assert Path("a/model.safetensors").read_bytes() == Path("b/model.safetensors").read_bytes()
    model = load_checkpoint("b").model
    assert isinstance(model, SpikingDiffusion)
    assert model.config == SMALL
    succeed("export", "b", "-o", "b.h5")


def test_bad_input_leaves_nothing_behind() -> None:
    torch.save(network().state_dict(), "ckpt.pt")
    Path("text.pt").write_text("no checkpoint")
    base = ("import", "ckpt.pt", "-o", "taken", "--from")
    refuse(1, "text.pt: not a checkpoint of torch.save", "import", "text.pt", "-o", "taken", "--from", "sddpm")
    refuse(1, "has no gains per SNN step", *base, "sdm")
    refuse(1, "is the VQ-SVAE alone", *base, "spiking-diffusion")
    refuse(1, "need a multiple of 2", *base, "sddpm", "--image-size", 9)
    refuse(2, "option of sddpm, sdm, not of", *base, "spiking-diffusion", "--beta-schedule", "linear")
    refuse(2, "is an option of spiking-diffusion, not of sddpm", *base, "sddpm", "--denoiser", "ckpt.pt")
    refuse(2, "Missing option", "import", "ckpt.pt", "-o", "taken")
    refuse(2, "does not exist", "import", "absent.pt", "-o", "taken", "--from", "sddpm")
    refuse(1, "cannot be written", "import", "ckpt.pt", "-o", "text.pt", "--from", "sddpm", "--image-size", 8)
    assert names() == ["ckpt.pt", "text.pt"]


def test_what_is_imported_is_not_replaced() -> None:
    from safetensors.torch import save_file

    save_file(dict(network().state_dict()), "model.safetensors")
    refuse(2, "would replace what is imported", "import", "model.safetensors", "-o", ".", "--from", "sddpm")
