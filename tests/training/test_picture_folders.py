"""A folder of pictures as a data set: sizes, modes, and files that may be anything."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spikegen.errors import ConfigError
from spikegen.training import load_images
from spikegen.training.datasets import ImageSet, load_fitting
from tests.training.data_files import pixels


def save(path: Path, picture: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def load(folder: Path, size: int | None = None) -> ImageSet:
    return load_images(f"folder:{folder}" + ("" if size is None else f"@{size}"))


def shown(images: ImageSet) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = np.rint((images[:].astype(np.float64) + 1) * 127.5)
    return values


def test_pictures_in_the_order_of_their_paths(tmp_path: Path) -> None:
    stored = pixels(3, 4, 6, 3)
    for name, image in zip(("b/1.png", "a.PNG", "b/0.png"), stored, strict=True):
        save(tmp_path / name, Image.fromarray(image))
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "._a.png").write_text("nor is this one")
    images = load(tmp_path)
    assert images.shape == (3, 3, 4, 6)
    assert not images.flips
    np.testing.assert_array_equal(shown(images), stored[[1, 2, 0]].transpose(0, 3, 1, 2))


def test_grey_pictures_have_one_channel(tmp_path: Path) -> None:
    stored = pixels(2, 5, 5)
    save(tmp_path / "0.png", Image.fromarray(stored[0]))
    save(tmp_path / "1.png", Image.merge("LA", (Image.fromarray(stored[1]), Image.new("L", (5, 5), 9))))
    save(tmp_path / "2.png", Image.fromarray(stored[1] > 99))
    np.testing.assert_array_equal(shown(load(tmp_path))[:, 0], [*stored, (stored[1] > 99) * 255])


def test_one_coloured_picture_makes_all_of_them_rgb(tmp_path: Path) -> None:
    grey, colour = pixels(6, 6), pixels(6, 6, 3)
    save(tmp_path / "0.png", Image.fromarray(grey))
    palette = Image.fromarray(colour).quantize(16)
    save(tmp_path / "1.png", palette)
    save(tmp_path / "2.png", Image.merge("RGBA", (*Image.fromarray(colour).split(), Image.new("L", (6, 6), 7))))
    expected = [np.stack([grey] * 3), np.asarray(palette.convert("RGB")).transpose(2, 0, 1), colour.transpose(2, 0, 1)]
    np.testing.assert_array_equal(shown(load(tmp_path)), np.stack(expected))


def test_jpeg(tmp_path: Path) -> None:
    save(tmp_path / "a.jpeg", Image.new("RGB", (8, 8), (200, 100, 50)))
    images = load(tmp_path)[:]
    np.testing.assert_allclose(images[0, :, 4, 4] * 127.5 + 127.5, (200, 100, 50), atol=3)  # JPEG is lossy


def test_pictures_of_several_sizes_need_one_to_be_resized_to(tmp_path: Path) -> None:
    wide, tall = pixels(8, 12, 3), pixels(13, 8, 3, seed=1)
    save(tmp_path / "0.png", Image.fromarray(wide))
    save(tmp_path / "1.png", Image.fromarray(tall))
    with pytest.raises(ConfigError, match=r"1\.png: the picture has 13 x 8 pixels, 0\.png has 8 x 12; put @SIZE"):
        load(tmp_path)
    # at their shorter side nothing is left to interpolate: the squares in their centres
    centres = np.stack([wide[:, 2:10], tall[2:10]]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(shown(load(tmp_path, 8)), centres)
    assert load(tmp_path, 5).shape == (2, 3, 5, 5)
    halves = np.stack([np.asarray(Image.fromarray(p.transpose(1, 2, 0)).resize((4, 4), 2)) for p in centres])
    np.testing.assert_array_equal(shown(load(tmp_path, 4)), halves.transpose(0, 3, 1, 2))


def test_an_at_sign_in_a_path(tmp_path: Path) -> None:
    save(tmp_path / "x@4" / "0.png", Image.fromarray(pixels(8, 8)))
    assert load_images(f"folder:{tmp_path}/x@4/").shape == (1, 1, 8, 8)
    assert load_images(f"folder:{tmp_path}/x@4@2").shape == (1, 1, 2, 2)


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent: there is no such folder"):
        load(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ConfigError, match=r"it holds no pictures \(\.png, \.jpg, \.jpeg\)$"):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(20)])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    save(tmp_path / "0.png", Image.fromarray(pixels(8, 8)))
    (tmp_path / "1.png").write_bytes(content)
    with pytest.raises(ConfigError, match=r"1\.png: not a readable picture: "):
        load(tmp_path)


def test_a_truncated_file_is_named_when_it_is_taken(tmp_path: Path) -> None:
    save(tmp_path / "0.png", Image.fromarray(pixels(32, 32)))
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[: len(whole) // 2])
    images = load(tmp_path)
    assert images[0].shape == (1, 32, 32)
    with pytest.raises(ConfigError, match=r"1\.png: not a readable picture: "):
        images[1]


@pytest.mark.parametrize("mode", ["I", "I;16", "CMYK"])
def test_a_mode_that_would_be_clipped_is_refused(mode: str, tmp_path: Path) -> None:
    save(tmp_path / ("0.jpg" if mode == "CMYK" else "0.png"), Image.new(mode, (8, 8)))
    with pytest.raises(ConfigError, match=rf"the picture has the mode {mode[0]}.*, known are 1, L, LA, P, RGB, RGBA$"):
        load(tmp_path)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((8193, 8192), r"the picture has 8192 x 8193 pixels, the limit is 67108864 in all"),
        ((11000, 11000), r"the picture has 11000 x 11000 pixels, the limit is 67108864 in all"),  # Pillow warns only
        ((60000, 60000), r"not a readable picture: Image size \(3600000000 pixels\) exceeds limit"),
    ],
)
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(
    size: tuple[int, int], message: str, tmp_path: Path
) -> None:
    (tmp_path / "0.png").write_bytes(bomb(*size))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
    (tmp_path / "0.png").write_bytes(bomb(8192, 8192))
    assert load(tmp_path).shape == (1, 3, 8192, 8192)  # at the limit; it is truncated, but nobody looked


def test_noise_is_always_the_same_and_needs_no_memory() -> None:
    images = load_images("noise:3x32x16")
    assert images.shape == (1024, 3, 32, 16)
    some = images[[3, 1023]]
    np.testing.assert_array_equal(load_images("noise:3x32x16")[:][[3, 1023]], some)
    assert not np.array_equal(some[0], some[1])
    everything = images[:]
    assert (everything.min(), everything.max()) == (-1, 1)
    # P(|x| >= 1) = 0.3173 for a normal distribution; 1.6 million numbers, so 0.2 % is 5 sigma
    assert (np.abs(everything) == 1).mean() == pytest.approx(0.3173, abs=0.002)
    assert everything.mean() == pytest.approx(0, abs=0.003)
    assert load_images("noise:1024x1024x1024").shape == (1024, 1024, 1024, 1024)
    assert load_images("noise:1x8x8@4").shape == (1024, 1, 4, 4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("faces", r"^unknown data set 'faces'; known: digits, mnist, .*, folder:PATH, noise:CxHxW, each with @SIZE"),
        ("", "^unknown data set ''"),
        ("folder:", "^unknown data set 'folder:'"),
        ("mnist:x", "^unknown data set 'mnist:x'"),
        ("noise:3x32", "^unknown data set 'noise:3x32'"),
        ("noise:-1x3x3", "^unknown data set"),
        ("noise:0x3x3", r"^data set 'noise:0x3x3': sizes must be in 1\.\.1024$"),
        ("noise:1x1025x3", "^data set 'noise:1x1025x3': sizes"),
        ("digits@0", "^unknown data set 'digits@0'"),
        ("digits@1025", "^data set 'digits@1025': the size is 1025, the limit is 1024 pixels$"),
        ("digits@99999", "^unknown data set 'digits@99999'"),
        ("digits@8@8", "^unknown data set 'digits@8@8'"),
        ("digits@8\n", "^unknown data set"),
    ],
)
def test_a_name_that_is_none_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_images(name)


def test_only_published_data_are_downloaded() -> None:
    with pytest.raises(ConfigError, match=r"^data set 'digits': only these are downloaded: mnist, .*, celeba$"):
        load_images("digits", download=True)


def test_images_of_another_shape_than_the_model_s_are_refused() -> None:
    assert load_fitting("digits@16", (1, 16, 16)).shape == (1797, 1, 16, 16)
    message = (
        r"^the images of digits are 1 x 8 x 8, the model takes 3 x 32 x 32 \(channels x height x width\); "
        r"@32 behind the name of a data set resizes its images$"
    )
    with pytest.raises(ConfigError, match=message):
        load_fitting("digits", (3, 32, 32))
