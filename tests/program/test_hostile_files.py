"""Files that somebody altered: each is one clear error, and nothing outside the file is read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from spikegen.errors import ProgramError
from spikegen.program import Pipeline, Program, load, storage, validate_pipeline
from spikegen.program.codec import decode, encode
from tests.program.examples import alone, every_primitive, token_diffusion
from tests.program.files import assert_same, refused
from tests.strategies import programs


def rewritten(path: Path, change: Callable[[h5py.File], None], *, sign: bool) -> None:
    """Change the file; ``sign`` makes its digest right again, as an attacker would."""
    with h5py.File(path, "r+") as file:
        change(file)
        if sign:
            arrays = {name: data[()] for name, data in file["arrays"].items()}
            file.attrs["digest"] = np.bytes_(storage._digest(file["document"][()].tobytes(), arrays))


def edit_document(path: Path, change: Callable[[Any], Any]) -> None:
    """Replace the JSON by what ``change`` returns or leaves, signed."""

    def edit(file: h5py.File) -> None:
        document = json.loads(file["document"][()].tobytes())
        found = change(document)
        text = found if isinstance(found, bytes) else json.dumps(document if found is None else found).encode()
        del file["document"]
        file["document"] = np.frombuffer(text, dtype=np.uint8)

    rewritten(path, edit, sign=True)


def replace_dataset(name: str, **arguments: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **arguments)

    return change


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


@pytest.mark.parametrize("schema", [0, 1, 3, 999])
def test_other_schema_versions(path: Path, schema: int) -> None:
    rewritten(path, lambda file: file.attrs.modify("schema", schema), sign=False)
    refused(path, f"schema version is {schema}, this spikegen reads version 2; export it again")


def test_files_of_schema_1(path: Path) -> None:
    """They held one Program and had another format attribute."""

    def alter(file: h5py.File) -> None:
        file.attrs.modify("format", np.bytes_("spikegen-program"))
        file.attrs.modify("schema", 1)

    rewritten(path, alter, sign=False)
    refused(path, "schema version is 1, this spikegen reads version 2; export it again")


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


def _set(*keys: Any, value: Any) -> Callable[[Any], None]:
    """Set the value at a path of keys, in the document of the only network."""

    def change(document: Any) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return change


def _drop(*keys: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for key in keys[:-1]:
            document = document[key]
        del document[keys[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("surprise", value=1), "Program has fields"),
        (_drop("ann_macs"), "Program has fields"),
        (_drop("input", "low"), "Input has fields"),
        (_set("populations", 0, "surprise", value=1), "Lif has fields"),
        (_drop("populations", 0, "origin"), "Lif has fields"),
        (
            _set("populations", 0, "type", value="Adex"),
            "Program.populations has type 'Adex', expected Lif or Relay or Readout",
        ),
        (
            _set("populations", 0, "type", value="Conv"),
            "Program.populations has type 'Conv', expected Lif or Relay or Readout",
        ),
        (_set("populations", 0, "type", value=["Lif"]), "Program.populations has type ['Lif'], expected"),
        (_set("populations", 0, value=7), "Program.populations has type 7, expected"),
        (_drop("populations", 0, "type"), "Program.populations has type None, expected"),
        (_set("populations", value={}), "Program.populations is {}, expected a list"),
        (_set("input", "type", value="Lif"), "Program.input has type 'Lif', expected Input"),
        (_set("type", value="Input"), "Pipeline.networks[network] has type 'Input', expected Program"),
        (_set("timesteps", value="2"), "Program.timesteps is '2', expected int"),
        (_set("timesteps", value=True), "Program.timesteps is True, expected int"),
        (_set("timesteps", value=2.0), "Program.timesteps is 2.0, expected int"),
        (_set("timesteps", value=None), "Program.timesteps is None, expected int"),
        (_set("timesteps", value=10**400), "timesteps is 1000"),
        (_set("input", "scale", value=True), "Input.scale is True, expected float"),
        (_set("input", "scale", value=10**400), "int too large to convert to float"),
        (_set("input", "shape", value=[2, 3]), "Input.shape has 2 items, expected 3"),
        (_set("input", "shape", value=[2, 3, "3"]), "Input.shape is '3', expected int"),
        (_set("input", "shape", value=[10**9, 10**9, 10**9]), "at most 67108864 neurons"),
        (_set("input", "name", value=5), "Input.name is 5, expected str"),
        (_set("input", "streamed", value=1), "Input.streamed is 1, expected bool"),
        (_set("input", "bits", value=10**9), "in: bits is 1000000000, allowed 0..23"),
        (_set("input", "bits", value=-1), "in: bits is -1, allowed 0..23"),
        (_set("input", "bits", value=0), "in: the range is -15..15, binary spikes are 0..1 in every channel"),
        (_set("input", "bits", value=3), "in: the range is -15..15, 3 bits hold +-7"),
        (_set("input", "low", value=[-15, -15]), "Input.low must refer to an array of the file"),
        (_set("input", "low", value=None), "Input.low must refer to an array of the file"),
        (_set("ann_macs", value=-1), "program: ann_macs is -1, allowed 0..9007199254740992"),
        (_set("name", value="\x1b[2J"), "a name has 1 to 120 of the characters"),
        (_set("conditioning", "tables", "a", value=[[1]]), "Conditioning.tables[a] must refer to an array of the file"),
        (
            _set("populations", 0, "bias_mant", value={"array": "999999"}),
            "Lif.bias_mant must refer to an array of the file",
        ),
        (
            _set("populations", 0, "bias_mant", value={"array": ["0"]}),
            "Lif.bias_mant must refer to an array of the file",
        ),
        (
            _set("populations", 0, "bias_mant", value={"array": "000000", "x": 1}),
            "Lif.bias_mant must refer to an array",
        ),
        (_set("populations", 0, "vth", value=1 << 17), "a: vth is 131072, allowed 0..131071"),
        (_set("projections", 0, "padding", value=[10**9, 1]), "in>a: padding is 1000000000, allowed 0..4096"),
    ],
)
def test_networks_against_the_dataclasses(path: Path, change: Callable[[Any], Any], message: str) -> None:
    edit_document(path, lambda document: change(document["networks"]["network"]))
    refused(path, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("surprise", value=1), "Pipeline has fields"),
        (_drop("host"), "Pipeline has fields"),
        (_set("type", value="Program"), "document has type 'Program', expected Pipeline"),
        (_set("name", value=7), "Pipeline.name is 7, expected str"),
        (_set("name", value="a/b"), "pipeline: 'a/b': a name has 1 to 120 of the characters"),
        (
            _set("host", value={}),
            "Pipeline.host has type None, expected Standalone or ImageDiffusion or TokenDiffusion",
        ),
        (_set("host", "type", value="Loop"), "Pipeline.host has type 'Loop', expected Standalone or"),
        (_set("host", "steps", value=3), "Standalone has fields ['steps'], expected []"),
        (_set("host", value={"type": "ImageDiffusion"}), "ImageDiffusion has fields [], expected ["),
        (
            _set("host", value={"type": "ImageDiffusion", "beta_schedule": "linear", "clip_sample": 1}),
            "ImageDiffusion.clip_sample is 1, expected bool",
        ),
        (
            _set("host", value={"type": "TokenDiffusion", "codebook": [[1.0]], "steps": 1, "pixel_scale": 1.0}),
            "TokenDiffusion.codebook must refer to an array of the file",
        ),
        (_set("networks", value=[]), "Pipeline.networks must be a mapping with text keys"),
        (_set("networks", value={}), "nothing refers to the arrays"),
        (_set("networks", "network", "type", value="Pipeline"), "has type 'Pipeline', expected Program"),
        (_set("networks", "network", value=None), "Pipeline.networks[network] has type None, expected Program"),
        (_set("networks", "second", value=7), "Pipeline.networks[second] has type 7, expected Program"),
        (_set("provenance", value=[]), "Pipeline.provenance must be a mapping with text keys"),
        (_set("provenance", "x", value={"type": "Lif"}), "Pipeline.provenance[x] is {'type': 'Lif'}, expected str"),
        (lambda _: b"[]", "document has type [], expected Pipeline"),
        (lambda _: b"null", "document has type None"),
        (lambda _: b"{", "not a readable pipeline file"),
        (lambda _: b"\xff\xfe", "not a readable pipeline file"),
        (lambda _: b"[" * 1_000_000, "not a readable pipeline file"),
        (lambda _: b'{"a":' * 100_000, "not a readable pipeline file"),
        (lambda _: b'{"type": "Pipeline", "name": NaN}', "the document holds NaN, which is not a number"),
        (lambda _: b'{"type": "Pipeline", "name": -Infinity}', "the document holds -Infinity"),
    ],
)
def test_documents_against_the_dataclasses(path: Path, change: Callable[[Any], Any], message: str) -> None:
    edit_document(path, change)
    refused(path, message)


def test_a_network_under_another_role(path: Path) -> None:
    def change(document: Any) -> None:
        document["networks"]["denoiser"] = document["networks"].pop("network")

    edit_document(path, change)
    message = refused(path, "the pipeline has no network; a Standalone pipeline has network")
    assert "the pipeline has an unknown role 'denoiser'; a Standalone pipeline has network" in message


def test_empty_ranges_of_an_input(path: Path) -> None:
    """A file must say the range: an empty one is filled in, but never for a shape that no memory holds."""

    def change(document: Any) -> None:
        port = document["networks"]["network"]["input"]
        port["shape"][0] = 10**12

    def empty(file: h5py.File) -> None:
        document = json.loads(file["document"][()].tobytes())
        name = "arrays/" + document["networks"]["network"]["input"]["low"]["array"]
        replace_dataset(name, shape=(0,), dtype=np.int32)(file)

    rewritten(path, empty, sign=True)
    assert load(path).network("network").input.low.tolist() == [-15, -15]
    edit_document(path, change)
    refused(path, "in: shape is (1000000000000, 3, 3), it must be")


def test_all_broken_rules_of_a_file_are_reported(path: Path) -> None:
    def change(document: Any) -> None:
        population = document["networks"]["network"]["populations"][0]
        population["vth"] = population["du"] = -1

    edit_document(path, change)
    refused(path, "has problems:\n  - network: a: vth is -1, allowed 0..131071\n  - network: a: du is -1")


@settings(max_examples=50)
@given(program=programs(max_populations=3), data=st.data())
def test_no_document_makes_any_other_error(program: Program, data: st.DataObject) -> None:
    """Replace one random value of the document by another."""
    pipeline = data.draw(st.sampled_from((alone(program), token_diffusion())))
    document, arrays = encode(pipeline)
    tree = json.loads(document)
    spot = tree
    while True:
        keys: list[Any] = list(spot) if isinstance(spot, dict) else list(range(len(spot)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(spot[key], dict | list) or not spot[key] or data.draw(st.integers(0, 3)) == 0:
            break
        spot = spot[key]
    values = (
        st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False) | st.text(max_size=5)
    )
    spot[key] = data.draw(
        values | st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=2)
    )
    try:
        validate_pipeline(decode(json.dumps(tree).encode(), arrays))
    except (ProgramError, *storage._UNREADABLE):
        pass
