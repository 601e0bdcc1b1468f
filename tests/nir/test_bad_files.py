"""Files that are damaged, hostile, or say what a Program cannot: one clear error each, in bounded time and memory."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest

from spikegen.errors import ExchangeError
from spikegen.exporters import bounded
from spikegen.exporters.nir.structure import read_checked, read_structure
from spikegen.exporters.nir.walk import walk
from tests.nir.graphs import DT, EXAMPLES, T, chain, conv, fires, residual, weights, written

Change = Callable[[h5py.File], Any]


def replace(name: str, **dataset: Any) -> Change:
    def change(file: h5py.File) -> None:
        del file[f"node/nodes/{name}"]
        file.create_dataset(f"node/nodes/{name}", **dataset)

    return change


def another_type(file: h5py.File) -> None:
    file["node/nodes/n1/type"][()] = "Hodgkin"


def link(target: Any) -> Change:
    def change(file: h5py.File) -> None:
        del file["node/nodes/n0/weight"]
        file["node/nodes/n0/weight"] = target

    return change


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((2, 2, 3, 3), np.float64)
    layout[:] = h5py.VirtualSource("/etc/passwd", "w", (2, 2, 3, 3))
    del file["node/nodes/n0/weight"]
    file.create_virtual_dataset("node/nodes/n0/weight", layout)


def edges(*pairs: tuple[str, str]) -> Change:
    def change(file: h5py.File) -> None:
        del file["node/edges"]
        file["node/edges"] = list(pairs)

    return change


def inside_itself(file: h5py.File) -> None:
    del file["node/nodes/n1"]
    file["node/nodes/n1"] = file["node"]


HUGE = 10**12
GZIP = {"chunks": (1 << 16,), "compression": "gzip"}
DAMAGED: dict[str, tuple[Change, str]] = {
    "unknown node": (another_type, "n1 (Hodgkin): unknown primitive"),
    "soft link": (link(h5py.SoftLink("/node/nodes/n0/bias")), "n0: weight is not a plain dataset of this file"),
    "external link": (link(h5py.ExternalLink("/etc/passwd", "/x")), "n0: weight is not a plain dataset of this file"),
    "virtual": (virtual, "n0: weight is stored in another file"),
    "huge without storage": (
        replace("n0/weight", shape=(HUGE,), dtype="f8"),
        f"n0: weight declares {8 * HUGE} bytes, limit is",
    ),
    "huge in chunks": (
        replace("n0/weight", shape=(HUGE,), dtype="f8", **GZIP),
        f"n0: weight declares {8 * HUGE} bytes",
    ),
    "more than is stored": (
        replace("n0/weight", shape=(1 << 25,), dtype="f8", **GZIP),
        f"n0: weight declares {1 << 28} bytes and stores 0",
    ),
    "huge edges": (
        lambda file: (
            file.__delitem__("node/edges"),
            file.create_dataset("node/edges", (HUGE, 2), h5py.string_dtype()),
        ),
        f"the graph: {HUGE} edges, limit is 16384",
    ),
    "numbers for edges": (
        lambda file: (file.__delitem__("node/edges"), file.create_dataset("node/edges", data=[[0, 1]])),
        "the graph: edges must be pairs of names, not int64 of shape (1, 2)",
    ),
    "long text": (replace("n1/type", data="I" * 10_000), "n1: type: a text of 10000 bytes, limit is 256"),
    "many parameters": (
        lambda file: [file.create_dataset(f"node/nodes/n1/p{i}", data=0) for i in range(40)],
        "n1: 44 parameters, limit is 32",
    ),
    "compound": (replace("n0/weight", data=np.zeros(3, [("a", "f8")])), "n0: weight has type"),
    "NaN": (replace("n0/weight", data=np.full((2, 2, 3, 3), np.nan)), "n0: weight has NaN or infinite values"),
    "a graph inside itself": (inside_itself, "are nested more than 8 deep"),
    "an edge to nothing": (
        edges(("input", "n0"), ("n0", "gone")),
        "the graph: the edge n0 -> gone names no node: gone",
    ),
    "not a graph": (lambda file: file["node/type"].__setitem__((), "Linear"), "type is 'Linear', expected NIRGraph"),
    "no group node": (lambda file: file.__delitem__("node"), "not a NIR file (it has no group node)"),
    "wrong rank": (replace("n0/weight", data=np.ones((2, 2, 3))), "n0: weight has shape (2, 2, 3) and bias (3,)"),
    "wrong channels": (replace("n0/weight", data=np.ones((3, 5, 3, 3))), "n0: its input has 2 channels, weight"),
    "wrong shape of a neuron": (
        replace("n1/r", data=np.ones((2, 4))),
        "n1 (IF): r has shape (2, 4), its input (3, 4, 4)",
    ),
    "wrong shape at the end": (
        replace("output/shape", data=[2, 5, 4]),
        "output (Output): shape is (2, 5, 4), its input",
    ),
    "wrong declared size": (replace("n0/input_shape", data=[5, 4]), "n0: input_shape is (5, 4), its input has shape"),
    "huge padding": (replace("n0/padding", data=[10**9, 1]), "n0: padding is [1000000000.0, 1.0], limit is"),
    "padding that makes a huge output": (replace("n0/padding", data=[10**6, 10**6]), "n0: with it the graph has"),
    "half a stride": (replace("n0/stride", data=[0.5, 1.0]), "n0: stride is [0.5, 1.0], expected 2 whole numbers"),
    "stride 0": (replace("n0/stride", data=[0, 1]), "n0: stride, dilation and groups must be at least 1"),
    "text for numbers": (replace("n0/stride", data="same"), "n0: stride is the text 'same', expected numbers"),
    "a missing parameter": (lambda file: file.__delitem__("node/nodes/n1/r"), "n1 (IF): it has no r"),
    "an unknown parameter": (
        lambda file: file.create_dataset("node/nodes/n1/noise", data=1.0),
        "n1 (IF): noise is no parameter of IF",
    ),
    "a huge input": (replace("input/shape", data=[2, 10**6, 10**6]), "a value has shape (2, 1000000, 1000000)"),
    "an input of nothing": (replace("input/shape", data=[2, 0, 4]), "a value has shape (2, 0, 4)"),
}


def refused(path: Path) -> str:
    with pytest.raises(ExchangeError) as error:
        walk(read_structure(path), T, DT)
    return str(error.value)


@pytest.mark.parametrize("name", DAMAGED)
def test_one_clear_error(name: str, tmp_path: Path) -> None:
    path = written(EXAMPLES["IF"](), tmp_path / "a.nir")
    change, message = DAMAGED[name]
    with h5py.File(path, "a") as file:
        change(file)
    started = time.monotonic()
    assert message in refused(path)
    assert time.monotonic() - started < 5.0


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file(share: float, tmp_path: Path) -> None:
    path = written(EXAMPLES["IF"](), tmp_path / "a.nir")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ExchangeError, match=r"a\.nir: not a readable NIR file \(truncated or damaged\)"):
        read_checked(path)


def test_damaged_bytes_are_an_error_or_change_nothing_that_matters(tmp_path: Path) -> None:
    """The check in a process of its own is what bounds the time: HDF5 itself may loop on a damaged heap."""
    path = written(EXAMPLES["IF"](), tmp_path / "a.nir")
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(12):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[rng.integers(0, len(damaged), 64)] = rng.integers(0, 256, 64)
        path.write_bytes(damaged.tobytes())
        with contextlib.suppress(ExchangeError):
            walk(read_checked(path), T, DT)


def test_time_and_memory_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(EXAMPLES["IF"](), tmp_path / "a.nir")
    assert set(read_checked(path).nodes) == {"input", "n0", "n1", "output"}

    def slow(*_: Any, **options: Any) -> None:
        raise subprocess.TimeoutExpired("probe", options["timeout"])

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", slow)
        with pytest.raises(ExchangeError, match="damaged: reading it took more than 60 seconds"):
            read_checked(path)
    script = (
        "import sys; from spikegen.exporters import bounded; bounded.MEMORY_MAX = 1 << 28; "
        "sys.exit(bounded.main('spikegen.exporters.nir.structure', 'read_structure', sys.argv[1]))"
    )
    with h5py.File(path, "a") as file:
        replace("n0/weight", data=np.zeros(1 << 26))(file)
    result = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, check=False)
    assert result.returncode == bounded.REFUSED
    assert b"not a readable NIR file" in result.stdout
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 1 << 28  # the limit is the other process's only


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match="there is no such NIR file"):
        read_checked(tmp_path / "none.nir")


def test_a_cycle_is_named(tmp_path: Path) -> None:
    graph = residual()
    graph.nodes["back"] = nir.Delay(np.full((2, 4, 4), DT))
    for way in ([("n3", "n2")], [("n3", "back"), ("back", "n2")]):
        again = nir.NIRGraph(graph.nodes, graph.edges + way, type_check=False)
        message = refused(written(again, tmp_path / "a.nir"))
        for name in {name for edge in way for name in edge}:
            assert name in message
        assert "a cycle; recurrent connections are not supported, even with a Delay in them" in message


def test_a_recurrent_graph_of_snntorch_is_a_cycle_too(tmp_path: Path) -> None:
    full = np.ones(3)
    inner = nir.NIRGraph(
        {
            "input": nir.Input({"input": np.array([3])}),
            "lif": nir.LIF(full, full, full * 0, full, full * 0),
            "w_rec": nir.Linear(weights(3, 3)),
            "output": nir.Output({"output": np.array([3])}),
        },
        [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")],
        type_check=False,
    )
    message = refused(written(chain((3,), inner, out=(3,)), tmp_path / "a.nir"))
    assert "n0.lif" in message
    assert "n0.w_rec" in message


def test_everything_that_is_refused_is_told_at_once(tmp_path: Path) -> None:
    full = np.ones((2, 4, 4))
    graph = chain(
        (2, 4, 4),
        conv(2, 2, 3, 4),
        nir.IF(full, full, full * -0.5),
        conv(2, 2, 3, 4),
        nir.LIF(np.linspace(1, 2, 32).reshape(2, 4, 4), full, full * 0, full, full * 0),
        conv(2, 2, 3, 4),
        fires(2, 4, 4),
        out=(2, 4, 4),
    )
    graph.nodes["late"] = nir.Delay(full * DT)
    graph.nodes["slow"] = nir.LI(full, full, full)
    graph.edges += [("input", "late"), ("input", "slow"), ("input", "n0")]
    message = refused(written(graph, tmp_path / "a.nir"))
    for part in (
        "late (Delay): its input input is real-valued; a Program delays spikes only",
        "slow (LI): its membrane never fires",
        "input -> n0: the edge is there twice",
        "n1 (IF): v_reset is -0.5; a Program's neurons are reset to 0",
        "supported: Input, Output, Conv2d",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("tau", [0.01] * 4 + [0.02], "tau differs between its neurons (0.01 .. 0.02)"),
        ("tau", [DT] * 5, "of the 4096ths that a state loses per timestep 4096 is not in 1..4095"),
        ("tau", [DT * 1e5] * 5, "of the 4096ths that a state loses per timestep 0 is not in 1..4095"),
        ("tau", [0.0] * 5, "tau is 0, it must be > 0"),
        ("r", [-1.0] * 5, "r is -1, it must be > 0"),
        ("v_threshold", [-1.0] * 5, "v_threshold is -1, it must be at least 0"),
        ("v_reset", [1.0] * 5, "v_reset is 1; a Program's neurons are reset to 0"),
    ],
)
def test_neurons_that_a_program_does_not_have(parameter: str, value: list[float], message: str, tmp_path: Path) -> None:
    path = written(EXAMPLES["LIF"](), tmp_path / "a.nir")
    with h5py.File(path, "a") as file:
        replace(f"n1/{parameter}", data=value)(file)
    assert f"n1 (LIF): {message}" in refused(path).replace(f"tau is {value[0]:g} s and dt {DT:g} s; ", "")


def test_values_of_other_shapes_do_not_add_up(tmp_path: Path) -> None:
    graph = chain((2, 4, 4), conv(3, 2, 3, 4), fires(3, 4, 4), out=(3, 4, 4))
    graph.edges.append(("input", "n1"))
    assert "n1: its inputs have different shapes" in refused(written(graph, tmp_path / "a.nir"))


def test_what_nobody_hears_is_left_out_with_a_warning(tmp_path: Path) -> None:
    graph = EXAMPLES["IF"]()
    graph.nodes["aside"], graph.nodes["late"] = graph.nodes["n1"], graph.nodes["n1"]
    graph.edges += [("n0", "aside"), ("aside", "late")]
    walked = walk(read_structure(written(graph, tmp_path / "a.nir")), T, DT)
    assert walked.warnings == ("aside, late: no way leads from there to an Output; left out",)


@pytest.mark.parametrize("kind", ["Input", "Output"])
def test_a_graph_has_one_input_and_an_output(kind: str, tmp_path: Path) -> None:
    path = written(EXAMPLES["IF"](), tmp_path / "a.nir")
    with h5py.File(path, "a") as file:
        file[f"node/nodes/{kind.lower()}/type"][()] = "Scale"
    assert f"the graph has 0 nodes {kind}, it needs one" in refused(path)
