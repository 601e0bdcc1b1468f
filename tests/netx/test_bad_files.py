"""Files that are damaged or hostile: one clear error each, in bounded time and memory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from spikegen.errors import ExchangeError, SpikegenError
from spikegen.exporters.netx import convert
from spikegen.exporters.netx.convert import import_netx
from spikegen.exporters.netx.structure import read_checked, read_structure
from tests.netx.files import network, write

Change = Callable[[h5py.File], Any]
HUGE = 10**12
GZIP = {"chunks": (1 << 16,), "compression": "gzip"}
T = 4


def replace(name: str, **dataset: Any) -> Change:
    def change(file: h5py.File) -> None:
        del file[f"layer/{name}"]
        file.create_dataset(f"layer/{name}", **dataset)

    return change


def link(name: str, target: Any) -> Change:
    def change(file: h5py.File) -> None:
        del file[f"layer/{name}"]
        file[f"layer/{name}"] = target

    return change


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3, 2, 3, 3), np.float64)
    layout[:] = h5py.VirtualSource("/etc/passwd", "w", (3, 2, 3, 3))
    del file["layer/1/weight"]
    file.create_virtual_dataset("layer/1/weight", layout)


def external(file: h5py.File) -> None:
    del file["layer/1/weight"]
    file.create_dataset("layer/1/weight", (3, 2, 3, 3), "f8", external=[("/etc/passwd", 0, 432)])


def geometry(**values: Any) -> Change:
    def change(file: h5py.File) -> None:
        for key, value in values.items():
            replace(f"1/{key}", data=value)(file)

    return change


CONV = "layer 1 (conv)"
DAMAGED: Mapping[str, tuple[Change, str]] = {
    "unknown type": (replace("1/type", data=np.array([b"Hodgkin"])), "layer 1 (Hodgkin): unknown type of layer"),
    "no type": (lambda file: file.__delitem__("layer/1/type"), "layer 1: type is not a plain dataset of this file"),
    "soft link": (link("1/weight", h5py.SoftLink("/layer/3/weight")), f"{CONV}: weight is not a plain dataset"),
    "external link": (link("1/weight", h5py.ExternalLink("/etc/passwd", "/x")), f"{CONV}: weight is not a plain"),
    "layer behind a link": (link("1", h5py.ExternalLink("/etc/passwd", "/x")), "layer 1: 1 is not a plain group"),
    "neurons behind a link": (link("1/neuron", h5py.SoftLink("/layer/3/neuron")), f"{CONV}: neuron is not a plain"),
    "virtual": (virtual, f"{CONV}: weight is stored in another file"),
    "external": (external, f"{CONV}: weight is stored in another file"),
    "huge without storage": (
        replace("1/weight", shape=(HUGE,), dtype="f8"),
        f"{CONV}: weight declares {8 * HUGE} bytes, limit is",
    ),
    "huge in chunks": (replace("1/weight", shape=(HUGE,), dtype="f8", **GZIP), f"{CONV}: weight declares {8 * HUGE}"),
    "more than is stored": (
        replace("1/weight", shape=(1 << 25,), dtype="f8", **GZIP),
        f"{CONV}: weight declares {1 << 28} bytes and stores 0",
    ),
    "long text": (replace("1/neuron/type", data="C" * 10_000), f"{CONV}: neuron: type: a text of 10000 bytes, limit"),
    "many parameters": (
        lambda file: [file.create_dataset(f"layer/1/p{i}", data=0) for i in range(40)],
        "parameters, limit is 32",
    ),
    "many layers": (
        lambda file: [file.create_group(f"layer/{i}") for i in range(4, 1100)],
        "it has 1100 layers, allowed 1..1024",
    ),
    "a layer is missing": (lambda file: file["layer"].move("1", "7"), "it has 4 layers, but no layer 1"),
    "compound": (replace("1/weight", data=np.zeros(3, [("a", "f8")])), f"{CONV}: weight has type"),
    "NaN": (replace("1/weight", data=np.full((3, 2, 3, 3), np.nan)), f"{CONV}: weight has NaN or infinite values"),
    "text for numbers": (replace("1/stride", data="same"), f"{CONV}: stride is 'same', expected numbers"),
    "number for a text": (replace("1/neuron/type", data=3), f"{CONV}: neurons of type array(3)"),
    "nothing for numbers": (replace("1/stride", data=np.zeros(0)), f"{CONV}: stride is array([]"),
    "no group layer": (lambda file: file.__delitem__("layer"), "not one of netx (it has no group layer)"),
    "wrong rank": (replace("1/weight", data=np.ones((3, 2, 3))), f"{CONV}: weight has shape (3, 2, 3), expected"),
    "no weights": (replace("1/weight", data=np.ones((3, 2, 0, 3))), f"{CONV}: weight is array("),
    "huge numbers": (
        replace("1/weight", data=np.full((3, 2, 3, 3), 1e300)),
        f"{CONV}: weight has numbers that are not",
    ),
    "stride 0": (geometry(stride=[0, 1]), "groups, stride (0, 1) and dilation (1, 1)"),
    "padding below 0": (geometry(padding=[-1, 1]), f"{CONV}: padding is [-1, 1], expected 1 or 2 numbers"),
    "three strides": (geometry(stride=[1, 1, 1]), f"{CONV}: stride is [1, 1, 1], expected 1 or 2 numbers"),
    "huge padding": (geometry(padding=[10**6, 10**6], shape=[3, 2000002, 2000002]), f"{CONV}: shape is (3, 2000002"),
    "padding that makes a large output": (
        geometry(padding=[1200, 1200], shape=[3, 2402, 2402]),
        f"{CONV}: with it the network has",
    ),
    "huge groups": (geometry(groups=10**9), f"{CONV}: inChannels is 2, its weight says"),
    "shape of nothing": (replace("0/shape", data=[2, 0, 4]), "layer 0 (input): shape is (2, 0, 4)"),
    "huge input": (replace("0/shape", data=[2, 10**6, 10**6]), "layer 0 (input): shape is (2, 1000000, 1000000)"),
    "two axes": (replace("0/shape", data=[4, 4]), "layer 0 (input): shape is (4, 4)"),
    "kernel size": (geometry(kernelSize=[5, 5]), f"{CONV}: kernelSize is (5, 5), weight has shape (3, 2, 3, 3)"),
}


def refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(convert, "read_checked", read_structure)
    with pytest.raises(SpikegenError) as error:
        import_netx(path, T)
    return str(error.value)


@pytest.mark.parametrize("name", DAMAGED)
def test_one_clear_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.net", *network())
    change, message = DAMAGED[name]
    with h5py.File(path, "a") as file:
        change(file)
    started = time.monotonic()
    assert message in refused(path, monkeypatch)
    assert time.monotonic() - started < 5.0


TRANSPOSED = {
    "type": "convT",
    "shape": (2, 8, 8),
    "weight": np.ones((2, 2, 2, 2)),
    "stride": (2, 2),
    "padding": (0, 0),
    "dilation": (1, 1),
    "groups": 1,
    "neuron": network()[1]["neuron"],
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stride": (1 << 20, 1 << 20)}, "a kernel that reaches over [2, 2] pixels, with padding (0, 0) and stride"),
        ({"dilation": (1 << 20, 1 << 20)}, "a kernel that reaches over [1048577, 1048577] pixels"),
        ({"padding": (1 << 20, 1)}, "with padding (1048576, 1)"),
        ({"groups": 1 << 30}, "weight (2, 2, 2, 2) with 1073741824 groups"),
        ({"stride": (2, 1)}, "its strides (2, 1) differ"),
        ({"shape": (2, 9, 8)}, "shape is (2, 9, 8), its input of shape (2, 4, 4) makes (2, 8, 8)"),
    ],
)
def test_a_transposed_convolution(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.net", network()[0], {**TRANSPOSED, **changes})
    assert message in refused(path, monkeypatch)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_truncated_file(share: float, tmp_path: Path) -> None:
    path = write(tmp_path / "a.net", *network())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ExchangeError, match=r"a\.net: not a readable netx file \(truncated or damaged\)"):
        read_checked(path)


def test_damaged_bytes_are_an_error_or_change_nothing_that_matters(tmp_path: Path) -> None:
    path = write(tmp_path / "a.net", *network())
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(6):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[rng.integers(0, len(damaged), 64)] = rng.integers(0, 256, 64)
        path.write_bytes(damaged.tobytes())
        with contextlib.suppress(SpikegenError):
            import_netx(path, T)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match="there is no such netx file"):
        read_checked(tmp_path / "none.net")


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.net"
    path.write_text("layer")
    with pytest.raises(ExchangeError, match="not a readable netx file"):
        read_checked(path)
