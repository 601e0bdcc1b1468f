"""Small checkpoints and their pipeline files, made once."""

from pathlib import Path

import pytest

from tests.cli.commands import summary
from tests.cli.models import small_checkpoint, small_tokens_checkpoint


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoint ``small`` of a U-Net and its pipeline file ``small.h5``."""
    folder = tmp_path_factory.mktemp("images")
    small_checkpoint(folder / "small")
    denoiser = summary("export", folder / "small", "-o", folder / "small.h5")["networks"]["denoiser"]
    assert (denoiser["timesteps"], denoiser["overflow"]) == (2, "impossible")
    return folder


@pytest.fixture(scope="session")
def made_tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoint ``vq`` of a Spiking-Diffusion and its pipeline file ``vq.h5``."""
    folder = tmp_path_factory.mktemp("tokens")
    small_tokens_checkpoint(folder / "vq")
    exported = summary("export", folder / "vq", "-o", folder / "vq.h5")
    assert list(exported["networks"]) == ["encoder", "denoiser", "decoder"]
    assert {network["overflow"] for network in exported["networks"].values()} == {"impossible"}
    return folder


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which the command runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
