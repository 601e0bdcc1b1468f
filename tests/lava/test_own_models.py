"""Networks of plain SLAYER blocks, trained here: equal spikes from SLAYER, netx on Lava, and every target."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

import spikegen
from spikegen.exporters.lava import LavaTarget
from spikegen.lowering.export_module import InputSpec, export_module
from spikegen.program import Program
from spikegen.simulator import Simulator
from spikegen.verification import SlayerTarget
from tests.cli.commands import succeed, summary
from tests.lowering.networks import on_grid

ROOT = Path(spikegen.__file__).parents[1]
IMAGES, T = 3, 8  # T a power of two: on hardware resets need it
pytestmark = [
    pytest.mark.lava,
    pytest.mark.filterwarnings("ignore:torch.nn.utils.weight_norm is deprecated:UserWarning"),
]


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("slayer_digits", ROOT / "examples" / "slayer_digits.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with contextlib.redirect_stdout(io.StringIO()):
        spec.loader.exec_module(module)
    return module


def trained(example: ModuleType, model: nn.Module, inputs: npt.NDArray[np.float32]) -> nn.Module:
    """A few steps on 128 digits: weights as training leaves them."""
    _, labels = example.spike_trains(T)
    example.train(model, torch.from_numpy(inputs[:128]).movedim(1, -1), torch.from_numpy(labels[:128]), epochs=4)
    return model


def messages(program: Program, name: str, inputs: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Spikes of population ``name`` [N, T, classes] on the simulator; every other target must give the same."""
    frames = inputs.astype(np.int32)
    expected = Simulator(program).evaluate(frames, 0, record=True)
    for target in (SlayerTarget(program), LavaTarget(program, images=len(frames)), _unrolled(program, len(frames))):
        with contextlib.closing(target):
            found = target.evaluate(frames, 0, record=True)
            assert found.counts == expected.counts
            for node in program.nodes.keys() - {"output"}:
                np.testing.assert_array_equal(found.messages[node], expected.messages[node], node)
    sent = expected.messages[name]
    assert 0 < sent.mean() < 1
    return sent.reshape(*sent.shape[:2], -1)


def _unrolled(program: Program, images: int) -> LavaTarget:
    return LavaTarget(program, images=images, model="unrolled", synapses="conv")


def test_a_chain_equals_slayer_and_netx(example: ModuleType, tmp_path: Path) -> None:
    """Of the form of lava-dl's N-MNIST tutorial; netx gets silence after each image, in which spikes die out."""
    torch.manual_seed(1)
    inputs, _ = example.spike_trains(T)
    features = inputs.reshape(len(inputs), T, 64)
    model = trained(example, example.Chain(hidden=24), features)
    for block in model.blocks[:2]:
        block.delay.delay.data = torch.cat([torch.full((1,), 1.5), torch.randint(1, 5, (23,))])
    images = features[-IMAGES:]
    program = export_module(model, InputSpec((64, 1, 1), T, flat=True), inputs=_shaped(features[:16])).network(
        "network"
    )
    found = messages(program, "blocks.2.neuron", _shaped(images))

    with torch.no_grad():
        slayer = model(torch.from_numpy(images).movedim(1, -1)).movedim(-1, 1).numpy()
    early = 2  # the delay that all neurons of the two first blocks share
    lag = (
        len(model.blocks) + early
    )  # SLAYER's window ends T steps after the first layer's begins: it cuts what is later
    np.testing.assert_array_equal(slayer[:, lag:], found[:, :-lag])
    assert not slayer[:, :lag].any()

    model.export_hdf5(tmp_path / "chain.net")
    np.save(tmp_path / "x.npy", np.pad(images, ((0, 0), (0, 3 * T), (0, 0))))
    files = [str(tmp_path / name) for name in ("chain.net", "x.npy", "y.npy")]
    command = [sys.executable, "-W", "ignore", "-m", "tests.lava.netx_run", *files]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy")[:, early:T], found[:, :-early])


def test_a_skip_a_pool_and_a_transposed_convolution(example: ModuleType, tmp_path: Path) -> None:
    torch.manual_seed(2)
    inputs, _ = example.spike_trains(T)
    model = trained(example, example.Skip(channels=2), inputs)
    images = inputs[-IMAGES:]
    program = export_module(model, InputSpec((1, 8, 8), T), inputs=inputs[:16].astype(np.float64)).network("network")
    found = messages(program, "last.neuron", images)
    with torch.no_grad():
        slayer = model(torch.from_numpy(images).movedim(1, -1)).movedim(-1, 1).numpy()
    np.testing.assert_array_equal(slayer, found)

    from lava.lib.dl.netx.hdf5 import Network

    with h5py.File(tmp_path / "skip.net", "w") as file:
        for index, block in enumerate((model.first, model.pool, model.up)):
            block.export_hdf5(file.create_group(f"layer/{index}"))
    with pytest.raises(NotImplementedError):
        Network(str(tmp_path / "skip.net"), input_shape=(8, 8, 1))


def test_the_example_goes_through_the_command_line(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        example.main(tmp_path, epochs=0)
    monkeypatch.chdir(ROOT / "examples")
    inputs = {"chain": (64, tmp_path / "x.npy"), "skip": ("1x8x8", tmp_path / "pixels.npy")}
    for name, (shape, file) in inputs.items():
        weights, pipeline = tmp_path / f"{name}.pt", tmp_path / f"{name}.h5"
        options = ("--input", shape, "-T", 16, "--weights", weights, "--calibration", file, "-o", pipeline)
        exported = summary("export", f"slayer_digits:{name}", *options)
        assert set(exported["networks"]["network"]["float_agreement"]["spikes"].values()) == {1.0}
        succeed("run", pipeline, "--input", file, "-n", 8, "-o", tmp_path / "y.npy")
        model = getattr(example, name)().eval()
        model.load_state_dict(torch.load(weights, weights_only=True))
        with torch.no_grad():
            rates = model(torch.from_numpy(np.load(file)[:8]).movedim(1, -1)).mean(-1)
        np.testing.assert_array_equal(np.load(tmp_path / "y.npy")[..., 0, 0], rates.numpy())  # of 1/16: exact
        assert rates.any() or name == "chain"


def test_spikingjelly_on_lava() -> None:
    """On weights that integers hold, Lava fires as SpikingJelly itself does."""
    from spikingjelly.activation_based import functional, layer, neuron

    model = nn.Sequential(
        layer.SeqToANNContainer(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)),
        neuron.IFNode(step_mode="m"),
        layer.SeqToANNContainer(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 5)),
        neuron.IFNode(step_mode="m"),
    )
    on_grid(model, seed=3)
    spec = InputSpec((1, 8, 8), T, bits=3, largest=7.0)
    program = export_module(model, spec).network("network")
    images = np.random.default_rng(4).integers(-7, 8, (IMAGES, 1, 8, 8)).astype(np.float32)
    found = messages(program, "3", images)
    functional.reset_net(model)
    with torch.no_grad():
        sent = model(torch.from_numpy(images).expand(T, *images.shape)).transpose(0, 1).numpy()
    np.testing.assert_array_equal(sent, found)


def _shaped(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return features[..., None, None].astype(np.float64)
