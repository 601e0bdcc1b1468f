"""Files whose document somebody rewrote and signed: each is one clear error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from spikegen.errors import ProgramError
from spikegen.program import Program, load, storage, validate_pipeline
from spikegen.program.codec import decode, encode
from tests.program.examples import alone, every_field, image_diffusion, token_diffusion
from tests.program.files import edit_document, refused, replace_dataset, rewritten
from tests.strategies import programs


def _set(*keys: Any, value: Any) -> Callable[[Any], None]:
    """Set the value at a path of keys."""

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
        (_set("projections", 0, "gains", value=[1, 1]), "Conv.gains must refer to an array of the file"),
        (_drop("projections", 0, "gains"), "Conv has fields"),
        (_drop("projections", 3, "gains"), "Dense has fields"),
        (_drop("populations", 2, "tail"), "Readout has fields"),
        (_set("populations", 2, "tail", value=7), "Readout.tail has type 7, expected SwishTail"),
        (_set("populations", 2, "tail", value={"type": "Lif"}), "Readout.tail has type 'Lif', expected SwishTail"),
        (_set("populations", 2, "tail", value={"type": "SwishTail"}), "SwishTail has fields [], expected ["),
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
            _set(
                "host",
                value={"type": "ImageDiffusion", "beta_schedule": "linear", "clip_sample": 1, "noise_power": None},
            ),
            "ImageDiffusion.clip_sample is 1, expected bool",
        ),
        (
            _set(
                "host",
                value={"type": "ImageDiffusion", "beta_schedule": "linear", "clip_sample": True, "noise_power": [0.5]},
            ),
            "ImageDiffusion.noise_power must refer to an array of the file",
        ),
        (
            _set("host", value={"type": "ImageDiffusion", "beta_schedule": "linear", "clip_sample": True}),
            "ImageDiffusion has fields ['beta_schedule', 'clip_sample'], expected",
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


def test_a_bias_for_every_one_of_very_many_timesteps(path: Path) -> None:
    """A bias of one number per channel stands for all timesteps, however many: it must not take memory for them."""

    def wide(file: h5py.File) -> None:
        readout = json.loads(file["document"][()].tobytes())["networks"]["network"]["populations"][2]
        for field in ("weights", "bias"):
            name = "arrays/" + readout[field]["array"]
            replace_dataset(name, data=np.zeros(1 << 20), compression="gzip")(file)

    rewritten(path, wide, sign=True)
    message = refused(path, "network: out: weights must be 2 finite numbers, one per timestep")
    assert "network: out: bias must be (2, 1) finite numbers, one per timestep and channel" in message


def test_all_broken_rules_of_a_file_are_reported(path: Path) -> None:
    def change(document: Any) -> None:
        population = document["networks"]["network"]["populations"][0]
        population["vth"] = population["du"] = -1

    edit_document(path, change)
    refused(path, "these rules are broken:\n  - network: a: vth is -1, allowed 0..131071\n  - network: a: du is -1")


@settings(max_examples=50)
@given(program=programs(max_populations=3), data=st.data())
def test_no_document_makes_any_other_error(program: Program, data: st.DataObject) -> None:
    """Replace one random value of the document by another."""
    pipeline = data.draw(st.sampled_from((alone(program), alone(every_field()), image_diffusion(), token_diffusion())))
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
