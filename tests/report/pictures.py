"""The pictures of the page in the documentation: ``python -m tests.report.pictures demo/report.html docs/images``.

``make demo`` writes the page. Needs one of the browsers of :mod:`tests.report.browser`.
"""

import sys
from pathlib import Path

from tests.report.browser import Browser, find_browser

PARTS = {
    "report_denoiser.png": "section:has(> #section-denoiser) .columns",
    "report_cores.png": "section:has(> #section-cores) .columns",
}


def main(page: Path, folder: Path) -> None:
    """Take a picture of each part."""
    program = find_browser()
    if program is None:
        raise SystemExit("no browser is installed")
    with Browser(program) as browser:
        browser.look(page, pictures={folder / name: selector for name, selector in PARTS.items()})


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
