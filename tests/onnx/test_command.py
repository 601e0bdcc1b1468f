"""`spikegen export --to onnx` and `--backend onnx`, as a user runs them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from spikegen.program import ImageDiffusion, Pipeline, load, save
from spikegen.program.storage import digest
from spikegen.runtime import host_readout
from spikegen.simulator import Simulator
from tests.cli.commands import names, refuse, succeed, summary
from tests.program.examples import alone, every_field
from tests.runtime.programs import tiny, tiny_tokens


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save(tiny(), "tiny.h5")
    return tmp_path


def test_a_pipeline_file_becomes_models_that_run_without_spikegen(folder: Path) -> None:
    found = summary("export", "tiny.h5", "--to", "onnx", "-o", "a.onnx")
    files = ["a.onnx", "a.input.onnx", "a.readout.onnx"]
    assert found["files"] == files
    assert names() == sorted([*files, "tiny.h5"])
    sessions = [onnxruntime.InferenceSession(name) for name in files]
    program = load("tiny.h5").network("denoiser")
    real = np.random.default_rng(0).normal(size=(5, *program.input.shape))
    (frames,) = sessions[1].run(None, {"real": real})
    (currents,) = sessions[0].run(None, {"frames": frames, "step": np.array(3)})
    (value,) = sessions[2].run(None, {sessions[2].get_inputs()[0].name: currents})
    expected = Simulator(program).evaluate(program.input.quantize(real), 3)
    (readout,) = program.readouts()
    np.testing.assert_array_equal(currents, expected.readouts[readout.name])
    np.testing.assert_array_equal(value, host_readout(readout, expected.readouts[readout.name]))
    for name, kind in zip(files, ("network", "input", "readout"), strict=True):
        onnx.checker.check_model(name, full_check=True)
        properties = {entry.key: entry.value for entry in onnx.load(name).metadata_props}
        assert properties["spikegen.kind"] == kind
        assert properties["spikegen.role"] == "denoiser"
        assert properties["spikegen.pipeline"] == digest(load("tiny.h5"))


def test_several_networks_have_files_of_their_own(folder: Path) -> None:
    save(tiny_tokens(), "tokens.h5")
    result = succeed("export", "tokens.h5", "--to", "onnx", "-o", "t.onnx", "--outputs", "messages")
    files = [f"t.{role}{part}.onnx" for role in tiny_tokens().networks for part in ("", ".input", ".readout")]
    assert f"Wrote {', '.join(files)}\n" in result.stdout
    assert names() == sorted([*files, "tiny.h5", "tokens.h5"])
    assert any(port.name.startswith("messages/") for port in onnx.load("t.decoder.onnx").graph.output)


def test_thresholds_are_scaled_in_a_model_too(folder: Path) -> None:
    succeed("export", "tiny.h5", "--to", "onnx", "-o", "a.onnx")
    succeed("export", "tiny.h5", "--to", "onnx", "-o", "b.onnx", "--threshold-scale", "1.25")
    assert Path("a.onnx").read_bytes() != Path("b.onnx").read_bytes()
    assert Path("a.input.onnx").read_bytes() != Path("b.input.onnx").read_bytes()  # they name another Program


def test_sampling_with_onnx_runtime_writes_the_files_of_the_simulator(folder: Path) -> None:
    for backend in ("onnx", "simulator"):
        files = ("-o", f"{backend}.png", "--npy", f"{backend}.npy", "--counts", f"{backend}.json")
        succeed("sample", "tiny.h5", "-n", 3, "--batch", 2, "--steps", 3, "--backend", backend, *files)
    for suffix in ("png", "npy", "json"):
        assert Path(f"onnx.{suffix}").read_bytes() == Path(f"simulator.{suffix}").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["tiny.h5", "--to", "onnx", "-o", "a.h5"], 2, "a name that ends in .onnx and --to onnx go together"),
        (["digits-unet", "-o", "a.onnx"], 2, "a name that ends in .onnx and --to onnx go together"),
        (["digits-unet", "-o", "a.h5", "--outputs", "events"], 2, "--outputs is an option of --to onnx"),
        (["tiny.h5", "--to", "onnx", "-o", "a.onnx", "--seed", "1"], 2, "already lowered: --seed would do nothing"),
        (["none.h5", "--to", "onnx", "-o", "a.onnx"], 1, "there is no such pipeline file"),
        (["tiny.h5", "--to", "onnx", "-o", "no/a.onnx"], 1, "the folder no does not exist"),
        (["tiny.h5", "--to", "onnx", "-o", "a.onnx", "--outputs", "spikes"], 2, "--outputs"),
    ],
)
def test_what_is_refused(folder: Path, arguments: list[str], code: int, message: str) -> None:
    refuse(code, message, "export", *arguments)


def test_nothing_is_written_if_one_file_cannot_be(folder: Path) -> None:
    Path("a.readout.onnx").mkdir()
    refuse(1, "a.readout.onnx: this is no ordinary file", "export", "tiny.h5", "--to", "onnx", "-o", "a.onnx")


def test_without_the_packages_one_error_names_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("spikegen.exporters.onnx")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    refuse(1, "pip install 'spikegen[onnx]'", "export", "tiny.h5", "--to", "onnx", "-o", "a.onnx")
    refuse(1, "pip install 'spikegen[onnx]'", "sample", "tiny.h5", "-n", 1, "-o", "a.png", "--backend", "onnx")


def test_a_lone_network_with_everything(folder: Path) -> None:
    save(alone(every_field()), "alone.h5")
    assert not isinstance(load("alone.h5").host, ImageDiffusion)
    succeed("export", "alone.h5", "--to", "onnx", "-o", "alone.onnx", "--outputs", "events")
    assert isinstance(load("alone.h5"), Pipeline)
    onnx.checker.check_model("alone.onnx", full_check=True)
