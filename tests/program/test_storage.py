"""The Program file: exact round trips, whole-or-absent writing, and one clear error for whatever else is in a file."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings

from spikegen.errors import ProgramError, ProgramFileError
from spikegen.program import Conv, Program, load, save, storage
from spikegen.program.codec import decode, encode
from tests.program.examples import changed, every_primitive
from tests.program.files import assert_same, refused
from tests.strategies import programs

PRIMITIVES = {**Program.NODE_TYPES, **Program.PROJECTION_TYPES}


# --- round trips


@pytest.mark.parametrize("kind", sorted(PRIMITIVES))
def test_round_trip_of_every_primitive(kind: str, path: Path) -> None:
    loaded = load(path)
    before, after = (
        [x for x in (p.input, *p.populations, *p.projections) if type(x).__name__ == kind]
        for p in (every_primitive(), loaded)
    )
    assert before  # the example has every primitive, also those that are added later
    assert_same(before, after)


def test_round_trip_of_the_whole_program(path: Path) -> None:
    assert_same(every_primitive(), load(path))


@settings(max_examples=50)
@given(programs())
def test_round_trip_of_random_programs(program: Program) -> None:
    document, arrays = encode(program)
    assert_same(program, decode(document, arrays))


@settings(max_examples=20)
@given(program=programs())
def test_round_trip_of_random_programs_through_a_file(
    program: Program, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("random") / "program.h5"
    save(program, file)
    assert_same(program, load(file))
    assert storage.digest(load(file)) == storage.digest(program)


def test_numbers_of_other_types_become_the_declared_ones(tmp_path: Path) -> None:
    program = changed(changed(every_primitive(), "out", scale=1), "a", vth=np.int64(5))
    save(program, tmp_path / "p.h5")
    loaded = load(tmp_path / "p.h5")
    readout = next(loaded.readouts())
    assert type(readout.scale) is float
    assert storage.digest(loaded) == storage.digest(program)


# --- digest


def test_digest_depends_on_every_field() -> None:
    base = storage.digest(every_primitive())
    assert base == storage.digest(every_primitive())
    seen = {base}
    program = every_primitive()
    for node in (program.input, *program.populations, *program.projections):
        for field in dataclasses.fields(node):
            value = getattr(node, field.name)
            other: Any
            if isinstance(value, np.ndarray):
                other = value.copy()
                other.flat[0] = 77
            else:
                other = tuple(x + 1 for x in value) if isinstance(value, tuple) else value * 2 or value + type(value)(1)
            found = storage.digest(changed(program, node.name, **{field.name: other}))
            assert found not in seen, (node.name, field.name)
            seen.add(found)


def test_digest_depends_on_the_shape_of_arrays() -> None:
    flat = changed(every_primitive(), "a>r", weight=np.ones((1, 2, 2, 1)))
    assert storage.digest(flat) != storage.digest(changed(flat, "a>r", weight=np.ones((1, 2, 1, 2))))


def test_digest_is_that_of_the_file(path: Path) -> None:
    with h5py.File(path, "r") as file:
        assert file.attrs["digest"].decode() == storage.digest(every_primitive())


# --- writing


def test_save_replaces_and_leaves_nothing_else(path: Path) -> None:
    save(changed(every_primitive(), "a", vth=7), path)
    assert [p.name for p in path.parent.iterdir()] == ["program.h5"]
    assert_same(load(path), changed(every_primitive(), "a", vth=7))


@pytest.mark.parametrize("call", ["os.replace", "os.fdopen", "os.chmod"])
def test_a_failing_write_keeps_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    before = path.read_bytes()

    def fail(handle: Any, *_: Any) -> None:
        if isinstance(handle, int):
            os.close(handle)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(call, fail)
        with pytest.raises(ProgramFileError, match="the Program file cannot be written: No space left on device"):
            save(changed(every_primitive(), "a", vth=7), path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["program.h5"]


def test_a_program_against_the_rules_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="a: vth is -1"):
        save(changed(every_primitive(), "a", vth=-1), tmp_path / "p.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"report": {"x": float("nan")}}, "Out of range float values are not JSON compliant"),
        ({"report": {"x": np.zeros(2)}}, r"Program.report\[x\] holds a ndarray, which JSON cannot"),
        ({"report": {"x": {3: 1}}}, r"Program.report\[x\] must be a mapping with text keys"),
        ({"provenance": {"x": 3}}, r"Program.provenance\[x\] is 3, expected str"),
        ({"timesteps": 2.0}, "Program.timesteps is 2.0, expected int"),
        ({"host": None}, "Program.host is a NoneType, expected Host"),
    ],
)
def test_what_cannot_be_stored_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        save(dataclasses.replace(every_primitive(), **changes), tmp_path / "p.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["missing/p.h5", "file/p.h5", "folder", "n" * 300])
def test_folders_that_cannot_be_written(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ProgramFileError, match="the Program file cannot be written: "):
        save(every_primitive(), tmp_path / where)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ProgramFileError, match="cannot be written: Permission denied"):
        save(every_primitive(), tmp_path / "p.h5")


# --- damage


@pytest.mark.parametrize("name", ["missing.h5", ".", "n" * 300, "missing/p.h5"])
def test_missing_files(tmp_path: Path, name: str) -> None:
    refused(tmp_path / name)
    refused(tmp_path / "missing.h5", "there is no such Program file; make one with `spikegen export`")


@pytest.mark.parametrize("content", [b"", b"no HDF5", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04" + bytes(100)])
def test_files_of_other_kinds(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.h5").write_bytes(content)
    refused(tmp_path / "p.h5", "not a readable Program file (truncated or damaged)")


def test_truncation_at_many_lengths(path: Path) -> None:
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 97), *range(len(whole) - 20, len(whole))]:
        path.write_bytes(whole[:length])
        refused(path)


def test_every_altered_byte_is_found(path: Path) -> None:
    """Metadata has HDF5's own checksums, content the digest; the few bytes between them mean nothing."""
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    accepted = 0
    positions = {*range(64), *rng.integers(0, len(whole), 250).tolist()}
    for position in positions:
        altered = bytearray(whole)
        altered[position] ^= int(rng.integers(1, 256))
        path.write_bytes(altered)
        try:
            loaded = load(path)
        except ProgramFileError:
            continue
        assert_same(loaded, every_primitive())
        accepted += 1
    assert accepted < len(positions) / 10  # free space between HDF5's blocks


def test_conv_keeps_its_layout(tmp_path: Path) -> None:
    weight = np.asfortranarray(np.arange(18).reshape(2, 1, 3, 3)).astype(np.int8)
    program = changed(every_primitive(), "in>a", weight=weight)
    save(program, tmp_path / "p.h5")
    found = load(tmp_path / "p.h5").projections[0]
    assert isinstance(found, Conv)
    np.testing.assert_array_equal(found.weight, weight)
