"""The documentation says what the code does: generated tables are complete, and the README repeats them."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import runpy
import shlex
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from spikegen.cli import COMMANDS, main
from spikegen.energy import MAPPED, MODELS, OPERATIONS, TIME_MODELS
from spikegen.lowering.layers import CONTAINERS, LAYERS
from spikegen.models import SHIPPED
from spikegen.program import (
    Conditioning,
    Conv,
    ImageDiffusion,
    Input,
    Lif,
    Pipeline,
    Program,
    Readout,
    numerics,
    save,
)

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    sys.modules.pop("tables", None)
    return importlib.import_module("tables")


def test_every_field_of_every_primitive_is_documented_and_no_other(tables: ModuleType) -> None:
    assert {*Program.NODE_TYPES.values(), *Program.PROJECTION_TYPES.values(), Program} <= set(tables.PRIMITIVES)
    for cls in tables.PRIMITIVES:
        assert set(tables.documented(cls)) == {field.name for field in dataclasses.fields(cls)}, cls.__name__


def test_the_program_table_holds_every_field(tables: ModuleType) -> None:
    page = tables.program_table()
    for cls in tables.PRIMITIVES:
        row = page.partition(f"* - `{cls.__name__}`\n")[2].partition("\n* - ")[0]
        assert re.findall(r"- \*\*(\w+)\*\* `", row) == [field.name for field in dataclasses.fields(cls)]
    assert "v[t] = clip23( trunc(v[t-1] * (4096 - dv) / 4096) + u[t] + (bias_mant << bias_exp) )" in page
    assert "``" not in page.replace("```", "")  # all of the docstrings' markup was converted
    assert ":class:" not in page


def test_every_constant_of_the_arithmetic_is_in_the_table(tables: ModuleType) -> None:
    assert set(tables.WIDTHS) == {name for name in vars(numerics) if re.fullmatch(r"[A-Z][A-Z_]+[A-Z]", name)}


def test_the_equations_of_the_numerics_page_are_those_of_the_specification() -> None:
    page = (ROOT / "docs" / "numerics.md").read_text(encoding="utf-8")
    body = inspect.cleandoc(Program.NODE_TYPES["Lif"].__doc__ or "")
    equations = [line.strip() for line in body.splitlines() if re.match(r"\s+[uvs]\[t\] =", line)]
    assert len(equations) == 3
    assert "\n".join(equations) in page


def test_the_support_matrix_has_every_layer(tables: ModuleType) -> None:
    page = tables.support_matrix()
    assert len(page.splitlines()) == 2 + len(LAYERS) + len(CONTAINERS)
    for layer in LAYERS.values():
        assert layer.becomes in page


def test_the_readme_repeats_the_support_matrix(tables: ModuleType) -> None:
    between = re.search(r"<!-- support matrix:.*?-->\n(.*?)<!-- end of the support matrix -->", README, re.DOTALL)
    assert between is not None
    assert between[1] == tables.support_matrix(), "copy the table that docs/_ext/tables.py makes into README.md"


def test_operations_and_energy_models_are_all_in_their_tables(tables: ModuleType) -> None:
    for name in OPERATIONS:
        assert f"| `{name}` |" in tables.operations_table()
    for model in MODELS.values():
        assert f"### `{model.name}`" in tables.energy_tables()
        for price in model.prices:
            assert price.source in tables.energy_tables()
    for name in MAPPED:
        assert f"| `{name}` |" in tables.mapped_table()
    for timing in TIME_MODELS.values():
        assert f"### Time: `{timing.name}`" in tables.time_tables()
        for duration in timing.durations:
            assert duration.source in tables.time_tables()
    page = (ROOT / "docs" / "energy.md").read_text(encoding="utf-8")
    for name in {*MODELS, *TIME_MODELS}:
        assert f"| `{name}` |" in page


def test_every_command_is_in_the_reference(tables: ModuleType) -> None:
    page = tables.cli_reference()
    for command in COMMANDS:
        assert f"## spikegen {command}\n" in page
    for option in ("--counts", "--generator [chip|lookup]", "--temperature", "--tokens", "--input"):
        assert option in page
    assert "spikegen sample [OPTIONS] PIPELINE" in page


def test_every_package_is_in_the_python_interface() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    faces = (ROOT / "spikegen").glob("*/__init__.py")
    exporting = [
        face for face in faces if re.search(r"^from spikegen.* import (\w+) as \1$", face.read_text(), re.MULTILINE)
    ]
    named = {f"spikegen.{face.parent.name}" for face in exporting} | {"spikegen.exporters.lava"}
    assert set(re.findall(r"automodule:: (spikegen\.[\w.]+)\n   :imported-members:", page)) == named
    assert len(named) > 8


def test_both_models_are_in_getting_started() -> None:
    page = (ROOT / "docs" / "getting_started.md").read_text(encoding="utf-8")
    for model in SHIPPED:
        assert f"spikegen export {model} " in page
        assert f"spikegen train {model} " in page
    for line in re.findall(r"^spikegen .*$", page, re.MULTILINE):
        assert_parses(shlex.split(line, comments=True)[1:])


def assert_parses(arguments: list[str]) -> None:
    """The command line is one of ours, down to the names of the options."""
    command = main.load(arguments[0])
    command.make_context(arguments[0], arguments[1:]).close()


def test_the_commands_of_the_demo_are_the_same_everywhere() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    started = (ROOT / "docs" / "getting_started.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\t\$\(BIN\)/(spikegen .*)$", makefile, re.MULTILINE)
    parts = {"digits-unet": ["export", "sample", "report"], "digits-vq": ["export", "sample", "reconstruct"]}
    assert [command.split()[1] for command in commands] == [verb for verbs in parts.values() for verb in verbs]
    for part in (commands[:3], commands[3:]):
        assert "\n".join(part) in README
        assert "\n".join(part) in started


def test_the_python_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As printed but for the backend, on a network of one neuron per pixel in place of the digits."""
    kernel = np.ones((1, 1, 1, 1), dtype=np.int8)
    program = Program(
        name="tiny",
        timesteps=2,
        input=Input("in", (1, 2, 2), bits=8, scale=1 / 64),
        populations=(
            Lif("a", (1, 2, 2), vth=1, du=4095, dv=0, bias_mant=np.zeros(1, dtype=np.int16), bias_exp=0),
            Readout("out", (1, 2, 2), weights=np.ones(2), bias=np.zeros(1)),
        ),
        projections=(Conv("in>a", "in", "a", kernel, exponent=0), Conv("a>out", "a", "out", kernel, exponent=0)),
        conditioning=Conditioning(1000),
    )
    (tmp_path / "demo").mkdir()
    save(Pipeline("tiny", ImageDiffusion(), {"denoiser": program}), tmp_path / "demo" / "digits.h5")
    snippet = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert snippet is not None
    assert '"lava"' in snippet[1]
    (tmp_path / "snippet.py").write_text(snippet[1].replace('"lava"', '"simulator"'), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    runpy.run_path("snippet.py", run_name="__main__")
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")
    assert re.search(r"^\d+ spikes in one evaluation", capsys.readouterr().out)


def test_the_module_and_the_python_of_own_models_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("spikingjelly", reason="spikingjelly is not installed")
    page = (ROOT / "docs" / "own_models.md").read_text(encoding="utf-8")
    module, script = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("my_net.py").write_text(module)
    Path("script.py").write_text(script)
    runpy.run_path("script.py", run_name="__main__")
    # SpikingJelly may print of its own when it is imported first
    assert capsys.readouterr().out.splitlines()[-1] == "(16, 10, 1, 1) (16, 8, 10, 1, 1)"
    np.save("x.npy", np.random.default_rng(0).random((4, 1, 8, 8)))
    (commands,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    for line in commands.splitlines():
        main(shlex.split(line)[1:], standalone_mode=False)
    assert "SLAYER and ONNX Runtime are equal" in capsys.readouterr().out


def test_nothing_claims_an_energy_of_loihi_2() -> None:
    pages = [README, *(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))]
    for page in pages:
        assert not re.search(r"[Ll]oihi ?2[^.|\n]*\d+(\.\d+)? ?[pnµum]J", page)
