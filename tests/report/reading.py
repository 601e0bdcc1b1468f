"""The page as a reader without a browser sees it, and a run of a tiny pipeline to make it of."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from spikegen.diffusion import default_solver
from spikegen.program import save
from spikegen.runtime import Session, decode_tokens, write_counts
from spikegen.simulator import Simulator
from tests.cli.commands import succeed
from tests.runtime.programs import tiny_tokens

IMAGES, STEPS = 3, 4
_VOID = {"meta", "link", "img"}


class Page(HTMLParser):
    """Tables as (texts, numbers) by row, attributes, and that all tags are closed.

    Attributes:
        tables: id -> rows of (text of the first cell, values of all numbers).
        tags: (name, attributes) of every tag.
        text: everything between the tags but style sheets.
    """

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tables: dict[str, list[tuple[str, list[float]]]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self._rows: list[tuple[str, list[float]]] = []
        self._first: str | None = None
        self.feed(source)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "table":
            name = found["id"]
            assert name is not None
            assert name not in self.tables
            self._rows = self.tables[name] = []
        elif tag == "tr" and "thead" not in self._open:
            self._rows.append(("", []))
            self._first = ""
        elif tag == "data":
            self._rows[-1][1].append(float(found["value"] or "nan"))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "td" and self._first is not None and "table" in self._open:
            _, numbers = self._rows[-1]
            self._rows[-1] = (self._first.strip(), numbers)
            self._first = None

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            return
        self.text += data
        if self._first is not None and self._open[-1] == "td":
            self._first += data

    def numbers(self, name: str) -> list[list[float]]:
        """The numbers of a table, row by row; rows without any are left out."""
        return [numbers for _, numbers in self.tables[name] if numbers]

    def attributes(self, *names: str) -> list[str]:
        """The values of some attributes in the whole page."""
        return [value or "" for _, found in self.tags for key, value in found.items() if key in names]

    def count(self, tag: str, kind: str | None = None) -> int:
        """How often a tag is there, of one class if it is named."""
        return sum(name == tag and (kind is None or found.get("class") == kind) for name, found in self.tags)


def write_run(folder: Path) -> None:
    """``tokens.h5`` and the counts of a run of it, ``counts.json``."""
    pipeline = tiny_tokens()
    save(pipeline, folder / "tokens.h5")
    with Simulator(pipeline.network("denoiser")) as denoiser, Simulator(pipeline.network("decoder")) as decoder:
        result = Session(pipeline, denoiser, default_solver(pipeline), steps=STEPS, images=IMAGES).run()
        decoded = decode_tokens(pipeline, decoder, result.sample)
    networks = {"denoiser": result.counts, "decoder": ((0, decoded.counts),)}
    write_counts(folder / "counts.json", pipeline, networks, "chip", {"solver": "absorbing", "seed": "0"})


def write_page(folder: Path, *options: object) -> None:
    """``report.html`` and ``report.json`` of that run, through the command."""
    files = ("--counts", folder / "counts.json", "--json", folder / "report.json", "--html", folder / "report.html")
    succeed("report", folder / "tokens.h5", *files, *options)
