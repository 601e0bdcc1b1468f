"""Files that somebody altered: each is one clear error, and nothing outside the file is read."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from spikegen.program import Pipeline, load, storage
from spikegen.program.codec import encode
from tests.program.examples import alone, every_primitive
from tests.program.files import assert_same, edit_document, refused, replace_dataset, rewritten


def test_signing_in_these_tests_is_right(path: Path) -> None:
    edit_document(path, lambda _: None)
    assert_same(load(path), alone(every_primitive()))


def test_an_altered_array_does_not_match_the_digest(path: Path) -> None:
    def alter(file: h5py.File) -> None:
        file["arrays/000001"][0] = 9

    rewritten(path, alter, sign=False)
    refused(path, "the content does not match its digest; the file was altered or damaged")


def test_an_altered_document_does_not_match_the_digest(path: Path) -> None:
    def alter(file: h5py.File) -> None:
        text = file["document"][()].tobytes().replace(b'"timesteps": 2', b'"timesteps": 3')
        file["document"][...] = np.frombuffer(text, dtype=np.uint8)

    rewritten(path, alter, sign=False)
    refused(path, "the content does not match its digest")


@pytest.mark.parametrize("schema", [0, 1, 2, 4, 999])
def test_other_schema_versions(path: Path, schema: int) -> None:
    rewritten(path, lambda file: file.attrs.modify("schema", schema), sign=False)
    refused(path, f"schema version is {schema}, this spikegen reads version 3; export it again")


def test_files_of_schema_1(path: Path) -> None:
    """They held one Program and had another format attribute."""

    def alter(file: h5py.File) -> None:
        file.attrs.modify("format", np.bytes_("spikegen-program"))
        file.attrs.modify("schema", 1)

    rewritten(path, alter, sign=False)
    refused(path, "schema version is 1, this spikegen reads version 3; export it again")


def test_the_format_of_schema_1_with_another_number(path: Path) -> None:
    rewritten(path, lambda file: file.attrs.modify("format", np.bytes_("spikegen-program")), sign=False)
    refused(path, "schema version is ")


@pytest.mark.parametrize("schema", ["1", [1], np.bytes_("2" * 1000), np.zeros((100, 100), dtype=int), 2.0])
def test_schemas_that_are_no_number(path: Path, schema: Any) -> None:
    def alter(file: h5py.File) -> None:
        del file.attrs["schema"]
        file.attrs.create("schema", schema)

    rewritten(path, alter, sign=False)
    refused(path, "schema version is ")


@pytest.mark.parametrize("attribute", ["format", "schema", "digest"])
def test_missing_attributes(path: Path, attribute: str) -> None:
    rewritten(path, lambda file: file.attrs.__delitem__(attribute), sign=False)
    refused(path)


def test_other_hdf5_files(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "p.h5", "w") as file:
        file["data"] = 1
    refused(
        tmp_path / "p.h5", "an HDF5 file, but not a pipeline file (its format attribute is not 'spikegen-pipeline')"
    )


@pytest.mark.parametrize("name", ["document", "arrays"])
def test_missing_members(path: Path, name: str) -> None:
    rewritten(path, lambda file: file.__delitem__(name), sign=False)
    refused(path, "it holds", "expected arrays and document")


def test_unknown_members(path: Path) -> None:
    rewritten(path, lambda file: file.__setitem__("extra", 1), sign=False)
    refused(path, "it holds ['arrays', 'document', 'extra']")


@pytest.mark.parametrize("name", ["document", "arrays", "arrays/000000"])
@pytest.mark.parametrize("kind", ["external", "soft", "dangling"])
def test_links_are_not_followed(path: Path, name: str, kind: str) -> None:
    other = path.parent / "other.h5"
    other.write_bytes(path.read_bytes())

    def link(file: h5py.File) -> None:
        if kind == "soft":
            file.move(name, "arrays/moved" if name != "arrays" else "moved")
            target = "/arrays/moved" if name != "arrays" else "/moved"
            file[name] = h5py.SoftLink(target)
        else:
            del file[name]
            file[name] = h5py.ExternalLink(str(other), name) if kind == "external" else h5py.SoftLink("/nowhere")

    rewritten(path, link, sign=False)
    message = refused(path)
    assert "is not a plain" in message or "it holds" in message


def test_virtual_datasets_are_not_followed(path: Path) -> None:
    layout = h5py.VirtualLayout((2,), np.int16)
    layout[:] = h5py.VirtualSource(str(path.parent / "secret.h5"), "data", (2,))

    def change(file: h5py.File) -> None:
        del file["arrays/000000"]
        file.create_virtual_dataset("arrays/000000", layout)

    rewritten(path, change, sign=False)
    refused(path, "dataset 000000 is stored in another file")


def test_external_storage_is_not_followed(path: Path) -> None:
    (path.parent / "secret").write_bytes(bytes(4))
    change = replace_dataset(
        "arrays/000000", shape=(2,), dtype=np.int16, external=[(str(path.parent / "secret"), 0, 4)]
    )
    rewritten(path, change, sign=False)
    refused(path, "dataset 000000 is stored in another file")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "arrays/000000",
            {"shape": (1 << 40,), "chunks": (1024,), "dtype": "i1"},
            "declares 1099511627776 bytes, limit is 536870912",
        ),
        (
            "arrays/000000",
            {"shape": (1 << 40, 1 << 40), "chunks": (1, 1024), "dtype": "f8"},
            "bytes, limit is 536870912",
        ),
        (
            "arrays/000000",
            {"shape": (1 << 28,), "chunks": (1024,), "dtype": "i1"},
            "declares 268435456 bytes and stores 0",
        ),
        (
            "arrays/000000",
            {"shape": (4,), "maxshape": (None,), "chunks": (1 << 31,), "dtype": "i1"},
            "declares 2147483648 bytes, limit is",
        ),
        (
            "document",
            {"shape": (1 << 30,), "chunks": (1024,), "dtype": "u1"},
            "dataset document declares 1073741824 bytes, limit is 16777216",
        ),
        (
            "document",
            {"shape": (1 << 23,), "chunks": (1024,), "dtype": "u1"},
            "dataset document declares 8388608 bytes and stores 0",
        ),
    ],
)
def test_huge_declarations_are_refused_before_they_are_read(
    path: Path, name: str, arguments: dict[str, Any], message: str
) -> None:
    rewritten(path, replace_dataset(name, **arguments), sign=False)
    assert path.stat().st_size < 100_000
    start = time.perf_counter()
    refused(path, message)
    assert time.perf_counter() - start < 1.0  # reading 2^30 bytes takes longer


def test_arrays_are_limited_together(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [array.nbytes for array in encode(alone(every_primitive()))[1].values()]
    monkeypatch.setattr(storage, "TOTAL_BYTES_MAX", sum(sizes))
    load(path)
    monkeypatch.setattr(storage, "TOTAL_BYTES_MAX", sum(sizes) - 1)
    refused(path, f"limit is {sizes[-1] - 1}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": ["text"], "dtype": h5py.string_dtype()}, "has type object"),
        ({"shape": (1,), "dtype": h5py.vlen_dtype(np.int8)}, "has type object"),
        ({"data": np.zeros(1, dtype=[("a", "i1")])}, "expected one of int8, int16, int32, float64"),
        ({"data": np.zeros(2, dtype=np.int64)}, "has type int64"),
        ({"data": h5py.Empty("i2")}, "has type int16"),
        ({"data": np.zeros(2, dtype=np.uint32)}, "has type uint32"),
    ],
)
def test_types_of_arrays(path: Path, arguments: dict[str, Any], message: str) -> None:
    rewritten(path, replace_dataset("arrays/000000", **arguments), sign=False)
    refused(path, "dataset 000000", message)


def test_a_group_in_place_of_a_dataset(path: Path) -> None:
    def change(file: h5py.File) -> None:
        del file["arrays/000000"]
        file.create_group("arrays/000000")

    rewritten(path, change, sign=False)
    refused(path, "000000 is not a plain dataset of this file")


@pytest.mark.parametrize("dtype", [">i2", "i1"])
def test_arrays_have_the_annotated_type(path: Path, dtype: str) -> None:
    array = np.zeros(2, dtype=dtype)
    rewritten(path, replace_dataset("arrays/" + _array_of(alone(every_primitive()), "Lif"), data=array), sign=True)
    refused(path, "Lif.bias_mant must be an array of int16")


def _array_of(pipeline: Pipeline, kind: str) -> str:
    document = json.loads(encode(pipeline)[0])["networks"]["network"]
    return str(next(p["bias_mant"]["array"] for p in document["populations"] if p["type"] == kind))


def test_arrays_that_nothing_refers_to(path: Path) -> None:
    rewritten(path, lambda file: file.__setitem__("arrays/zzz", np.zeros(1)), sign=True)
    refused(path, "nothing refers to the arrays ['zzz']")
