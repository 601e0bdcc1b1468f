"""`spikegen verify --onnx`: model files that someone kept, against the pipeline that they were exported from."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import Result

from spikegen.errors import ConfigError
from spikegen.exporters.onnx import OnnxTarget, model_file
from spikegen.program import load, save
from spikegen.program.storage import digest
from tests.cli.commands import refuse, run, succeed
from tests.cli.test_run import network
from tests.onnx.comparison import without_processes
from tests.program.examples import alone, every_field

VERIFY = ("verify", "net.h5", "--no-slayer", "--no-lava", "--no-onnx")


@pytest.fixture
def written(working_folder: Path) -> Path:
    save(alone(network(streamed=True)), "net.h5")
    succeed("export", "net.h5", "--to", "onnx", "-o", "n.onnx", "--outputs", "events")
    return Path("n.onnx")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    without_processes(monkeypatch)


def found(result: Result) -> list[tuple[str, str, dict[str, int]]]:
    files = json.loads(result.stdout)["files"]
    assert all(row["values"] >= row["nonzero"] > 0 for file in files for row in file["outputs"])
    return [(f["file"], f["kind"], {row["output"]: row["differing"] for row in f["outputs"]}) for f in files]


def test_the_files_of_the_exporter_are_equal(written: Path, here: None) -> None:
    files = ("n.onnx", "n.input.onnx", "n.readout.onnx")
    result = succeed(*VERIFY, *(word for file in files for word in ("--onnx", file)), "--json")
    assert found(result) == [
        ("n.onnx", "network", {"events/a": 0, "readout/out": 0}),
        ("n.input.onnx", "input", {"frames": 0}),
        ("n.readout.onnx", "readout", {"value/out": 0}),
    ]
    shown = succeed(*VERIFY, "--onnx", "n.readout.onnx").stdout
    assert "n.readout.onnx, the host's part behind the network (network): in ONNX Runtime it is equal to the" in shown


def test_a_changed_weight_is_found(written: Path) -> None:
    """In the process with limits."""
    model = onnx.load(written)
    (tensor,) = (t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8 and t.dims[0] != t.dims[1])
    array = onnx.numpy_helper.to_array(tensor).copy()
    array[2] += 20
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    onnx.save(model, written)
    result = run(*VERIFY, "--onnx", written, "--json")
    assert result.exit_code == 1
    ((_, _, differing),) = found(result)
    assert all(differing.values()), differing
    assert not json.loads(result.stdout)["equal"]


def test_what_differs_is_said(written: Path, monkeypatch: pytest.MonkeyPatch, here: None) -> None:
    right = model_file.ModelFile.run

    def wrong(self: model_file.ModelFile, feeds: dict[str, Any]) -> model_file.Arrays:
        values = right(self, feeds)
        values["readout/out"][0, 1, 2, 3, 3] += 1
        return values

    monkeypatch.setattr(model_file.ModelFile, "run", wrong)
    result = run("verify", "net.h5", "--no-lava", "--no-onnx", "--onnx", written)
    assert result.exit_code == 1
    assert "n.onnx, the network (network): in ONNX Runtime it is NOT EQUAL to the simulator\n" in result.stdout
    assert "simulator and SLAYER are equal" in result.stdout
    monkeypatch.setattr(model_file.ModelFile, "run", right)
    assert run(*VERIFY, "--onnx", written).exit_code == 0


def test_neither_slayer_nor_lava_is_needed(written: Path, monkeypatch: pytest.MonkeyPatch, here: None) -> None:
    monkeypatch.setitem(sys.modules, "lava", None)
    alone = ("verify", "net.h5", "--no-slayer", "--no-lava")
    found = json.loads(succeed(*alone, "--json").stdout)
    assert (found["targets"], found["equal"]) == (["ONNX Runtime"], True)
    shown = succeed(*alone, "--no-onnx", "--onnx", written).stdout
    assert "n.onnx, the network (network): in ONNX Runtime it is equal to the simulator\n" in shown
    assert "SLAYER: not compared: --no-slayer\n" in shown
    assert "counts" not in shown
    refuse(2, "nothing is left to compare with the simulator", *alone, "--no-onnx")

    def refusing(*_: Any, **__: Any) -> None:
        raise ConfigError("out: too large a sum")

    monkeypatch.setattr(OnnxTarget, "__init__", refusing)
    refuse(1, "ONNX Runtime: not compared: out: too large a sum", *alone)


def test_bad_files_are_refused_before_the_work(written: Path, here: None) -> None:
    written.with_name("half.onnx").write_bytes(written.read_bytes()[:2000])
    refuse(
        1, "half.onnx: not an ONNX file, or truncated or damaged", *VERIFY, "--onnx", "n.onnx", "--onnx", "half.onnx"
    )
    refuse(1, "none.onnx: there is no such ONNX file", *VERIFY, "--onnx", "none.onnx")
    refuse(1, "net.h5: not an ONNX file", *VERIFY, "--onnx", "net.h5")
    save(alone(every_field()), "other.h5")
    for pipeline in ("net.h5", "other.h5"):
        message = digest(load(pipeline).network("network"))
        refuse(1, message, "verify", "other.h5", *VERIFY[2:], "--onnx", "n.onnx")


def test_without_the_packages_one_error_names_the_extra(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("spikegen.exporters.onnx")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    refuse(1, "pip install 'spikegen[onnx]'", *VERIFY, "--onnx", "n.onnx")
