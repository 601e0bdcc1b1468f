"""The page of `spikegen report --html` in headless Chromium, without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.report.browser import NAMES, Browser, find_browser
from tests.report.reading import IMAGES, Page, write_page, write_run

PROGRAM = find_browser()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason=f"no browser: none of {', '.join(NAMES)} is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM) as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    write_run(folder)
    np.save(folder / "samples.npy", np.zeros((IMAGES, 1, 4, 6)))
    write_page(folder, "--samples", folder / "samples.npy")
    return folder / "report.html"


@pytest.mark.parametrize("width", [1280, 480])
def test_the_page_shows_everything_and_asks_for_nothing(browser: Browser, page: Path, width: int) -> None:
    seen = browser.look(page, width)
    assert seen.errors == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [page.resolve().as_uri()]
    source = Page(page.read_text(encoding="utf-8"))
    assert len(seen.facts["images"]) == source.count("img") == 7
    for natural, shown, height in seen.facts["images"]:
        assert natural > 0
        assert shown > 150
        assert height > 40
    assert len(seen.facts["drawings"]) == source.count("svg", "chip") == 3
    assert all(drawn > 150 and height > 100 for drawn, height in seen.facts["drawings"])
    wanted, available = seen.facts["width"]
    assert wanted <= available == width  # nothing is cut off at the side
    assert seen.facts["title"] == "tokens · spikegen report"


def test_it_follows_the_colour_scheme_of_the_reader(browser: Browser, page: Path) -> None:
    grounds = [browser.look(page, scheme=scheme).facts["ground"] for scheme in ("light", "dark")]
    assert grounds == ["rgb(244, 246, 249)", "rgb(17, 22, 29)"]


BROKEN = (
    "<script>document.documentElement.dataset.ran = 1; console.error('said'); throw Error('thrown')</script>"
    "<img src='http://example.org/far.png' alt=''><img src='near.png' alt=''></body>"
)


def test_the_check_sees_a_broken_page(browser: Browser, page: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    source = page.read_text(encoding="utf-8").replace("</body>", BROKEN)
    broken.write_text(source.replace("Content-Security-Policy", "x-none"), encoding="utf-8")
    seen = browser.look(broken)
    assert seen.facts["marked"] == "1"
    assert "said" in seen.errors
    assert any("thrown" in error for error in seen.errors)
    assert {"http://example.org/far.png", (tmp_path / "near.png").as_uri()} <= set(seen.requests)
    assert [natural for natural, _, _ in seen.facts["images"]][-2:] == [0, 0]


def test_the_page_forbids_scripts_that_get_into_it(browser: Browser, page: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text(page.read_text(encoding="utf-8").replace("</body>", BROKEN), encoding="utf-8")
    seen = browser.look(broken)
    assert seen.facts["marked"] is None
    assert any("Executing inline script violates" in error for error in seen.errors)
