"""Images for `spikegen reconstruct` that are none: one error, no file left behind, no pickle read."""

import io
import json
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spikegen.program import load, save
from tests.cli.commands import refuse, run
from tests.runtime.programs import tiny_tokens


@pytest.fixture(autouse=True)
def folder(made_tokens: Path, working_folder: Path) -> Path:
    """A working folder with a pipeline of tokens."""
    shutil.copy(made_tokens / "vq.h5", ".")
    return working_folder


def array_bytes(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def image(change: Callable[[Any], None] = lambda _: None, dtype: Any = np.float64) -> bytes:
    images = np.zeros((3, 1, 8, 8), dtype=dtype)
    change(images)
    return array_bytes(images)


def placed(value: float) -> bytes:
    def change(images: Any) -> None:
        images[2, 0, 1, 1] = value

    return image(change)


TAKES = "the encoder takes floats (N, 1, 8, 8) with N >= 1"
IMAGES: dict[str, tuple[bytes, str]] = {
    "size": (array_bytes(np.zeros((1, 1, 8, 9))), f"it holds float64 (1, 1, 8, 9), {TAKES}"),
    "channels": (array_bytes(np.zeros((1, 3, 8, 8))), f"it holds float64 (1, 3, 8, 8), {TAKES}"),
    "axes": (array_bytes(np.zeros((8, 8))), f"it holds float64 (8, 8), {TAKES}"),
    "none": (array_bytes(np.zeros((0, 1, 8, 8))), f"it holds float64 (0, 1, 8, 8), {TAKES}"),
    "integers": (image(dtype=np.uint8), f"it holds uint8 (3, 1, 8, 8), {TAKES}"),
    "complex": (image(dtype=np.complex128), f"it holds complex128 (3, 1, 8, 8), {TAKES}"),
    "above": (placed(1.0001), "image 2 holds 1.0001, the range is -1..1"),
    "below": (placed(-255.0), "image 2 holds -255.0, the range is -1..1"),
    "nan": (placed(np.nan), "image 2 holds nan, the range is -1..1"),
    "infinite": (placed(np.inf), "image 2 holds inf, the range is -1..1"),
    "truncated": (image()[:-8], "not a readable array: "),
    "header": (image()[:40], "not a readable array: "),
    "empty": (b"", "not a readable array: "),
    "text": (b"no array at all", "not a readable array: "),
    "pickle": (array_bytes(np.array([{}], dtype=object), allow_pickle=True), "Python objects"),
    "bare pickle": (b"\x80\x04K\x01.", "not a readable array: "),
    "archive": (b"PK\x03\x04" + bytes(100), "not a readable array: "),
    "huge": (image().replace(b"(3, 1, 8, 8)", b"(3<<40,1,8,8)"), "not a readable array: "),
    "overflow": (image().replace(b"(3, 1, 8, 8), }", b"(1<<62,1,8,8),}"), "not a readable array: "),
    "negative": (image().replace(b"(3, 1, 8, 8), }", b"(-3, 1, 8, 8),}"), "of.npy: "),
    "unclosed": (image().replace(b"(3, 1, 8, 8), }", b"(3, 1, 8, 8 , "), "not a readable array: "),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_an_array_that_is_no_images_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content, message = IMAGES[kind]
    Path("of.npy").write_bytes(content)
    monkeypatch.setattr("spikegen.runtime.open_target", None)  # refused before the work
    refuse(1, message, "reconstruct", "vq.h5", "--input", "of.npy", "-o", "a.png")


def test_damage_anywhere_in_an_array_is_one_error_or_none() -> None:
    good, rng = image(), np.random.default_rng(0)
    for _ in range(100):
        data = bytearray(good[: int(rng.integers(20, len(good) + 1))])
        for place in rng.integers(0, min(len(data), 128), rng.integers(1, 4)):
            data[place] = rng.integers(256)
        Path("of.npy").write_bytes(data)
        result = run("reconstruct", "vq.h5", "--input", "of.npy", "-o", "a.png", "--json")
        assert result.exit_code in (0, 1), result.output
        assert result.exception is None or isinstance(result.exception, SystemExit), bytes(data[:128])
        assert result.exit_code == 0 or result.stderr.startswith("Error: of.npy: "), result.stderr
        if result.exit_code == 0:
            json.loads(result.stdout)
            Path("a.png").unlink()
        assert not Path("a.png").exists()


def test_missing_images_are_named() -> None:
    refuse(1, "absent.npy: there is no such file", "reconstruct", "vq.h5", "--input", "absent.npy", "-o", "a.png")
    Path("folder.png").mkdir()
    refuse(1, "folder.png: there is no such file", "reconstruct", "vq.h5", "--input", "folder.png", "-o", "a.png")


def test_an_archive_is_no_array() -> None:
    with zipfile.ZipFile("of.npy", "w") as archive:
        archive.writestr("arr_0.npy", image())
    refuse(1, "not a readable array", "reconstruct", "vq.h5", "--input", "of.npy", "-o", "a.png")


def picture_bytes(mode: str = "L", size: tuple[int, int] = (8, 8), kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        Image.new(mode, size).save(buffer, kind)
    return buffer.getvalue()


PICTURES: dict[str, tuple[bytes, str]] = {
    "size": (picture_bytes(size=(9, 7)), "the picture has 7 x 9 pixels, the encoder takes 8 x 8"),
    "16 bit": (picture_bytes("I;16"), "the picture has the mode I;16, known are "),
    "32 bit": (picture_bytes("F", kind="TIFF"), "the picture has the mode F, known are "),
    "cmyk": (picture_bytes("CMYK", kind="TIFF"), "the picture has the mode CMYK, known are "),
    "truncated": (picture_bytes()[:44], "not a readable picture: "),
    "empty": (b"", "not a readable picture: cannot identify image file"),
    "text": (b"no picture at all", "not a readable picture: cannot identify image file"),
    "bomb": (
        b"P5 50000 50000 255\n" + bytes(100),
        "not a readable picture: Image size (2500000000 pixels) exceeds limit",
    ),
    "large": (b"P5 10000 10000 255\n" + bytes(100), "the picture has 10000 x 10000 pixels"),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_that_is_no_image_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content, message = PICTURES[kind]
    Path("of.png").write_bytes(content)
    monkeypatch.setattr("spikegen.runtime.open_target", None)  # refused before the work
    refuse(1, message, "reconstruct", "vq.h5", "--input", "of.png", "-o", "a.png")


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "JPEG", "WEBP", "ICO"])
def test_damage_anywhere_in_a_picture_is_one_error_or_none(kind: str) -> None:
    good, rng = picture_bytes("RGB" if kind == "WEBP" else "L", kind=kind), np.random.default_rng(0)
    for _ in range(40):
        data = bytearray(good[: int(rng.integers(len(good) // 2, len(good) + 1))])
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(256)
        Path("of.png").write_bytes(data)
        result = run("reconstruct", "vq.h5", "--input", "of.png", "-o", "a.png", "--json")
        assert result.exception is None or isinstance(result.exception, SystemExit), bytes(data)
        assert result.exit_code in (0, 1), result.output
        assert result.exit_code == 0 or (result.stderr.startswith("Error: of.png: "))
        assert Path("a.png").exists() == (result.exit_code == 0)
        Path("a.png").unlink(missing_ok=True)


def with_provenance(**provenance: str) -> None:
    pipeline = tiny_tokens()
    object.__setattr__(pipeline, "provenance", provenance)
    save(pipeline, "tiny.h5")
    assert load("tiny.h5").provenance == provenance


@pytest.mark.parametrize(
    ("provenance", "message"),
    [
        ({}, "tokens does not say which data set it was made from; give images with --input"),
        ({"dataset": "digits", "held_out": "-1"}, "does not say which data set"),
        ({"dataset": "digits", "held_out": "9" * 5000}, "does not say which data set"),
        ({"dataset": "digits", "held_out": "1796"}, "1796 held-out images leave 1 of 1797 to train on"),
        ({"dataset": "faces"}, "unknown data set 'faces'; known: digits"),
        ({"dataset": "digits"}, "the images of digits are (1, 8, 8), the encoder takes (1, 4, 6); give images with"),
    ],
)
def test_a_data_set_that_does_not_fit_is_refused(provenance: dict[str, str], message: str) -> None:
    with_provenance(**provenance)
    refuse(1, message, "reconstruct", "tiny.h5", "-o", "a.png")
