"""Which targets `spikegen verify` compares, and what it says about the others."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikegen.errors import ConfigError
from spikegen.exporters.onnx import OnnxTarget
from spikegen.program import Evaluation, Program, save
from spikegen.runtime import backends
from tests.cli.commands import refuse, run, succeed, summary
from tests.cli.test_run import network
from tests.program.examples import alone


@pytest.fixture
def plain(working_folder: Path) -> str:
    save(alone(network(streamed=True)), "net.h5")
    return "net.h5"


@pytest.mark.parametrize("node", ["a", "out", "counts"])
def test_what_onnx_runtime_does_otherwise_is_found(plain: str, monkeypatch: pytest.MonkeyPatch, node: str) -> None:
    right = OnnxTarget.evaluate

    def wrong(self: OnnxTarget, frames: Any, step: int, record: bool = False) -> Evaluation:
        found = right(self, frames, step, record)
        if node == "counts":
            return dataclasses.replace(found, counts=found.counts + found.counts)
        next(values[node] for values in (found.messages, found.readouts) if node in values)[0, 0, 0, 0, 0] += 1
        return found

    monkeypatch.setattr(OnnxTarget, "evaluate", wrong)
    result = run("verify", plain, "--no-lava", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert not found["equal"]
    rows = {row["node"]: row["differing"] for row in found["networks"]["network"]["nodes"]}
    assert rows == {name: {"SLAYER": 0, "ONNX Runtime": int(name == node)} for name in ("input", "a", "out")}
    (step,) = found["networks"]["network"]["steps"]
    assert step["equal_counts"] == {"SLAYER": True, "ONNX Runtime": node != "counts"}


def test_without_the_packages_onnx_runtime_is_left_out(plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("spikegen.exporters.onnx")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    shown = succeed("verify", plain, "--no-lava").stdout
    assert "ONNX Runtime: not compared: ONNX needs the packages onnx and onnxruntime" in shown
    assert "pip install 'spikegen[onnx]'" in shown
    assert "Lava: not compared: --no-lava\n" in shown
    assert "alone, 4 inputs: simulator and SLAYER are equal" in shown


def test_onnx_runtime_and_lava_are_left_out_on_request(plain: str) -> None:
    found = summary("verify", plain, "--no-lava", "--no-onnx")
    assert found["targets"] == ["SLAYER"]
    assert found["left_out"] == [
        {"target": "Lava", "network": None, "reason": "--no-lava"},
        {"target": "ONNX Runtime", "network": None, "reason": "--no-onnx"},
    ]


def test_a_network_that_onnx_cannot_hold_is_compared_without_it(plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(self: OnnxTarget, program: Program, batch: int) -> None:
        raise ConfigError("out: too large a sum")

    monkeypatch.setattr(OnnxTarget, "__init__", refusing)
    shown = succeed("verify", plain, "--no-lava").stdout
    assert "ONNX Runtime: not compared in the network: out: too large a sum\n" in shown
    assert "simulator and SLAYER are equal" in shown


@pytest.fixture
def no_other_lava(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator in place of both Lava targets, which take seconds."""
    for backend in ("lava", "lava-unrolled"):
        monkeypatch.setitem(backends.BACKENDS, backend, backends.BACKENDS["simulator"])


@pytest.mark.lava
@pytest.mark.usefixtures("no_other_lava")
def test_the_network_of_the_chip_is_compared_on_request(plain: str) -> None:
    found = summary("verify", plain, "--chip", "-n", 2)
    assert found["equal"]
    assert found["targets"] == ["SLAYER", "Lava (fused)", "Lava (conv)", "loihi2-sim", "ONNX Runtime"]
    assert found["left_out"] == []
    assert found["networks"]["network"]["nodes"][1]["events"] > 0


@pytest.mark.usefixtures("no_other_lava")
def test_a_network_that_the_chip_cannot_hold_is_compared_without_it(working_folder: Path) -> None:
    program = network(streamed=True)
    gained = tuple(dataclasses.replace(p, gains=np.arange(4, dtype=np.int32)) for p in program.projections)
    save(alone(dataclasses.replace(program, projections=gained)), "gains.h5")
    found = summary("verify", "gains.h5", "--chip", "-n", 2)
    assert found["equal"]
    assert found["targets"] == ["SLAYER", "Lava (fused)", "Lava (conv)", "ONNX Runtime"]
    (left_out,) = found["left_out"]
    assert (left_out["target"], left_out["network"]) == ("loihi2-sim", "network")
    assert re.match(r"in>a: .*gains.* \(and 1 more\)$", left_out["reason"])


def test_the_chip_needs_lava(plain: str) -> None:
    refuse(2, "--chip runs on Lava; leave --no-lava out", "verify", plain, "--chip", "--no-lava")
