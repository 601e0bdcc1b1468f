from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spikegen.errors import ConfigError, OutputError
from spikegen.runtime import grid, write_png
from spikegen.runtime.files import check_output
from spikegen.runtime.images import GAP_VALUE, GRID_PIXELS, png_bytes, to_pixels


def test_the_range_becomes_all_of_0_to_255() -> None:
    values = np.array([-2.0, -1.0, 0.0, 1 / 127.5, 1.0, 3.0])
    assert to_pixels(values).tolist() == [0, 0, 128, 128, 255, 255]  # 127.5 rounds half to even: 128
    levels = np.arange(256)
    np.testing.assert_array_equal(to_pixels(levels / 127.5 - 1.0), levels)


def test_images_are_placed_row_by_row_and_enlarged_by_whole_pixels() -> None:
    images = np.linspace(-1, 1, 3 * 4).reshape(3, 1, 2, 2)
    pixels = to_pixels(images)[:, 0]
    g = GAP_VALUE
    small = grid(images, columns=2, upscale=1)
    assert small.tolist() == [
        [g, g, g, g, g, g, g],
        [g, *pixels[0, 0], g, *pixels[1, 0], g],
        [g, *pixels[0, 1], g, *pixels[1, 1], g],
        [g, g, g, g, g, g, g],
        [g, *pixels[2, 0], g, g, g, g],
        [g, *pixels[2, 1], g, g, g, g],
        [g, g, g, g, g, g, g],
    ]
    large = grid(images, columns=2, upscale=3)
    assert large.shape == (21, 21)
    np.testing.assert_array_equal(large[1::3, 1::3], small)
    np.testing.assert_array_equal(large[::3, 2::3], small)


@pytest.mark.parametrize("count", [1, 2, 16, 100])
@pytest.mark.parametrize("size", [8, 32])
def test_by_default_it_can_be_looked_at(count: int, size: int) -> None:
    picture = grid(np.zeros((count, 1, size, size)))
    assert GRID_PIXELS // 2 < max(picture.shape) <= GRID_PIXELS


def test_three_channels_are_colours(tmp_path: Path) -> None:
    images = np.full((1, 3, 2, 2), -1.0)
    images[0, 0] = 1.0
    write_png(tmp_path / "a.png", images, upscale=1)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "RGB"
        assert picture.getpixel((1, 1)) == (255, 0, 0)


def test_the_file_holds_the_grid_and_equal_images_give_equal_bytes(tmp_path: Path) -> None:
    images = np.random.default_rng(0).uniform(-1, 1, (5, 1, 8, 8))
    write_png(tmp_path / "a.png", images)
    write_png(tmp_path / "b.png", images.copy())
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes() == png_bytes(grid(images))
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "L"
        assert picture.info == {}
        np.testing.assert_array_equal(np.asarray(picture), grid(images))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_bad_shapes_are_refused() -> None:
    with pytest.raises(ConfigError, match="have 2; write the raw arrays"):
        grid(np.zeros((1, 2, 4, 4)))
    with pytest.raises(ConfigError, match=r"expected \(N, C, H, W\)"):
        grid(np.zeros((0, 1, 4, 4)))
    with pytest.raises(ConfigError, match="at least 1"):
        grid(np.zeros((1, 1, 4, 4)), upscale=0)


def test_outputs_are_checked_before_the_work(tmp_path: Path) -> None:
    assert check_output(tmp_path / "new.png") == tmp_path / "new.png"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError, match=r"the folder .*nowhere does not exist"):
        check_output(tmp_path / "nowhere" / "a.png")
    with pytest.raises(OutputError, match="no ordinary file"):
        check_output(tmp_path)
    with pytest.raises(OutputError, match="no ordinary file"):
        check_output("/dev/null")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="does not exist"):
        check_output(tmp_path / "file" / "a.png")
    with pytest.raises(OutputError, match="cannot be written"):
        check_output("/proc/self/a.png")  # a folder that nobody can write, root included
