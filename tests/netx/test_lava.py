"""netx itself, on Lava: the files that are written and read here give equal spikes."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import torch

from spikegen.exporters.netx.chain import layers
from spikegen.exporters.netx.convert import import_netx
from spikegen.exporters.netx.synapses import dense_currents
from spikegen.exporters.netx.write import netx_file
from spikegen.lowering.export_module import InputSpec, export_module
from spikegen.program import Lif, Program
from spikegen.simulator import Simulator
from tests.netx.chains import chain, frames, netx, scaled
from tests.netx.slayer import block, spikes, written

pytestmark = [
    pytest.mark.lava,
    pytest.mark.filterwarnings("ignore:torch.nn.utils.weight_norm is deprecated:UserWarning"),
]
T = 8
EXPORTED: Mapping[str, Program] = {
    "messages of 4 bits": chain(8, bits=4),
    "a current is read": chain(5, current=True),
    "scaled": scaled(),
}
Found = Mapping[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]


def convolutions() -> list[torch.nn.Module]:
    torch.manual_seed(0)
    return [
        block("Conv", 2, 4, 3, padding=1, weight_norm=True, weight_scale=2),
        block("Conv", 4, 4, 3, stride=2, groups=2, weight_scale=3),
        block("Flatten"),
        block("Dense", 24, 5, weight_norm=True, weight_scale=3),
    ]


def delayed() -> list[torch.nn.Module]:
    torch.manual_seed(1)
    return [block("Dense", 12, 8, weight_scale=4, delay=True), block("Dense", 8, 5, weight_scale=4, delay=True)]


IMAGES = np.random.default_rng(2).random((2, T, 2, 5, 8)) < 0.4
FEATURES = np.random.default_rng(3).random((1, 2 * T, 12)) < 0.4


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Spikes and last membranes of every file; one process runs them all."""
    folder = tmp_path_factory.mktemp("netx")
    jobs: dict[str, tuple[Path, npt.NDArray[Any], int]] = {}
    for index, (name, program) in enumerate(EXPORTED.items()):
        file = folder / f"{index}.net"
        file.write_bytes(netx_file(program))
        jobs[name] = (file, frames(program), program.input.bits)
    for name, (blocks, inputs) in {"SLAYER": (convolutions(), IMAGES), "delays": (delayed(), FEATURES)}.items():
        spikes(blocks, inputs)
        jobs[name] = (written(blocks, folder / f"{name}.net"), inputs, 0)
    return dict(zip(jobs, netx([*jobs.values()], folder), strict=True))


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_chains(name: str, found: Found) -> None:
    program = EXPORTED[name]
    sent, membrane = found[name]
    expected = Simulator(program).evaluate(frames(program), 0, record=True)
    last = program.populations[-2].name
    spiking = expected.messages[last]
    assert 0.05 < spiking.mean() < 0.95
    if name == "a current is read":
        assert not sent.any()
        current = expected.readouts["out"][-1, -1]
        assert current.any()
        np.testing.assert_array_equal(membrane.ravel(), current.ravel() * 64)
    else:
        np.testing.assert_array_equal(sent.reshape(spiking.shape), spiking)


def test_what_slayer_writes(found: Found, tmp_path: Path) -> None:
    """SLAYER, its file on netx, the same file imported, and its module exported: one set of spikes."""
    blocks = convolutions()
    expected = spikes(blocks, IMAGES)
    assert 0.05 < expected.mean() < 0.95
    np.testing.assert_array_equal(found["SLAYER"][0].reshape(expected.shape), expected)
    imported = import_netx(written(blocks, tmp_path / "a.net"), T, (2, 5, 8))
    assert imported.warnings == ()
    program = imported.pipeline.network("network")
    sent = Simulator(program).evaluate(IMAGES.astype(np.int32), 0, record=True)
    np.testing.assert_array_equal(sent.messages["layer3"].reshape(expected.shape), expected)
    model = torch.nn.Sequential(*blocks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.fx, about SLAYER's blocks
        lowered = export_module(model, InputSpec((2, 5, 8), T), inputs=IMAGES.astype(np.float64)).network("network")
    sent = Simulator(lowered).evaluate(IMAGES.astype(np.int32), 0, record=True)
    np.testing.assert_array_equal(sent.messages["3.neuron"].reshape(expected.shape), expected)
    with h5py.File(tmp_path / "a.net") as theirs, h5py.File(io.BytesIO(netx_file(lowered))) as ours:
        for index in (0, 1, 3):
            one, two = theirs[f"layer/{index}"], ours[f"layer/{index + 1}"]
            assert one["type"][0] == two["type"][0]
            for key in ("weight", "neuron/iDecay", "neuron/vDecay", "neuron/vThMant"):
                np.testing.assert_array_equal(one[key][()], two[key][()], key)


def test_delays(found: Found, tmp_path: Path) -> None:
    """netx delays the synapses into a layer, SLAYER its spikes; within one window that is the same."""
    blocks = delayed()
    expected = spikes(blocks, FEATURES)
    assert 0.05 < expected.mean() < 0.95
    np.testing.assert_array_equal(found["delays"][0].reshape(expected.shape), expected)
    program = import_netx(written(blocks, tmp_path / "a.net"), 2 * T).pipeline.network("network")
    sent = Simulator(program).evaluate(FEATURES[..., None, None].astype(np.int32), 0, record=True)
    np.testing.assert_array_equal(sent.messages["layer1"].reshape(expected.shape), expected)
    first = program.populations[0]
    assert isinstance(first, Lif)
    assert first.delays.max() == 3


def test_weights_as_netx_changes_them() -> None:
    """The rule in numpy beside the code of lava-dl and Lava, for weights of all kinds."""
    from lava.lib.dl.netx.utils import optimize_weight_bits
    from lava.utils.weightutils import clip_weights, determine_sign_mode, truncate_weights

    def lava(weight: npt.NDArray[np.int64]) -> tuple[npt.NDArray[Any], int] | None:
        try:
            stored, bits, exponent, _ = optimize_weight_bits(weight)
        except OverflowError:
            return None
        mode = determine_sign_mode(stored)
        stored = truncate_weights(clip_weights(stored, mode, num_bits=8), mode, bits)
        if exponent > 0 or (stored % (1 << -exponent)).any():
            return None
        return stored >> -exponent, bits

    rng = np.random.default_rng(0)
    changed = 0
    for _ in range(2000):
        span = int(rng.choice([1, 2, 5, 60, 127, 128, 200, 255, 256, 300, 1000]))
        low, high = sorted((int(rng.choice([-span, 0, -span // 3])), int(rng.choice([span, 0, span // 5]))))
        step = int(rng.choice([1, 2, 4]))
        weight = rng.integers(low, high + 1, (3, 4)) // step * step
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(divide="ignore"):
            expected = lava(weight)
        result = dense_currents(weight)
        assert (expected is None) == (result is None)
        if expected is not None and result is not None:
            np.testing.assert_array_equal(result[0], expected[0])
            assert result[1] == expected[1]
            changed += (result[0] != weight).any()
    assert changed > 20


def test_scaling_is_what_makes_it_fit() -> None:
    program = EXPORTED["scaled"]
    shifts = {layer.population.name: layer.shift for layer in layers(program)}
    assert shifts == {"layer1": -1, "layer2": 2, "layer3": 0}
