"""`spikegen reconstruct`, as a user runs it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from spikegen.program import load, save
from spikegen.runtime import decode_tokens, encode_images, read_counts
from spikegen.simulator import Simulator
from spikegen.training.datasets import load_images, split
from tests.cli.commands import names, succeed, summary
from tests.runtime.programs import tiny_tokens

FILES = ("-o", "a.png", "--npy", "a.npy", "--tokens", "a.tokens.npy", "--counts", "a.json")


@pytest.fixture
def pipeline(made_tokens: Path, working_folder: Path) -> Path:
    return made_tokens / "vq.h5"


def held_out() -> npt.NDArray[np.float64]:
    return split(load_images("digits"), 297)[1][:].astype(np.float64)


def test_by_default_it_takes_images_that_were_held_out(pipeline: Path) -> None:
    found = summary("reconstruct", pipeline, "-n", 5, *FILES)
    loaded, originals = load(pipeline), held_out()[:5]
    encoded = encode_images(loaded, Simulator(loaded.network("encoder")), originals)
    decoded = decode_tokens(loaded, Simulator(loaded.network("decoder")), encoded.tokens)
    np.testing.assert_array_equal(np.load("a.tokens.npy"), encoded.tokens)
    np.testing.assert_array_equal(np.load("a.npy"), decoded.images)
    record = read_counts("a.json", loaded)
    assert record.networks == {"encoder": ((0, encoded.counts),), "decoder": ((0, decoded.counts),)}
    assert record.generator == found["generator"] == "chip"
    assert found["mean_squared_error"] == np.square(decoded.images - originals).mean()
    assert (found["images"], found["codes_used"]) == (5, len(np.unique(encoded.tokens)))
    assert found["codes_used"] > 2
    assert {role: row["evaluations"] for role, row in found["networks"].items()} == {"encoder": 5, "decoder": 5}
    assert (found["output"], found["counts"]) == ("a.png", "a.json")
    assert names() == ["a.json", "a.npy", "a.png", "a.tokens.npy"]


def test_the_picture_shows_originals_above_reconstructions(pipeline: Path) -> None:
    succeed("reconstruct", pipeline, "-n", 11, "-o", "a.png", "--npy", "a.npy")
    picture = np.asarray(Image.open("a.png"))
    factor = picture.shape[1] // (8 * 9 + 1)
    small = picture[::factor, ::factor]
    assert small.shape == (4 * 9 + 1, 8 * 9 + 1)
    cells = small[1:, 1:].reshape(4, 9, 8, 9)[:, :8, :, :8].transpose(0, 2, 1, 3)  # row, column, pixels
    shown = np.rint((held_out()[:11, 0] + 1) * 127.5)
    np.testing.assert_array_equal(cells[0], shown[:8])
    np.testing.assert_array_equal(cells[2, :3], shown[8:])
    made = np.rint((np.load("a.npy")[:, 0] + 1) * 127.5)
    np.testing.assert_array_equal(cells[1], made[:8])
    np.testing.assert_array_equal(cells[3, :3], made[8:])
    assert not cells[2:, 3:].any()


def test_images_of_an_array(pipeline: Path) -> None:
    for dtype in (np.float64, np.float32):
        np.save("in.npy", held_out()[:4].astype(dtype))
        succeed("reconstruct", pipeline, "--input", "in.npy", "-n", 3, "-o", "b.png", "--npy", "b.npy")
        succeed("reconstruct", pipeline, "-n", 3, "-o", "c.png", "--npy", "c.npy")
        assert Path("b.png").read_bytes() == Path("c.png").read_bytes()
        assert Path("b.npy").read_bytes() == Path("c.npy").read_bytes()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA"])
def test_a_picture_of_any_common_mode(pipeline: Path, mode: str) -> None:
    grey = np.rint((held_out()[:1, 0] + 1) * 127.5).astype(np.uint8)
    Image.fromarray(grey[0]).convert(mode).save("in.png")
    np.save("in.npy", grey[:, None] / 127.5 - 1)
    for name in ("png", "npy"):
        found = summary("reconstruct", pipeline, "--input", f"in.{name}", "-o", "b.png", "--npy", f"from_{name}.npy")
        assert found["images"] == 1
    assert Path("from_png.npy").read_bytes() == Path("from_npy.npy").read_bytes()


@pytest.mark.parametrize("options", [("--generator", "lookup"), ("--batch", "2"), ("--batch", "99")])
def test_neither_generator_nor_batch_change_an_image(pipeline: Path, options: tuple[str, ...]) -> None:
    succeed("reconstruct", pipeline, *FILES)
    before = {name: Path(name).read_bytes() for name in ("a.png", "a.npy", "a.tokens.npy", "a.json")}
    succeed("reconstruct", pipeline, *FILES, *options)
    changed = [name for name, data in before.items() if Path(name).read_bytes() != data]
    assert changed == (["a.json"] if "lookup" in options else [])


@pytest.mark.lava
@pytest.mark.parametrize("generator", ["chip", "lookup"])
def test_lava_writes_the_same_files(pipeline: Path, generator: str) -> None:
    written: dict[str, dict[str, bytes]] = {}
    for backend in ("simulator", "lava"):
        succeed("reconstruct", pipeline, "-n", 3, *FILES, "--backend", backend, "--generator", generator)
        written[backend] = {name: Path(name).read_bytes() for name in names()}
    assert written["lava"] == written["simulator"]


@pytest.mark.parametrize("generator", ["chip", "lookup"])
def test_report_reads_its_counts(pipeline: Path, generator: str) -> None:
    succeed("reconstruct", pipeline, "-n", 4, *FILES, "--generator", generator)
    shown = succeed("report", pipeline, "--counts", "a.json", "--json", "report.json").stdout
    assert "encoder, T = 4, 4 samples x 1 steps: per evaluation, by population" in shown
    document: Any = json.loads(Path("report.json").read_text())
    assert list(document["networks"]) == ["encoder", "decoder"]
    assert document["samples"] == 4


def test_the_summary_as_a_table(pipeline: Path) -> None:
    shown = succeed("reconstruct", pipeline, "-n", 4, "-o", "a.png").stdout
    assert "vq on simulator" in shown
    assert "mean squared error, images in [-1, 1]" in shown
    assert "of 5" in shown
    assert "Wrote a.png" in shown


def test_images_need_not_be_square(working_folder: Path) -> None:
    save(tiny_tokens(), "tiny.h5")  # without a record of a data set
    np.save("in.npy", np.zeros((2, 1, 4, 6)))
    succeed("reconstruct", "tiny.h5", "--input", "in.npy", "-o", "a.png")
    assert np.asarray(Image.open("a.png")).ndim == 2
