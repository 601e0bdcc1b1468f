"""Files of other frameworks (make_files.py, make_spikingjelly_file.py): their spikes in float, in integers, on Lava."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nir
import numpy as np
import numpy.typing as npt
import pytest
import torch

from spikegen.exporters.nir.convert import Imported, InputRange, import_nir
from spikegen.exporters.nir.float_run import run_float
from spikegen.exporters.nir.structure import read_structure
from spikegen.exporters.nir.walk import walk
from spikegen.program import Conv, Lif, Program, Relay
from spikegen.simulator import Simulator
from tests.nir.graphs import chain, weights, written

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FILES = Path(__file__).parent / "files"
T = 16
STEPS = {"snntorch": 1e-4, "norse": 1e-3, "spikingjelly": 1e-4}  # dt of each framework
AT_THRESHOLD = {"spikingjelly"}  # fires at >=
SIXTEENTHS = InputRange(bits=5, largest=31 / 16)  # the digits are whole sixteenths


def recorded(name: str) -> tuple[Array, dict[str, Array]]:
    """The images [N, C, H, W] and the framework's own spikes [N, T, C, H, W]."""
    with np.load(FILES / f"{name}.npz") as file:
        images = file["images"].astype(np.float64)
        spikes = {key.split(".")[1]: file[key] for key in file if key != "images"}
    flat = images.reshape(len(images), -1, 1, 1) if images.ndim == 2 else images
    return flat, {key: s.reshape(*s.shape, *([1] * (5 - s.ndim))).astype(np.float64) for key, s in spikes.items()}


@pytest.mark.parametrize("name", STEPS)
def test_the_float_network_fires_as_the_framework(name: str) -> None:
    images, wanted = recorded(name)
    spikes: dict[str, Array] = {}
    walked = walk(read_structure(FILES / f"{name}.nir"), T, STEPS[name], at_threshold=name in AT_THRESHOLD)
    run_float(walked, images, lambda key, found: spikes.update({key: found.numpy()}))
    assert set(spikes) == set(wanted)
    for key, found in spikes.items():
        np.testing.assert_array_equal(found, wanted[key], err_msg=key)
        assert 0.02 < found.mean() < 0.5


@pytest.fixture(scope="module", params=STEPS)
def case(request: pytest.FixtureRequest) -> tuple[str, Imported]:
    images, _ = recorded(request.param)
    path = FILES / f"{request.param}.nir"
    at_threshold = request.param in AT_THRESHOLD
    found = import_nir(path, T, STEPS[request.param], lambda _: images, SIXTEENTHS, at_threshold=at_threshold)
    return request.param, found


def integer_run(graph: nir.NIRGraph, program: Program, frames: Integers, dt: float) -> Mapping[str, Integers]:
    """Spikes of the source's own recurrences in whole numbers, with its weights rounded to the Program's grid.

    What is the Program's is the grid (LSB, exponents), thresholds and biases in it. Weights and decays are the file's.
    """
    sent = {"input": np.repeat(frames[:, None], T, axis=1).astype(np.int64)}
    for population in program.populations:
        (projection,) = program.into(population.name)
        a = current(graph, program, projection, sent[projection.source])
        if isinstance(population, Relay):
            sent[population.name] = a
        if not isinstance(population, Lif):
            continue
        node = graph.nodes[population.name]
        tau = np.array(np.inf) if isinstance(node, nir.IF) else node.tau if isinstance(node, nir.LIF) else node.tau_mem
        kept = 4096 - round(4096 * dt / float(tau.flat[0]))
        kept_current = 4096 - round(4096 * dt / float(node.tau_syn.flat[0])) if isinstance(node, nir.CubaLIF) else 0
        bias = (population.bias_mant.astype(np.int64) << population.bias_exp)[:, None, None]
        u = v = np.zeros_like(a[:, 0])
        spikes = np.zeros_like(a)
        for t in range(T):
            u = np.fix(u * kept_current / 4096).astype(np.int64) + a[:, t] * 64
            v = np.fix(v * kept / 4096).astype(np.int64) + u + bias
            spikes[:, t] = v > population.vth * 64
            v = np.where(spikes[:, t] == 1, 0, v)
        sent[population.name] = spikes
    return sent


def current(graph: nir.NIRGraph, program: Program, conv: Any, messages: Integers) -> Integers:
    """The current of a projection whose weights are the file's, rounded."""
    assert isinstance(conv, Conv)
    target, source = program.nodes[conv.target], program.nodes[conv.source]
    before = [start for start, end in graph.edges if end == conv.target]
    real = np.full(conv.weight.shape, 0.25)  # the pool, where the target is a relay
    if before and hasattr(graph.nodes[before[0]], "weight"):
        real = graph.nodes[before[0]].weight.astype(np.float64).reshape(conv.weight.shape)
    elif not isinstance(target, Relay):
        real = np.ones(conv.weight.shape)
    unit = 1.0 if isinstance(source, Lif) else source.scale
    step = target.scale * 2.0**conv.exponent / unit
    rounded = np.clip(np.rint(real / step), -128, 127)
    np.testing.assert_array_equal(rounded, conv.weight, err_msg=conv.name)
    y = torch.nn.functional.conv2d(
        torch.from_numpy(messages.astype(np.float64)).flatten(0, 1),
        torch.from_numpy(rounded * 2.0**conv.exponent),
        None,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
    )
    whole: Integers = y.unflatten(0, messages.shape[:2]).numpy().astype(np.int64)
    return whole


def test_the_program_fires_as_the_integer_run_of_the_source(case: tuple[str, Imported]) -> None:
    name, found = case
    images, wanted = recorded(name)
    program = found.pipeline.network("network")
    frames = program.input.quantize(images)
    messages = Simulator(program).evaluate(frames, 0, record=True).messages
    expected = integer_run(nir.read(FILES / f"{name}.nir"), program, frames.astype(np.int64), STEPS[name])
    for key, spikes in wanted.items():
        np.testing.assert_array_equal(messages[key], expected[key], err_msg=key)
        # how near that is to the framework's own floats is reported, here with its very spikes: inputs are exact
        assert found.agreement[key] == np.mean(messages[key] == spikes)
        assert found.agreement[key] > 0.9


@pytest.mark.lava
def test_lava_fires_alike(case: tuple[str, Imported]) -> None:
    from spikegen.exporters.lava import LavaTarget  # the other tests need no Lava

    name, found = case
    program = found.pipeline.network("network")
    frames = program.input.quantize(recorded(name)[0][:3])
    expected = Simulator(program).evaluate(frames, 0, record=True)
    with LavaTarget(program, images=3, timeout=60) as target:
        sent = target.evaluate(frames, 0, record=True)
    for key, messages in expected.messages.items():
        np.testing.assert_array_equal(sent.messages[key], messages, err_msg=key)
    for key, readout in expected.readouts.items():
        np.testing.assert_array_equal(sent.readouts[key], readout, err_msg=key)


@pytest.mark.parametrize("leaky", [False, True])
def test_spikingjelly_fires_at_its_threshold(leaky: bool, tmp_path: Path) -> None:
    """Its nodes as its exporter writes them (``nir_exchange/to_nir.py`` of 0.0.0.1.0): r = 1/dt, or tau = tau dt."""
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron", reason="spikingjelly is not installed")
    dt, full, size = 1e-4, np.ones((3, 5, 5)), (3, 5, 5)
    conv = nir.Conv2d((5, 5), weights(3, 1, 3, 3), (1, 1), (1, 1), (1, 1), 1, weights(3, seed=2))
    node = neuron.IFNode(v_threshold=1.0, v_reset=0.0, step_mode="m")
    written_as: nir.NIRNode = nir.IF(full / dt, full, full * 0.0)
    if leaky:
        node = neuron.LIFNode(tau=2.0, decay_input=False, v_threshold=1.0, v_reset=0.0, step_mode="m")
        written_as = nir.LIF(full * 2.0 * dt, full * 2.0, full * 0.0, full, full * 0.0)
    path = written(chain((1, 5, 5), conv, written_as, out=size), tmp_path / "jelly.nir")
    images = np.random.default_rng(1).integers(0, 5, (6, 1, 5, 5)) / 4.0
    layer = torch.nn.functional.conv2d(
        torch.from_numpy(images), torch.from_numpy(conv.weight), torch.from_numpy(conv.bias), padding=1
    )
    wanted = node(layer.expand(T, *layer.shape)).transpose(0, 1).numpy()
    spikes: dict[bool, npt.NDArray[np.int32]] = {}
    for at_threshold in (False, True):
        found = import_nir(path, T, dt, lambda _: images, InputRange(3, 7 / 4), at_threshold=at_threshold)
        program = found.pipeline.network("network")
        frames = program.input.quantize(images)
        spikes[at_threshold] = Simulator(program).evaluate(frames, 0, record=True).messages["n1"]
    assert not leaky or np.mean(spikes[True] == wanted) > 0.95  # its state is rounded
    if not leaky:
        np.testing.assert_array_equal(spikes[True], wanted)
    assert (spikes[False] != wanted).any()
    assert wanted.any()
