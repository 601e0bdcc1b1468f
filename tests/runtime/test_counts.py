import json
from pathlib import Path
from typing import Any

import pytest

from spikegen.errors import ConfigError, OutputError, RecordError
from spikegen.program import digest
from spikegen.runtime import CountsRecord, decode_tokens, lookup_decoder, read_counts, write_counts
from spikegen.runtime.counts import StepCounts
from spikegen.simulator import Simulator
from tests.runtime.programs import tiny, tiny_tokens
from tests.runtime.test_session import session
from tests.runtime.test_token_session import session as token_session


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "counts.json"
    write_counts(path, tiny(), {"denoiser": session(images=2, steps=3).run().counts})
    return path


def tokens_run(generator: str) -> dict[str, tuple[StepCounts, ...]]:
    """Counts of two grids of tokens and of their images."""
    pipeline, result = tiny_tokens(), token_session(images=2, steps=3).run()
    lookup = lookup_decoder(pipeline) if generator == "lookup" else None
    decoder = pipeline.network("decoder") if lookup is None else lookup.program
    images = decode_tokens(pipeline, Simulator(decoder), result.sample, lookup=lookup)
    return {"denoiser": result.counts, "decoder": ((0, images.counts),)}


def test_round_trip(written: Path) -> None:
    record = read_counts(written, tiny())
    counts = session(images=2, steps=3).run().counts
    assert record == CountsRecord("tiny", digest(tiny()), None, {"denoiser": counts})
    assert read_counts(written) == record


@pytest.mark.parametrize("generator", ["chip", "lookup"])
def test_round_trip_of_several_networks(generator: str, tmp_path: Path) -> None:
    path, networks = tmp_path / "counts.json", tokens_run(generator)
    write_counts(path, tiny_tokens(), networks, generator)
    record = read_counts(path, tiny_tokens())
    assert record == CountsRecord("tokens", digest(tiny_tokens()), generator, networks)
    document = json.loads(path.read_text())
    assert document["format"] == "spikegen-counts"
    assert document["version"] == 2
    assert document["generator"] == generator
    assert [item["step"] for item in document["networks"]["denoiser"]["steps"]] == [6, 4, 2]
    assert [item["step"] for item in document["networks"]["decoder"]["steps"]] == [0]


@pytest.mark.parametrize(("generator", "other"), [("chip", "lookup"), ("lookup", "chip")])
def test_the_decoder_is_checked_against_the_program_that_ran(generator: str, other: str, tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    write_counts(path, tiny_tokens(), tokens_run(generator), generator)
    path.write_text(json.dumps(edit(json.loads(path.read_text()), ("generator",), other)))
    with pytest.raises(RecordError, match="the nodes or projections are not those of the Program"):
        read_counts(path, tiny_tokens())
    read_counts(path)  # nothing to compare with


def test_a_generator_belongs_to_a_decoder(tmp_path: Path) -> None:
    networks, path = tokens_run("chip"), tmp_path / "counts.json"
    with pytest.raises(ConfigError, match="generator is None, expected 'chip' or 'lookup' for counts of denoiser, dec"):
        write_counts(path, tiny_tokens(), networks)
    with pytest.raises(ConfigError, match="the generator is 'chip', expected None for counts of denoiser"):
        write_counts(path, tiny_tokens(), {"denoiser": networks["denoiser"]}, "chip")
    assert not path.exists()


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such counts file; make one with `spikegen sample --counts`"):
        read_counts(tmp_path / "nothing.json")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_not_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "counts.json"
    path.write_bytes(content)
    with pytest.raises(RecordError, match="not a readable counts file"):
        read_counts(path)


def test_another_pipeline(written: Path) -> None:
    for other in (tiny(size=5), tiny_tokens()):
        with pytest.raises(RecordError, match=r"these are the counts of another pipeline \(tiny\); sample again"):
            read_counts(written, other)


def edit(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    target = document
    for key in place[:-1]:
        target = target[key]
    if value is KeyError:
        del target[place[-1]]
    else:
        target[place[-1]] = value
    return document


STEPS = ("networks", "denoiser", "steps")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("format",), "other", "not a counts file"),
        (("version",), 1, "version is 1, this spikegen reads version 2"),
        (("pipeline",), KeyError, "damaged: 'pipeline'"),
        (("pipeline",), 3, "damaged"),
        (("pipeline", "digest"), 3, "damaged: 3 is no text"),
        (("pipeline", "digest"), "0" * 64, "another pipeline"),
        (("generator",), KeyError, "damaged: 'generator'"),
        (("generator",), "chip", "the generator is 'chip', expected None"),
        (("generator",), [], r"the generator is \[\]"),
        (("networks",), KeyError, "damaged: 'networks'"),
        (("networks",), {}, "at least one network"),
        (("networks",), [1], "at least one network"),
        (("networks", "denoiser"), 5, "damaged"),
        (("networks", "encoder"), {"steps": []}, "'tiny' has no encoder"),
        (("networks", "decoder"), {"steps": []}, "the generator is None, expected 'chip' or 'lookup'"),
        (STEPS, [], "at least one step"),
        (STEPS, {}, "must be a list"),
        ((*STEPS, 0), 5, "damaged"),
        ((*STEPS, 0, "step"), -1, "step is -1"),
        ((*STEPS, 0, "images"), 0, "no images"),
        ((*STEPS, 0, "events"), [], "damaged"),
        ((*STEPS, 0, "events", "hidden"), 1.5, "hidden is 1.5"),
        ((*STEPS, 0, "events", "hidden"), True, "hidden is True"),
        ((*STEPS, 0, "events", "hidden"), 1 << 63, "whole number"),
        ((*STEPS, 0, "events", "hidden"), KeyError, "other nodes"),
        ((*STEPS, 0, "stored", "x>hidden"), KeyError, "different projections"),
        ((*STEPS, 0, "effective"), KeyError, "damaged: 'effective'"),
    ],
)
def test_damaged(written: Path, place: tuple[Any, ...], value: Any, message: str) -> None:
    written.write_text(json.dumps(edit(json.loads(written.read_text()), place, value)))
    with pytest.raises(RecordError, match=message):
        read_counts(written, tiny())


def test_the_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_counts(tmp_path / "nowhere" / "counts.json", tiny(), {"denoiser": session().run().counts})
