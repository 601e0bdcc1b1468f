import json
from pathlib import Path
from typing import Any

import pytest

from spikegen.errors import OutputError, RecordError
from spikegen.program.storage import digest
from spikegen.runtime import read_counts, write_counts
from tests.runtime.programs import tiny
from tests.runtime.test_session import session


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "counts.json"
    write_counts(path, tiny(), session(images=2, steps=3).run().counts)
    return path


def test_round_trip(written: Path) -> None:
    record = read_counts(written, tiny())
    assert record.steps == session(images=2, steps=3).run().counts
    assert record.program == "tiny"
    assert record.digest == digest(tiny())
    assert read_counts(written) == record


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such counts file; make one with `spikegen sample --counts`"):
        read_counts(tmp_path / "nothing.json")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_not_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "counts.json"
    path.write_bytes(content)
    with pytest.raises(RecordError, match="not a readable counts file"):
        read_counts(path)


def test_another_program(written: Path) -> None:
    with pytest.raises(RecordError, match=r"the nodes or projections are not|counts of another Program"):
        read_counts(written, tiny(size=5))


def edit(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    target = document
    for key in place[:-1]:
        target = target[key]
    if value is KeyError:
        del target[place[-1]]
    else:
        target[place[-1]] = value
    return document


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("format",), "other", "not a counts file"),
        (("version",), 2, "version is 2, this spikegen reads version 1"),
        (("program",), KeyError, "damaged"),
        (("program", "digest"), 3, "damaged"),
        (("program", "digest"), "0" * 64, "another Program"),
        (("steps",), [], "at least one step"),
        (("steps",), {}, "must be a list"),
        (("steps", 0), 5, "damaged"),
        (("steps", 0, "step"), -1, "step is -1"),
        (("steps", 0, "images"), 0, "no images"),
        (("steps", 0, "events", "hidden"), 1.5, "hidden is 1.5"),
        (("steps", 0, "events", "hidden"), True, "hidden is True"),
        (("steps", 0, "events", "hidden"), 1 << 63, "whole number"),
        (("steps", 0, "events", "hidden"), KeyError, "other nodes"),
        (("steps", 0, "stored", "x>hidden"), KeyError, "different projections"),
        (("steps", 0, "effective"), KeyError, "damaged: 'effective'"),
    ],
)
def test_damaged(written: Path, place: tuple[Any, ...], value: Any, message: str) -> None:
    written.write_text(json.dumps(edit(json.loads(written.read_text()), place, value)))
    with pytest.raises(RecordError, match=message):
        read_counts(written, tiny())


def test_the_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_counts(tmp_path / "nowhere" / "counts.json", tiny(), session().run().counts)
