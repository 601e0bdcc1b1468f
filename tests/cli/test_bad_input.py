"""What commands refuse of pipelines of tokens: one error, the right exit code, no file left behind or changed."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from spikegen.errors import BackendError, ConfigError
from spikegen.program import Pipeline, load
from spikegen.program.codec import encode
from spikegen.program.storage import FORMAT, SCHEMA, _digest
from spikegen.runtime import Session, decode_tokens
from spikegen.simulator import Simulator
from tests.cli.commands import refuse, run, succeed


@pytest.fixture(autouse=True)
def folder(made: Path, made_tokens: Path, working_folder: Path) -> Path:
    """A working folder with a pipeline of each kind."""
    shutil.copy(made / "small.h5", ".")
    shutil.copy(made_tokens / "vq.h5", ".")
    return working_folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--temperature", 0), "temperature is 0.0, it must be positive and finite"),
        (("--temperature", -1), "temperature is -1.0, it must be positive and finite"),
        (("--temperature", "nan"), "temperature is nan, it must be positive and finite"),
        (("--temperature", "inf"), "temperature is inf, it must be positive and finite"),
        (("--temperature", "warm"), "'warm' is not a valid float"),
        (("--steps", 17), "17 steps are more steps than the 16 diffusion steps"),
        (("--steps", 0), "--steps"),
        (("--eta", 0.5), "solver absorbing has no option eta; it has temperature"),
        (("--spacing", "leading"), "solver absorbing has no option spacing; it has temperature"),
        (("--solver", "ddim"), "solver 'ddim' does not fit this pipeline; its solvers are absorbing"),
        (("--solver", "ddpm", "--temperature", 1), "solver 'ddpm' does not fit this pipeline"),
        (("--generator", "table"), "'table' is not one of"),
        (("--synapses", "conv"), "option of the backends lava-unrolled, loihi2, loihi2-sim, not of simulator"),
        (("--device", "cpu", "--backend", "lava"), "--device is an option of the backend simulator, not of lava"),
        (("--tokens", "a.png"), "must be different files"),
        (("--npy", "vq.h5"), "must be different files"),
        (("--counts", "x", "--state", "./x"), "must be different files"),
    ],
)
def test_wrong_options_of_sample(arguments: tuple[Any, ...], message: str) -> None:
    refuse(2, message, "sample", "vq.h5", "-o", "a.png", *arguments)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("tpu", "device 'tpu' is unknown: cpu, cuda or cuda:0"),
        ("mps", "device is 'mps', it must be cpu or cuda"),
    ],
)
def test_devices_that_do_not_exist(device: str, message: str) -> None:
    refuse(1, message, "sample", "vq.h5", "-o", "a.png", "--device", device)


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        ("small.h5", ("-o", "a.png"), "small has no encoder: reconstruct needs a pipeline of tokens (digits-vq)"),
        ("vq.h5", (), "--output"),
        ("vq.h5", ("-o", "a.png", "-n", 0), "-n"),
        ("vq.h5", ("-o", "a.png", "--tokens", "a.png"), "must be different files"),
        ("vq.h5", ("-o", "a.png", "--input", "in.npy", "--npy", "in.npy"), "must be different files"),
        ("vq.h5", ("-o", "in.npy", "--input", "./in.npy"), "must be different files"),
        ("vq.h5", ("-o", "a.png", "--counts", "vq.h5"), "must be different files"),
        ("vq.h5", ("-o", "a.png", "--synapses", "sparse"), "--synapses is an option of the backends lava-unrolled"),
    ],
)
def test_wrong_options_of_reconstruct(source: str, arguments: tuple[Any, ...], message: str) -> None:
    np.save("in.npy", np.zeros((1, 1, 8, 8)))
    refuse(2, message, "reconstruct", source, *arguments)


def test_reconstruct_refuses_the_checkpoint_of_an_image_model(made: Path) -> None:
    refuse(2, "small has no encoder", "reconstruct", made / "small", "-o", "a.png")


@pytest.mark.parametrize("step", [0, 17])
def test_verify_refuses_a_diffusion_step_that_there_is_not(step: int) -> None:
    refuse(2, f"diffusion step {step}: the denoiser has steps 1..16", "verify", "vq.h5", "--no-lava", "--at", step)


@pytest.mark.parametrize("command", ["sample", "reconstruct"])
@pytest.mark.parametrize("option", ["-o", "--npy", "--tokens", "--counts"])
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("absent/a", "the folder absent does not exist"),
        ("/proc/self/a", "cannot be written"),
        ("sub", "this is no ordinary file"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch, command: str, option: str, path: str, message: str
) -> None:
    def work(*_: Any, **__: Any) -> None:
        raise AssertionError("the work has begun")

    Path("sub").mkdir()
    monkeypatch.setattr("spikegen.runtime.open_target", work)
    monkeypatch.setattr("spikegen.program.load", work)
    refuse(1, message, command, "vq.h5", *(() if option == "-o" else ("-o", "a.png")), option, path)


def save_unchecked(pipeline: Pipeline, path: str) -> None:
    """Write ``pipeline`` as a file that is whole but for the rules it breaks."""
    document, arrays = encode(pipeline)
    with h5py.File(path, "w", libver="v110") as file:
        file.attrs["format"], file.attrs["digest"] = np.bytes_(FORMAT), np.bytes_(_digest(document, arrays))
        file.attrs["schema"] = SCHEMA
        file.create_dataset("document", data=np.frombuffer(document, dtype=np.uint8))
        group = file.create_group("arrays")
        for name, array in arrays.items():
            group.create_dataset(name, data=array, compression="gzip" if array.size else None)


@pytest.mark.parametrize("command", ["inspect", "verify", "sample", "reconstruct", "report"])
@pytest.mark.parametrize("role", ["encoder", "denoiser", "decoder"])
def test_a_file_without_one_of_its_networks_is_refused(command: str, role: str) -> None:
    pipeline = load("vq.h5")
    save_unchecked(pipeline, "whole.h5")
    assert load("whole.h5").networks.keys() == pipeline.networks.keys()
    others = {name: program for name, program in pipeline.networks.items() if name != role}
    save_unchecked(dataclasses.replace(pipeline, networks=others), "less.h5")
    message = f"less.h5: the pipeline has no {role}; a TokenDiffusion pipeline has encoder, denoiser, decoder"
    refuse(1, message, command, "less.h5", *(("-o", "a.png") if command in ("sample", "reconstruct") else ()))


@pytest.mark.parametrize("token", [-1, 5, 1 << 40])
def test_a_token_outside_the_codebook_is_named(token: int) -> None:
    pipeline = load("vq.h5")
    tokens = np.zeros((2, 4, 4), dtype=np.int64)
    tokens[1, 2, 3] = token
    with pytest.raises(ConfigError, match=rf"token {token} at image 1, site \(2, 3\): the codebook has 0..4"):
        decode_tokens(pipeline, Simulator(pipeline.network("decoder")), tokens)


@pytest.mark.parametrize(("token", "allowed"), [(-1, False), (5, True), (6, False)])
def test_a_state_with_a_token_outside_the_codebook_is_refused(
    monkeypatch: pytest.MonkeyPatch, token: int, allowed: bool
) -> None:
    step = Session.step

    def failing(self: Session, progress: Any = None) -> None:
        if self.completed == 3:
            raise BackendError("a process ended")
        step(self, progress)

    command = ("sample", "vq.h5", "-n", 2, "-o", "a.png", "--state", "run.state", "--quiet")
    with monkeypatch.context() as patch:
        patch.setattr(Session, "step", failing)
        assert run(*command).exit_code == 1
    with np.load("run.state") as archive:
        arrays = dict(archive)
    arrays["sample"][1, 0, 0] = arrays["samples"][-1, 1, 0, 0] = token
    with Path("run.state").open("wb") as file:
        np.savez(file, **arrays)
    if allowed:  # the mask is a token of a state
        succeed(*command)
    else:
        refuse(1, f"token {token} at image 1, site (0, 0): allowed are 0..5", *command)
