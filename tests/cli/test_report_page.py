"""`spikegen report --html`: its options, what it refuses, and that all else works without what it needs."""

from __future__ import annotations

import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spikegen.cli._images import PIXELS_MAX
from tests.cli.commands import names, refuse, run, succeed
from tests.report.reading import Page, write_run


@pytest.fixture
def here(working_folder: Path) -> Path:
    """A folder with a run of three images, in which the command runs."""
    write_run(working_folder)
    return working_folder


COUNTED = ("report", "tokens.h5", "--counts", "counts.json")


def test_the_page_is_written_beside_the_tables(here: Path) -> None:
    result = succeed(*COUNTED, "--html", "report.html")
    assert "Estimated energy of one sample" in result.output
    assert names() == ["counts.json", "report.html", "tokens.h5"]
    page = Page((here / "report.html").read_text(encoding="utf-8"))
    assert page.count("script") == 0
    assert "Oheo Gulch" in page.text


def test_the_page_and_json_to_stdout_go_together(here: Path) -> None:
    document = json.loads(succeed(*COUNTED, "--html", "report.html", "--json", "-").stdout)
    assert document["check"]["board"]["name"] == "oheogulch"
    assert document["run"] == {"solver": "absorbing", "seed": "0"}
    assert (here / "report.html").is_file()


def test_the_board_is_that_of_the_option(here: Path) -> None:
    document = json.loads(succeed(*COUNTED, "--board", "kapohopoint", "--json", "-").stdout)
    expected = json.loads(run("check", "tokens.h5", "--board", "kapohopoint", "--json").stdout)
    assert document["check"] == expected
    assert json.loads(succeed(*COUNTED, "--json", "-").stdout)["check"] is None


def test_a_small_run_says_how_it_was_made(here: Path) -> None:
    document = json.loads(succeed("report", "tokens.h5", "-n", 2, "--steps", 2, "--seed", 7, "--json", "-").stdout)
    assert document["run"] == {"solver": "absorbing", "seed": "7"}


def test_sample_says_how_it_was_made(here: Path) -> None:
    succeed("sample", "tokens.h5", "-n", 2, "--seed", 5, "--backend", "simulator", "-o", "a.png", "--counts", "a.json")
    document = json.loads(succeed("report", "tokens.h5", "--counts", "a.json", "--json", "-").stdout)
    assert document["run"] == {"solver": "absorbing", "seed": "5"}


def test_the_samples_of_a_run_are_shown_whatever_their_file(here: Path) -> None:
    files = ("-o", "a.png", "--npy", "a.npy", "--counts", "a.json")
    succeed("sample", "tokens.h5", "-n", 2, "--backend", "simulator", *files)
    shown = []
    for name in ("a.png", "a.npy"):
        succeed("report", "tokens.h5", "--counts", "a.json", "--samples", name, "--html", "report.html")
        page = Page((here / "report.html").read_text(encoding="utf-8"))
        shown += [source for source in page.attributes("src") if source.startswith("data:image/png")]
    assert len(shown) == 2
    assert shown[0] == shown[1]


def test_options_that_need_each_other(here: Path) -> None:
    refuse(2, "--samples is a picture on the page that --html writes", *COUNTED, "--samples", "a.png")
    refuse(1, "there is no board 'pohoiki'", *COUNTED, "--board", "pohoiki")
    refuse(1, "the folder absent does not exist", *COUNTED, "--html", "absent/report.html")
    refuse(2, "must be different files", *COUNTED, "--html", "counts.json")


def _bomb(path: Path) -> None:
    """A PNG file of a few bytes that claims 60,000 x 60,000 pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    chunks = [head, b"IDAT" + zlib.compress(bytes(100)), b"IEND"]
    framed = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(framed))


def test_pictures_that_are_none(here: Path) -> None:
    page = (*COUNTED, "--html", "report.html", "--samples")
    refuse(1, "there is no such file", *page, "absent.png")
    Path("text.png").write_text("<script>alert(1)</script>", encoding="utf-8")
    refuse(1, "not a readable PNG picture", *page, "text.png")
    Image.new("RGB", (4, 4)).save("picture.jpg")
    refuse(1, "not a readable PNG picture", *page, "picture.jpg")
    _bomb(Path("bomb.png"))
    refuse(1, "bomb.png", *page, "bomb.png")
    Image.new("1", (PIXELS_MAX // 1024 + 1, 1024)).save("large.png")
    refuse(1, f"a picture has at most {PIXELS_MAX}", *page, "large.png")
    np.save("wrong.npy", np.zeros((2, 1, 5, 5)))
    refuse(1, "the images of this pipeline are floats (N, 1, 4, 6)", *page, "wrong.npy")


def test_a_failure_leaves_the_old_page(here: Path) -> None:
    Path("report.html").write_text("old", encoding="utf-8")
    refuse(1, "no such file", *COUNTED, "--html", "report.html", "--samples", "absent.png")
    assert Path("report.html").read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_only_the_page_needs_what_the_extra_installs(here: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name in [name for name in sys.modules if name.startswith("spikegen.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("spikegen.report", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    refuse(1, "pip install 'spikegen[report]'", *COUNTED, "--html", "report.html")
    succeed(*COUNTED, "--json", "report.json", "--board", "oheogulch")
