"""`spikegen export module:function`, as a user runs it."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from spikegen.program import Lif, load
from tests.cli.commands import contents, refuse, run, succeed, summary

pytestmark = pytest.mark.filterwarnings("ignore:torch.nn.utils.weight_norm is deprecated:UserWarning")

CODE = """
import torch
from spikingjelly.activation_based import neuron
from torch import nn


def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), neuron.IFNode(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5), neuron.IFNode()
    )


def with_inputs():
    return build(), torch.rand(6, 1, 6, 7)


def wrong_inputs():
    return build(), torch.rand(6, 5)


def unknown():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.GroupNorm(1, 4), neuron.QIFNode())


def broken():
    return [1][3]


def leave():
    raise SystemExit(3)


class Late(nn.Module):
    def forward(self, x):
        raise KeyError("late")


def late():
    return Late()


def number():
    return 3


value = 7
"""
_names = (f"own_model_{number}" for number in itertools.count())


@pytest.fixture
def module(working_folder: Path) -> str:
    """A module of a name of its own: Python imports a name once."""
    name = next(_names)
    (working_folder / f"{name}.py").write_text(CODE)
    return name


FORM = ("--input", "1x6x7", "-T", 4, "-o", "net.h5")


def test_a_module_becomes_a_pipeline_that_runs(module: str) -> None:
    np.save("c.npy", np.random.default_rng(0).random((8, 1, 6, 7)))
    found = summary("export", f"{module}:build", *FORM, "--calibration", "c.npy", "--readout", "sum")
    row = found["networks"]["network"]
    assert (row["timesteps"], row["populations"]) == (4, 4)
    assert row["float_agreement"]["inputs"] == 8
    assert min(row["float_agreement"]["spikes"].values()) > 0.9
    pipeline = load("net.h5")
    assert pipeline.name == module
    assert pipeline.provenance["module"] == f"{module}:build"
    program = pipeline.network("network")
    assert [p.origin for p in program.populations if isinstance(p, Lif)] == ["1", "2", "5"]
    assert not program.input.streamed
    succeed("run", "net.h5", "--input", "c.npy", "-o", "y.npy", "--every-step", "s.npy")
    assert np.load("y.npy").shape == (8, 5, 1, 1)
    np.testing.assert_array_equal(np.load("s.npy").sum(axis=1), np.load("y.npy"))
    assert summary("verify", "net.h5", "--no-lava", "-n", 2)["equal"]


def test_without_calibration_it_says_so(module: str) -> None:
    result = succeed("export", f"{module}:build", *FORM)
    assert "No --calibration: scales are chosen on 32 random inputs" in result.stderr.replace("\n", " ")
    assert "beside the float model on 32 inputs: " in result.stdout
    assert "No --calibration" not in succeed("export", f"{module}:with_inputs", *FORM).stderr
    assert load("net.h5").network("network").report["float_agreement"]["inputs"] == 6


def test_weights_of_a_file(module: str) -> None:
    succeed("export", f"{module}:build", *FORM)
    first = load("net.h5").network("network")
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), *(torch.nn.Identity() for _ in range(3)), torch.nn.Linear(36, 5)
    )
    torch.manual_seed(5)
    torch.nn.init.normal_(model[0].weight)
    torch.save(model.state_dict(), "w.pt")
    succeed("export", f"{module}:build", *FORM, "--weights", "w.pt")
    pipeline = load("net.h5")
    assert len(pipeline.provenance["weights_digest"]) == 64
    changed = pipeline.network("network")
    assert not np.array_equal(first.projections[0].weight, changed.projections[0].weight)
    torch.save({"0.weight": torch.zeros(4, 1, 3, 3)}, "w.pt")
    refuse(
        1, "w.pt: it does not fit Sequential: Missing key(s)", "export", f"{module}:build", *FORM, "--weights", "w.pt"
    )
    Path("w.pt").write_bytes(b"no file of torch")
    refuse(1, "w.pt: ", "export", f"{module}:build", *FORM, "--weights", "w.pt")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("nothing", "the module {module} has no function nothing"),
        ("value", "the module {module} has no function value"),
        ("number", "{module}:number: it returned a int; it must return a torch.nn.Module"),
        ("broken", "{module}:broken: IndexError: list index out of range ({module}.py, line 27, in broken)"),
        ("leave", "{module}:leave: SystemExit: 3 ({module}.py, line 31, in leave)"),
        ("late", "Late: the model cannot be traced: KeyError: 'late' ({module}.py, line 36, in forward)"),
        ("unknown", "1 (ReLU): unknown layer; use a spiking neuron - 2 (GroupNorm): unknown layer; use BatchNorm2d"),
        ("wrong_inputs", "the inputs that it returned are (6, 5), expected finite numbers (N, 1, 6, 7)"),
    ],
)
def test_code_that_does_not_do_what_it_should(module: str, function: str, message: str) -> None:
    before = contents()
    result = run("export", f"{module}:{function}", *FORM)
    assert result.exit_code == 1
    assert message.format(module=module) in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    kept = {name: data for name, data in contents().items() if "__pycache__" not in name}
    assert kept == before


def test_a_module_that_cannot_be_imported(module: str) -> None:
    Path("half_written.py").write_text("def build(:\n")
    Path("imports_more.py").write_text("import there_is_no_such\n")
    assert module
    for name, message in {
        "no_such_module": "there is no module no_such_module here or installed",
        "half_written": "SyntaxError: invalid syntax (half_written.py, line 1)",
        "imports_more": "No module named 'there_is_no_such' (imports_more.py, line 1",
    }.items():
        result = run("export", f"{name}:build", *FORM)
        assert result.exit_code == 1
        assert f"Error: {name}:build: " in result.stderr
        assert message in result.stderr


def test_options_that_do_not_fit(module: str) -> None:
    build = f"{module}:build"
    refuse(2, "say what it takes with --input, such as 1x28x28, and -T", "export", build, "-T", 4, "-o", "net.h5")
    for shape in ("1x6", "0x6x7", "ax6x7", "1x6x7x8", "-3"):
        refuse(2, f"--input {shape}: expected channels", "export", build, f"--input={shape}", "-T", 4, "-o", "net.h5")
    refuse(2, "--dataset is for checkpoints", "export", build, *FORM, "--dataset", "digits")
    refuse(2, "for MODULE:FUNCTION only", "export", "digits-unet", *FORM)
    refuse(2, "--input-bits is 0", "export", "digits-unet", "-o", "net.h5", "--input-bits", 0)
    np.save("c.npy", np.zeros((3, 1, 7, 6)))
    refuse(
        1, "c.npy: it holds float64 (3, 1, 7, 6), the network takes", "export", build, *FORM, "--calibration", "c.npy"
    )
