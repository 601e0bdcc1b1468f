"""docs/onnx.md: its code runs, and its tables are complete."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import onnx
import pytest

from spikegen.exporters.onnx import network_model, write_models
from spikegen.program import Input, Program, save
from tests.lava.networks import everything
from tests.onnx.test_model import narrow, summed
from tests.onnx.test_random_programs import nodes
from tests.program.examples import changed
from tests.runtime.programs import tiny

PAGE = (Path(__file__).parents[2] / "docs" / "onnx.md").read_text(encoding="utf-8")


def test_its_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline = tiny()
    save(pipeline, "digits.h5")
    write_models(pipeline, "digits.onnx")
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(snippet.splitlines()) <= 15
    Path("snippet.py").write_text(snippet, encoding="utf-8")
    runpy.run_path("snippet.py", run_name="__main__")
    shape = (4, *pipeline.network("denoiser").input.shape)
    assert re.fullmatch(
        rf"\w+: predicted noise {re.escape(str(shape))}, -?\d+\.\d+ on average\n", capsys.readouterr().out
    )


def test_the_table_holds_every_operator_and_no_other() -> None:
    table = PAGE.partition("| in the Program | operators |")[2].partition("\n\n")[0]
    programs: list[Program] = [everything(4), narrow("lif")[0], summed(1 << 20, 2)]
    programs.append(everything(4, Input("in", (2, 6, 4), 5, 1.0, streamed=True)))
    programs.append(changed(everything(4), "a", delays=np.ones((4, 6, 4), dtype=np.int32)))
    models: list[onnx.ModelProto] = [network_model(p, out) for p in programs for out in ("events", "messages")]
    models.append(network_model(everything(4), unroll=False))
    used = {node.op_type for model in models for node in nodes(model.graph)}
    assert set(re.findall(r"`([A-Z]\w+)`", table)) == used
