"""`spikegen data`, driven as a user does."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.cli.commands import refuse, succeed
from tests.training.data_files import pixels, write_mnist


def test_it_says_what_a_data_set_holds(working_folder: Path) -> None:
    assert succeed("data", "digits").stdout == "digits: 1,797 images of 1 x 8 x 8 (channels x height x width)\n"
    assert succeed("data", "noise:3x8x4@16", "--check").stdout.startswith(
        "noise:3x8x4@16: 1,024 images of 3 x 16 x 16 "
    )


def test_published_data_are_found_at_their_root(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKEGEN_DATA", "sets")
    refuse(
        1,
        "the data set mnist is not in sets/MNIST/raw; `spikegen data mnist --download` puts it there",
        "data",
        "mnist",
    )
    write_mnist(Path("sets"), "MNIST", pixels(5, 28, 28))
    assert succeed("data", "mnist@32", "--check").stdout.startswith("mnist@32: 5 images of 1 x 32 x 32 ")
    assert succeed("data", "mnist", "--download").stdout.startswith("mnist: 5 images of 1 x 28 x 28 ")


def test_a_damaged_picture_is_found_by_a_check(working_folder: Path) -> None:
    Path("faces").mkdir()
    for name in "ab":
        Image.fromarray(pixels(64, 64)).save(f"faces/{name}.png")
    whole = Path("faces/b.png").read_bytes()
    Path("faces/b.png").write_bytes(whole[:3000])
    succeed("data", "folder:faces")
    refuse(1, "faces/b.png: not a readable picture: ", "data", "folder:faces", "--check")


def test_usage(working_folder: Path) -> None:
    refuse(1, "unknown data set 'faces'; known: digits, mnist", "data", "faces")
    refuse(1, "only these are downloaded: mnist", "data", "digits", "--download")
    refuse(2, "Missing argument 'NAME'", "data")
