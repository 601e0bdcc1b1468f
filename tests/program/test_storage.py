"""The pipeline file: exact round trips, whole-or-absent writing, and one clear error for whatever else is in a file."""

from __future__ import annotations

import dataclasses
import json
import os
import types
import typing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings

from spikegen.errors import ProgramError, ProgramFileError
from spikegen.program import (
    Conv,
    HostPart,
    ImageDiffusion,
    Input,
    Pipeline,
    Program,
    Standalone,
    TokenDiffusion,
    load,
    save,
    storage,
)
from spikegen.program.codec import _Encoder, decode, encode
from tests.program.examples import alone, changed, every_field, every_primitive, image_diffusion, token_diffusion
from tests.program.files import assert_same, refused
from tests.strategies import programs

PIPELINES = (alone(every_primitive()), alone(every_field()), image_diffusion(), token_diffusion())
PRIMITIVES = {**Program.NODE_TYPES, **Program.PROJECTION_TYPES}


# --- round trips


@pytest.mark.parametrize("kind", sorted(PRIMITIVES))
def test_round_trip_of_every_primitive(kind: str, path: Path) -> None:
    loaded = load(path).network("network")
    before, after = (
        [x for x in (p.input, *p.populations, *p.projections) if type(x).__name__ == kind]
        for p in (every_primitive(), loaded)
    )
    assert before  # the example has every primitive, also those that are added later
    assert_same(before, after)


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda pipeline: type(pipeline.host).__name__)
def test_round_trip_of_every_kind_of_host(pipeline: Pipeline, tmp_path: Path) -> None:
    save(pipeline, tmp_path / "p.h5")
    loaded = load(tmp_path / "p.h5")
    assert_same(pipeline, loaded)
    assert storage.digest(loaded) == storage.digest(pipeline)


def test_the_pipelines_have_every_kind_of_host() -> None:
    assert {type(pipeline.host) for pipeline in PIPELINES} == set(typing.get_args(HostPart))


@pytest.mark.parametrize("bits", [0, 5])
@pytest.mark.parametrize("streamed", [False, True])
def test_round_trip_of_inputs(bits: int, streamed: bool, tmp_path: Path) -> None:
    port = Input("in", (2, 3, 3), bits, 0.5, streamed=streamed)
    if bits:
        port = dataclasses.replace(port, low=np.array([-31, 0]), high=np.array([7, 31]))
    pipeline = alone(dataclasses.replace(every_primitive(), input=port))
    save(pipeline, tmp_path / "p.h5")
    assert_same(pipeline, load(tmp_path / "p.h5"))


@settings(max_examples=50)
@given(programs())
def test_round_trip_of_random_programs(program: Program) -> None:
    document, arrays = encode(alone(program))
    assert_same(alone(program), decode(document, arrays))


@settings(max_examples=20)
@given(program=programs())
def test_round_trip_of_random_programs_through_a_file(
    program: Program, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("random") / "pipeline.h5"
    save(alone(program), file)
    assert_same(alone(program), load(file))
    assert storage.digest(load(file).network("network")) == storage.digest(program)


def test_numbers_of_other_types_become_the_declared_ones(tmp_path: Path) -> None:
    program = changed(changed(every_primitive(), "out", scale=1), "a", vth=np.int64(5))
    save(alone(program), tmp_path / "p.h5")
    loaded = load(tmp_path / "p.h5").network("network")
    readout = next(loaded.readouts())
    assert type(readout.scale) is float
    assert storage.digest(loaded) == storage.digest(program)


def test_files_from_before_a_field_are_as_they_would_be_written_now() -> None:
    def fields(program: Program) -> dict[str, Any]:
        document, _ = encode(program)
        (found,) = (p for p in json.loads(document)["populations"] if p["name"] == "a")
        return dict(found)

    program = every_primitive()
    late = changed(program, "a", delays=np.ones((2, 3, 3), dtype=np.int32))
    assert "delays" not in fields(program)
    assert fields(late).keys() - fields(program).keys() == {"delays"}


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
            if isinstance(value, bool):
                other = not value
            elif value is None or (isinstance(value, np.ndarray) and not value.size):
                continue  # test_digest_depends_on_every_gain_and_tail
            elif isinstance(value, np.ndarray):
                other = value.copy()
                other.flat[0] = 77
            else:
                other = tuple(x + 1 for x in value) if isinstance(value, tuple) else value * 2 or value + type(value)(1)
            found = storage.digest(changed(program, node.name, **{field.name: other}))
            assert found not in seen, (node.name, field.name)
            seen.add(found)


def test_digest_depends_on_every_gain_and_tail() -> None:
    program = every_field()
    seen = {storage.digest(program), storage.digest(changed(program, "y", tail=None))}
    tail = list(program.readouts())[-1].tail
    assert tail is not None
    changes: list[tuple[str, dict[str, Any]]] = [("in>a", {"gains": gains}) for gains in ([], [3, -1], [4, -2])]
    for field in dataclasses.fields(tail):
        value = getattr(tail, field.name).copy()
        value.flat[-1] += 1
        changes.append(("y", {"tail": dataclasses.replace(tail, **{field.name: value})}))
    for name, change in changes:
        seen.add(storage.digest(changed(program, name, **change)))
    assert len(seen) == 2 + len(changes)


def test_digest_depends_on_every_field_of_a_pipeline() -> None:
    base = token_diffusion()
    assert isinstance(base.host, TokenDiffusion)
    host = base.host
    pipelines: list[Pipeline | Program] = [
        base,
        base.networks["denoiser"],
        dataclasses.replace(base, name="other"),
        dataclasses.replace(base, provenance={"a": "b"}),
        dataclasses.replace(base, host=Standalone()),
        dataclasses.replace(base, host=dataclasses.replace(host, steps=host.steps + 1)),
        dataclasses.replace(base, host=dataclasses.replace(host, pixel_scale=0.75)),
        dataclasses.replace(base, host=dataclasses.replace(host, codebook=host.codebook + 1)),
        dataclasses.replace(base, networks={**base.networks, "decoder": base.networks["encoder"]}),
        dataclasses.replace(base, networks={**base.networks, "other": base.networks["encoder"]}),
        *(dataclasses.replace(base, host=ImageDiffusion(*values)) for values in (("linear", True), ("linear", False))),
        dataclasses.replace(base, host=ImageDiffusion("cosine")),
    ]
    assert len({storage.digest(pipeline) for pipeline in pipelines}) == len(pipelines)


def test_digest_depends_on_the_shape_of_arrays() -> None:
    flat = changed(every_primitive(), "a>r", weight=np.ones((1, 2, 2, 1)))
    assert storage.digest(flat) != storage.digest(changed(flat, "a>r", weight=np.ones((1, 2, 1, 2))))


def test_digest_does_not_depend_on_the_order_of_names() -> None:
    base = token_diffusion()
    networks = {**base.networks, "b": base.networks["encoder"], "a": base.networks["decoder"]}
    one = dataclasses.replace(base, networks=networks, provenance={"x": "1", "y": "2"})
    other = dataclasses.replace(
        base, networks={name: networks[name] for name in reversed(networks)}, provenance={"y": "2", "x": "1"}
    )
    assert list(one.networks) != list(other.networks)
    assert storage.digest(one) == storage.digest(other)


def test_digest_is_that_of_the_file(path: Path) -> None:
    with h5py.File(path, "r") as file:
        assert file.attrs["digest"].decode() == storage.digest(alone(every_primitive()))


# --- writing


def test_save_replaces_and_leaves_nothing_else(path: Path) -> None:
    save(alone(changed(every_primitive(), "a", vth=7)), path)
    assert [p.name for p in path.parent.iterdir()] == ["pipeline.h5"]
    assert_same(load(path), alone(changed(every_primitive(), "a", vth=7)))


@pytest.mark.parametrize("call", ["os.replace", "os.fdopen", "os.chmod"])
def test_a_failing_write_keeps_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    before = path.read_bytes()

    def fail(handle: Any, *_: Any) -> None:
        if isinstance(handle, int):
            os.close(handle)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(call, fail)
        with pytest.raises(ProgramFileError, match="the pipeline file cannot be written: No space left on device"):
            save(alone(changed(every_primitive(), "a", vth=7)), path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["pipeline.h5"]


def test_a_program_against_the_rules_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=r"^network: a: vth is -1"):
        save(alone(changed(every_primitive(), "a", vth=-1)), tmp_path / "p.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"report": {"x": float("nan")}}, "Out of range float values are not JSON compliant"),
        ({"report": {"x": np.zeros(2)}}, r"Program.report\[x\] holds a ndarray, which JSON cannot"),
        ({"report": {"x": {3: 1}}}, r"Program.report\[x\] must be a mapping with text keys"),
        ({"timesteps": 2.0}, "Program.timesteps is 2.0, expected int"),
        ({"ann_macs": 2.5}, "Program.ann_macs is 2.5, expected int"),
    ],
)
def test_what_cannot_be_stored_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        save(alone(dataclasses.replace(every_primitive(), **changes)), tmp_path / "p.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"host": None}, "Pipeline.host is a NoneType, expected Standalone or ImageDiffusion or TokenDiffusion"),
        ({"host": ImageDiffusion(beta_schedule=3)}, "ImageDiffusion.beta_schedule is 3, expected str"),  # type: ignore[arg-type]
        ({"host": ImageDiffusion(clip_sample=1)}, "ImageDiffusion.clip_sample is 1, expected bool"),  # type: ignore[arg-type]
        ({"networks": {"network": 3}}, r"Pipeline.networks\[network\] is a int, expected Program"),
        ({"networks": []}, "Pipeline.networks must be a mapping with text keys"),
        ({"name": 3}, "Pipeline.name is 3, expected str"),
        ({"provenance": {"x": 3}}, r"Pipeline.provenance\[x\] is 3, expected str"),
    ],
)
def test_what_cannot_be_stored_of_a_pipeline_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        save(dataclasses.replace(alone(every_primitive()), **changes), tmp_path / "p.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["missing/p.h5", "file/p.h5", "folder", "n" * 300])
def test_folders_that_cannot_be_written(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ProgramFileError, match="the pipeline file cannot be written: "):
        save(alone(every_primitive()), tmp_path / where)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ProgramFileError, match="cannot be written: Permission denied"):
        save(alone(every_primitive()), tmp_path / "p.h5")


# --- damage


@pytest.mark.parametrize("name", ["missing.h5", ".", "n" * 300, "missing/p.h5"])
def test_missing_files(tmp_path: Path, name: str) -> None:
    refused(tmp_path / name)
    refused(tmp_path / "missing.h5", "there is no such pipeline file; make one with `spikegen export`")


@pytest.mark.parametrize("content", [b"", b"no HDF5", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04" + bytes(100)])
def test_files_of_other_kinds(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.h5").write_bytes(content)
    refused(tmp_path / "p.h5", "not a readable pipeline file (truncated or damaged)")


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
        assert_same(loaded, alone(every_primitive()))
        accepted += 1
    assert accepted < len(positions) / 10  # free space between HDF5's blocks


def test_conv_keeps_its_layout(tmp_path: Path) -> None:
    weight = np.asfortranarray(np.arange(18).reshape(2, 1, 3, 3)).astype(np.int8)
    program = changed(every_primitive(), "in>a", weight=weight)
    save(alone(program), tmp_path / "p.h5")
    found = load(tmp_path / "p.h5").network("network").projections[0]
    assert isinstance(found, Conv)
    np.testing.assert_array_equal(found.weight, weight)


def test_an_array_whose_type_is_an_alias() -> None:
    """With Python 3.12 and numpy 2.5 ``NDArray[int8]`` is not ``ndarray[...]``, but names it."""
    alias = types.SimpleNamespace(__value__=npt.NDArray)
    encoder = _Encoder()
    assert encoder.walk(np.zeros(2, np.int8), types.GenericAlias(alias, (np.int8,)), "x") == {"array": "000000"}  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        encoder.walk(np.zeros(2, np.int32), types.GenericAlias(alias, (np.int8,)), "x")  # type: ignore[arg-type]
