"""ONNX files that are damaged, hostile, or of something else: one clear error each, in bounded time and memory."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from spikegen.errors import ExchangeError
from spikegen.exporters import bounded
from spikegen.exporters.onnx import model_file as files
from spikegen.exporters.onnx import open_model, write_models
from spikegen.exporters.onnx import read as reading
from spikegen.program import Pipeline
from spikegen.program.storage import digest
from tests.onnx.comparison import without_processes
from tests.onnx.test_model import leaky
from tests.onnx.test_read import checked
from tests.program.examples import alone
from tests.runtime.programs import tiny

Change = Callable[[ModelProto], Any]
SECONDS = 5.0


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    without_processes(monkeypatch)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("written")
    return write_models(tiny(), folder / "a.onnx", "events")[0].read_bytes()


def refused(path: Path, pipeline: Pipeline) -> str:
    """The error, which must be one line that names the file, and come soon."""
    started = time.monotonic()
    with pytest.raises(ExchangeError) as error:
        checked(path, pipeline)
    assert time.monotonic() - started < SECONDS
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert text.count(str(path)) == 1
    assert text.isprintable()
    assert len(text) < 1000
    return text.removeprefix(f"{path}: ")


def node(kind: str, given: list[str], into: list[str], name: str = "", **attributes: Any) -> NodeProto:
    return helper.make_node(kind, given, into, name=name or into[0], **attributes)


def first(model: ModelProto, kind: str) -> NodeProto:
    found: NodeProto = next(node for node in model.graph.node if node.op_type == kind)
    return found


def added(*nodes: NodeProto, constants: tuple[TensorProto, ...] = ()) -> Change:
    def change(model: ModelProto) -> None:
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(constants)

    return change


def constant(name: str, *values: int) -> TensorProto:
    return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)


def cycle(model: ModelProto) -> None:
    conv = first(model, "Conv")
    conv.input[0] = first(model, "Where").output[0]


def external(model: ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def declares(*dims: int) -> Change:
    def change(model: ModelProto) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)

    return change


def port(name: str, elem_type: int = 0, *sizes: int | str) -> Change:
    def change(model: ModelProto) -> None:
        ports = [*model.graph.input, *model.graph.output]
        (found,) = (port for port in ports if port.name == name)
        found.CopyFrom(helper.make_tensor_value_info(name, elem_type, sizes))

    return change


def property_of(key: str, value: str | None) -> Change:
    def change(model: ModelProto) -> None:
        (entry,) = (entry for entry in model.metadata_props if entry.key == f"spikegen.{key}")
        model.metadata_props.remove(entry)
        if value is not None:
            model.metadata_props.add(key=f"spikegen.{key}", value=value)

    return change


def scan(body: GraphProto) -> Change:
    return added(node("Scan", ["frames"], ["s"], body=body, num_scan_inputs=1))


def body(*nodes: NodeProto, constants: tuple[TensorProto, ...] = ()) -> GraphProto:
    ports = [helper.make_tensor_value_info(name, TensorProto.INT32, None) for name in ("x", "y")]
    return helper.make_graph(nodes, "body", ports[:1], ports[1:], constants)


def sparse(model: ModelProto) -> None:
    values = helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1.0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, constant("i", 0), [1 << 40]))


def functions(model: ModelProto) -> None:
    model.functions.append(helper.make_function("d", "f", ["x"], ["y"], [], [helper.make_opsetid("", 17)]))


def other_place(tensor: TensorProto) -> TensorProto:
    tensor.data_location = TensorProto.EXTERNAL
    return tensor


SCAN = node("Scan", ["x"], ["y"], "inner", body=body(node("Identity", ["x"], ["y"])), num_scan_inputs=1)
CHANGES: dict[str, tuple[Change, str]] = {
    "an unknown operator": (
        added(node("NonZero", ["frames"], ["z"])),
        "node z (NonZero): no operator that spikegen writes",
    ),
    "no operator at all": (added(node("Spike", ["frames"], ["z"])), "node z (Spike): no operator that"),
    "a custom domain": (
        added(node("Add", ["step", "step"], ["z"], domain="com.microsoft")),
        "node z (Add): its domain is com.microsoft; operators of ONNX itself are read only",
    ),
    "a graph where there should be none": (
        added(node("Identity", ["step"], ["z"], body=body())),
        "node z (Identity): its attribute body is neither numbers nor a text",
    ),
    "a tensor in an attribute": (
        added(node("Identity", ["step"], ["z"], value=constant("c", 1))),
        "node z (Identity): its attribute value is neither numbers nor a text",
    ),
    "a Scan in a Scan": (scan(body(SCAN)), "node s (Scan): a Scan in a Scan, which is not read"),
    "an unknown operator in a Scan": (
        scan(body(node("If", ["x"], ["y"], "inner"))),
        "node inner (If): no operator that spikegen writes",
    ),
    "another file in a Scan": (
        scan(body(node("Identity", ["x"], ["y"]), constants=(other_place(constant("c", 1)),))),
        "tensor c: its data is in another file",
    ),
    "a cycle": (cycle, "which comes from it or from a later node: the graph has a cycle, or is not in order"),
    "a node that reads itself": (
        added(node("Add", ["z", "step"], ["z"])),
        "node z (Add): it reads z, which comes from it or from a later node",
    ),
    "a value from nowhere": (
        added(node("Add", ["nothing", "step"], ["z"])),
        "node z (Add): it reads nothing, which nothing gives",
    ),
    "a value of the body of a Scan": (
        lambda model: (scan(body(node("Identity", ["x"], ["y"])))(model), added(node("Neg", ["x"], ["z"]))(model)),
        "node z (Neg): it reads x, which nothing gives",
    ),
    "a value twice": (added(node("Neg", ["step"], ["frames"])), "it gives frames, which is there already or no name"),
    "a default for an input": (
        added(constants=(constant("step", 1),)),
        "the graph: it gives step, which is there already or no name",
    ),
    "an output from nowhere": (
        lambda model: model.graph.output.add(name="z"),
        "the graph: nothing gives its output z",
    ),
    "2^60 bytes": (declares(1 << 20, 1 << 20, 1 << 17), f"takes {1 << 60} bytes, 40 are stored"),
    "2^120 bytes": (declares(1 << 60, 1 << 60), f"takes {1 << 123} bytes, 40 are stored"),
    "a negative size": (declares(-1, -5), "it has 2 dimensions, limit is 8, none below 0"),
    "many dimensions": (declares(*[1] * 1000), "it has 1000 dimensions, limit is 8"),
    "more bytes than declared": (declares(2, 2), "shape (2, 2) takes 32 bytes, 40 are stored"),
    "a tensor of texts": (
        added(constants=(TensorProto(name="t", data_type=TensorProto.STRING, dims=[1], string_data=[b"x"]),)),
        "tensor t: its type is number 8, which spikegen does not write",
    ),
    "data in another file": (external, "its data is in another file, which is not read"),
    "a sparse tensor": (sparse, "the graph: it has sparse tensors, which are not read"),
    "functions": (functions, "it has functions or training information"),
    "training": (lambda model: model.training_info.add(), "it has functions or training information"),
    "another opset": (lambda model: setattr(model.opset_import[0], "version", 18), "its opset is 18, 17 is read"),
    "no opset of ONNX": (lambda model: setattr(model.opset_import[0], "domain", "a"), "its opset is missing, 17"),
    "shapes that do not fit": (
        added(node("Add", ["two", "three"], ["z"]), constants=(constant("two", 1, 2), constant("three", 1, 2, 3))),
        "(op_type:Add, node name: z): [ShapeInferenceError] Incompatible dimensions",
    ),
    "an attribute twice": (
        lambda model: first(model, "Conv").attribute.append(first(model, "Conv").attribute[0]),
        "not a valid ONNX model: Attribute 'dilations' appeared multiple times",
    ),
    "a type that does not fit": (
        added(node("Add", ["frames", "step"], ["z"])),
        "not a valid ONNX model: [ShapeInferenceError] (op_type:Add, node name: z): B has inconsistent type",
    ),
    "an attribute that the operator has not": (
        added(node("Neg", ["step"], ["z"], speed=3)),
        "not a valid ONNX model: Unrecognized attribute: speed for operator Neg",
    ),
    "another input shape": (
        port("frames", TensorProto.INT32, "N", 1, 4, 5),
        "its frames is int32 (N, 1, 4, 5); the network model of the denoiser has int32 (N, 1, 4, 4)",
    ),
    "a fixed number of images": (
        port("frames", TensorProto.INT32, 1, 1, 4, 4),
        "its frames is int32 (1, 1, 4, 4); the",
    ),
    "another input type": (
        port("frames", TensorProto.INT64, "N", 1, 4, 4),
        "its frames is int64 (N, 1, 4, 4); the network model of the denoiser has int32 (N, 1, 4, 4)",
    ),
    "another output type": (
        port("readout/noise", TensorProto.INT64, "N", 4, 1, 4, 4),
        "[TypeInferenceError] Inferred elem type differs",
    ),
    "another output shape": (port("readout/noise", TensorProto.INT32, "N", 5, 1, 4, 4), "not a valid ONNX model"),
    "an output more": (
        lambda model: model.graph.output.append(helper.make_tensor_value_info("step", TensorProto.INT64, [])),
        "its outputs are events/hidden, readout/noise, step; the network model of the denoiser has events/hidden,",
    ),
    "an output less": (
        lambda model: model.graph.output.pop(),
        "its outputs are events/hidden; the network model of the denoiser has events/hidden, readout/noise",
    ),
    "no digest": (property_of("digest", None), "its metadata hold no spikegen.digest: spikegen did not write it"),
    "not a digest": (property_of("digest", "\n\x1b[31m"), "its metadata hold no spikegen.digest"),
    "the digest of another": (
        property_of("digest", "0" * 64),
        f"its network has the digest {'0' * 64}, tiny has {digest(tiny().network('denoiser'))} (denoiser)",
    ),
    "no kind": (property_of("kind", None), "its spikegen.kind is '', it must be one of network, input, readout"),
    "another kind": (
        property_of("kind", "a\x1b\n" + "b" * 999),
        f"its spikegen.kind is 'a??{'b' * 77}...', it must be",
    ),
    "the readout part called network": (
        property_of("kind", "readout"),
        "its inputs are frames, step; the readout model of the denoiser has readout/noise",
    ),
    "names as no terminal shows them": (
        added(node("\x1b[2J\n" * 50, ["step"], ["z"])),
        "?[2J??[2J?",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_one_clear_error(name: str, tmp_path: Path, written: bytes, here: None) -> None:
    change, message = CHANGES[name]
    model = ModelProto.FromString(written)
    change(model)
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    assert message in refused(path, tiny())


def test_no_length_of_a_file_but_the_whole_is_read(tmp_path: Path, written: bytes, here: None) -> None:
    path = tmp_path / "a.onnx"
    lengths = {0, 1, 2, 10, len(written) // 2, *range(len(written) - 600, len(written), 37), len(written) - 1}
    for length in sorted(lengths):
        path.write_bytes(written[:length])
        message = refused(path, tiny())
        assert "truncated" in message or "it has no graph" in message or "spikegen." in message or length > 600


@pytest.mark.parametrize("content", [b"Not ONNX.\n" * 99, bytes(1000), b"\x89HDF\r\n\x1a\n" + bytes(99), b"\xff" * 999])
def test_what_is_not_onnx(content: bytes, tmp_path: Path, here: None) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    assert refused(path, tiny()).startswith("not an ONNX file, or truncated")


def test_what_is_no_file(tmp_path: Path, here: None) -> None:
    assert refused(tmp_path, tiny()) == "there is no such ONNX file"
    assert refused(tmp_path / "none.onnx", tiny()) == "there is no such ONNX file"
    assert refused(Path("/dev/zero"), tiny()) == "there is no such ONNX file"


def test_damaged_bytes_are_an_error_or_change_numbers(tmp_path: Path, written: bytes, here: None) -> None:
    path, rng, outcomes = tmp_path / "a.onnx", np.random.default_rng(0), set()
    for count in [1] * 25 + [16] * 10:
        damaged = np.frombuffer(written, np.uint8).copy()
        damaged[rng.integers(0, len(damaged), count)] ^= 1 << rng.integers(0, 8, count, dtype=np.uint8)
        path.write_bytes(damaged.tobytes())
        with contextlib.suppress(ExchangeError):
            open_model(path, tiny())
            outcomes.add("read")
            continue
        outcomes.add("refused")
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize(
    ("limit", "what"),
    [("NODES_MAX", "nodes"), ("VALUES_MAX", "inputs and outputs of nodes"), ("TENSORS_MAX", "tensors")],
)
def test_sizes_are_limited(
    limit: str, what: str, tmp_path: Path, written: bytes, monkeypatch: pytest.MonkeyPatch, here: None
) -> None:
    monkeypatch.setattr(reading, limit, 3)
    path = tmp_path / "a.onnx"
    path.write_bytes(written)
    assert refused(path, tiny()) == f"the graph: more than 3 {what}"


@pytest.mark.parametrize(
    ("text", "changed", "message"),
    [
        (b"events/hidden", b"events/h\xffdden", "it gives events/h\ufffddden, which is there already or no name"),
        (b"frames", b"frame\xff", "the graph: it gives frame\ufffd, which"),
        (b"spikegen.kind", b"spikegen.kin\xff", "its spikegen.kind is ''"),
        (b"Where", b"Wher\xff", "(Wher\ufffd): no operator that spikegen writes"),
    ],
)
def test_names_that_are_no_text(
    text: bytes, changed: bytes, message: str, tmp_path: Path, written: bytes, here: None
) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(written.replace(text, changed))
    assert message in refused(path, tiny())


def test_the_model_of_another_network(tmp_path: Path, written: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(written)
    other = alone(leaky(40))
    message = refused(tmp_path / "a.onnx", other)
    assert digest(tiny().network("denoiser")) in message
    assert digest(other.network("network")) in message


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert refused(path, tiny()) == f"it has {1 << 40} bytes, limit is {1 << 29}"


def bomb(model: ModelProto, *size: int) -> None:
    """The readout takes the largest of as many zeros as ``size`` says."""
    (give,) = (n for n in model.graph.node if n.output[0] == "readout/noise")
    give.output[0] = "plain"
    model.graph.initializer.append(constant("size", *size))
    model.graph.node.append(node("Expand", ["step", "size"], ["huge"]))
    model.graph.node.append(node("ReduceMax", ["huge"], ["large"], keepdims=0))
    model.graph.node.append(node("Cast", ["large"], ["int32"], to=TensorProto.INT32))
    model.graph.node.append(node("Sub", ["int32", "int32"], ["zero"]))
    model.graph.node.append(node("Add", ["plain", "zero"], ["readout/noise"]))


@pytest.mark.parametrize("size", [(1 << 31,), (1 << 30, 1 << 30, 1 << 30)])
def test_a_bomb_is_one_error(size: tuple[int, ...], tmp_path: Path, written: bytes) -> None:
    model = ModelProto.FromString(written)
    bomb(model, *size)
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    assert "ONNX Runtime does not run it within the limits: " in refused(path, tiny())


def test_a_process_that_dies_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match=r"a\.onnx: damaged: the process reading it ended with 1$"):
        bounded.run_bounded(os.abort, tmp_path / "a.onnx")  # which takes no path


def test_the_bomb_itself_is_right(tmp_path: Path, written: bytes, here: None) -> None:
    model = ModelProto.FromString(written)
    bomb(model, 1000)
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    assert checked(path, tiny()).equal


def test_an_output_of_another_size_than_declared(tmp_path: Path, written: bytes, here: None) -> None:
    model = ModelProto.FromString(written)
    (give,) = (n for n in model.graph.node if n.output[0] == "readout/noise")
    give.output[0] = "plain"
    model.graph.node.append(node("Concat", ["plain"] * 3, ["readout/noise"], axis=0))
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    message = refused(path, tiny())
    assert message == "its readout/noise came out as int32 (3, 4, 1, 4, 4), declared is int32 (N, 4, 1, 4, 4)"


def test_what_takes_too_long_is_ended(tmp_path: Path, written: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(written)
    with monkeypatch.context() as patch:
        patch.setattr("spikegen.exporters.bounded.SECONDS_MAX", 0.01)
        assert refused(path, tiny()) == "damaged: reading it took more than 0.01 seconds"
    with monkeypatch.context() as patch:
        patch.setattr(reading, "run_bounded", lambda work, path: work(path))
        patch.setattr(files, "SECONDS_MAX", 0.01)
        assert refused(path, tiny()) == "damaged: running it took more than 0.01 seconds"
