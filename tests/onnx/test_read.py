"""Model files of the exporter, and of tools that optimise them, against the simulator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from spikegen.exporters.onnx import ModelFile, input_model, network_model, open_model, readout_model, write_models
from spikegen.exporters.onnx import model_file as files
from spikegen.exporters.onnx.operators import OPERATORS
from spikegen.program import Input, Pipeline, Program, Readout
from spikegen.verification.model_file import FileResult, verify_model
from tests.lava.networks import everything
from tests.onnx import test_host
from tests.onnx.comparison import without_processes
from tests.onnx.test_model import leaky, narrow, summed
from tests.onnx.test_random_programs import nodes
from tests.program.examples import alone, every_field
from tests.runtime.programs import tiny, tiny_tokens


def with_tail() -> Program:
    return test_host.network(2, test_host.readout(2, test_host.swish_tail(2, (3, 3), (1, 1))))


def checked(path: Path, pipeline: Pipeline, images: int = 3) -> FileResult:
    """What the comparison of ``path`` on random inputs finds."""
    model = open_model(path, pipeline)
    rng, port = np.random.default_rng(0), model.program.input
    shape = (model.program.timesteps, *port.shape) if port.streamed else port.shape
    steps = np.arange(images) % model.program.conditioning.steps
    return verify_model(model, rng.normal(size=(images, *shape)) * 20 * port.scale, steps)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    without_processes(monkeypatch)


def test_every_file_of_a_pipeline_equals_the_simulator(tmp_path: Path, here: None) -> None:
    pipeline = tiny_tokens()
    for path in write_models(pipeline, tmp_path / "t.onnx", "messages"):
        found = checked(path, pipeline)
        assert found.equal
        assert found.file == str(path)
        assert [found.network, found.kind] == [*path.stem.split("."), "network"][1:3]
        assert all(0 < row.nonzero <= row.values for row in found.outputs), found
    names = {row.output for row in checked(tmp_path / "t.decoder.onnx", pipeline).outputs}
    assert names == {"messages/generator", "messages/up", "readout/pixel"}


PROGRAMS: dict[str, Callable[[], Program]] = {
    "every field": every_field,
    "streamed": lambda: everything(4, Input("in", (2, 6, 4), 5, 1.0, streamed=True)),
    "a tail": with_tail,
    "delays": lambda: leaky(5, [[[0, 1], [3, 5]]]),
    "a Scan": lambda: leaky(40),
    "a peak": lambda: narrow("lif")[0],
    "the peak of a relay": lambda: narrow("relay")[0],
    "the peak of a readout": lambda: narrow("readout")[0],
}


@pytest.mark.parametrize("outputs", ["readouts", "events"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_kind_of_network(name: str, outputs: str, tmp_path: Path, here: None) -> None:
    program = PROGRAMS[name]()
    senders = [p for p in program.populations if not isinstance(p, Readout)]
    pipeline = alone(program)
    for path in write_models(pipeline, tmp_path / "n.onnx", outputs):
        found = checked(path, pipeline)
        assert found.equal, found
        assert any(row.nonzero for row in found.outputs)
    kinds = {row.output.split("/")[0] for row in checked(tmp_path / "n.onnx", pipeline).outputs}
    expected = {"readout": True, "events": outputs == "events" and bool(senders), "peak": "peak" in name}
    assert kinds == {kind for kind, there in expected.items() if there}


@pytest.mark.parametrize("level", ["ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED"])
def test_a_file_that_onnx_runtime_optimised_is_equal_too(level: str, tmp_path: Path, here: None) -> None:
    """It has other nodes and tensors, names domains of which it has no node, and may call the free dimension else."""
    pipeline = alone(every_field())
    written = write_models(pipeline, tmp_path / "a.onnx", "events")[0]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(tmp_path / "b.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(written), options, providers=["CPUExecutionProvider"])
    before, after = onnx.load(written), onnx.load(tmp_path / "b.onnx")
    assert len(after.graph.node) < len(before.graph.node)
    assert len(after.opset_import) > 1
    for port in after.graph.output:
        port.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(after, tmp_path / "b.onnx")
    assert checked(tmp_path / "b.onnx", pipeline).equal


@pytest.mark.parametrize(("part", "kind"), [("", "INT8"), (".input", "DOUBLE"), (".readout", "DOUBLE")])
def test_a_changed_number_is_a_difference(part: str, kind: str, tmp_path: Path, here: None) -> None:
    pipeline = tiny()
    write_models(pipeline, tmp_path / "a.onnx", "messages")
    path = tmp_path / f"a{part}.onnx"
    model = onnx.load(path)
    tensors = [t for t in model.graph.initializer if t.data_type == getattr(onnx.TensorProto, kind)]
    tensor = max(reversed(tensors), key=lambda tensor: len(tensor.raw_data))
    array = onnx.numpy_helper.to_array(tensor).copy()
    array.flat[-1] += 1
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    onnx.save(model, path)
    found = checked(path, pipeline)
    assert not found.equal
    assert found.outputs[-1].differing > 0


@pytest.mark.parametrize("part", ["input", "readout"])
def test_one_bit_is_a_difference(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: None) -> None:
    pipeline = tiny()
    write_models(pipeline, tmp_path / "a.onnx")
    run = files.ModelFile.run

    def otherwise(self: ModelFile, feeds: Mapping[str, npt.NDArray[Any]]) -> files.Arrays:
        found = run(self, feeds)
        (value,) = found.values()
        value.reshape(-1).view(np.uint8)[0] ^= 1
        return found

    monkeypatch.setattr(files.ModelFile, "run", otherwise)
    (row,) = checked(tmp_path / f"a.{part}.onnx", pipeline).outputs
    assert (row.values, row.differing) == (3 * 16, 3)  # of three steps


def test_the_process_with_limits_does_the_same(tmp_path: Path) -> None:
    pipeline = tiny()
    write_models(pipeline, tmp_path / "a.onnx", "messages")
    model = open_model(tmp_path / "a.onnx", pipeline)
    found = verify_model(model, np.random.default_rng(0).normal(size=(2, 1, 4, 4)), np.zeros(2, np.int64))
    assert found.equal
    assert [row.output for row in found.outputs] == ["messages/hidden", "readout/noise"]
    assert all(row.nonzero for row in found.outputs)


def test_the_exporter_emits_every_operator_of_the_table_and_no_other() -> None:
    networks = [everything(4), narrow("lif")[0], summed(1 << 20, 2), leaky(5, [[[0, 1], [3, 5]]])]
    networks.append(everything(4, Input("in", (2, 6, 4), 5, 1.0, streamed=True)))
    models = [network_model(program, kind) for program in networks for kind in ("events", "messages")]
    models += [network_model(everything(4), unroll=False), input_model(networks[0]), readout_model(with_tail())]
    assert {node.op_type for model in models for node in nodes(model.graph)} == OPERATORS
