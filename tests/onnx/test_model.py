"""What a model holds, where its arithmetic is at its edge, and what is refused."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from spikegen.errors import BackendError, ConfigError
from spikegen.exporters.onnx import OnnxTarget, graph, network_model
from spikegen.program import Conditioning, Conv, Dense, Input, Lif, Population, Program, Readout, Relay, overflow_risks
from spikegen.runtime import open_target
from spikegen.simulator import Simulator
from tests.onnx.comparison import assert_equal, compared
from tests.program.examples import changed, every_field, pointwise


def names(ports: list[onnx.ValueInfoProto]) -> list[str]:
    return [port.name for port in ports]


def kinds(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}


def summed(reach: int, inputs: int) -> Program:
    """``inputs`` messages up to ``reach``, summed with the smallest weight and with the largest."""
    weight = np.repeat(np.array([-128, 127], dtype=np.int8)[:, None], inputs, axis=1)[..., None, None]
    high = np.full(inputs, reach)
    port = Input("in", (inputs, 1, 2), reach.bit_length(), 1.0, -high, high)
    readout = Readout("out", (2, 1, 2), np.ones(1), np.zeros(2))
    return Program("sums", 1, port, (readout,), (Conv("w", "in", "out", weight, 0),))


@pytest.mark.parametrize(
    ("reach", "inputs", "digits"),
    [
        ((1 << 16) - 1, 2, 1),  # times 2 * 128 just below 2^24
        (1 << 16, 2, 2),
        ((1 << 22) + 3, 4, 2),
        ((1 << 23) - 1, 2, 2),
        ((1 << 20) + 1, 300, 3),
        ((1 << 23) - 1, 514, 4),
    ],
)
def test_sums_that_float32_does_not_hold_are_made_of_digits(reach: int, inputs: int, digits: int) -> None:
    """A readout has 23 bits, so large messages of one half meet nearly the same of the other sign."""
    program = summed(reach, inputs)
    assert sum(node.op_type == "Conv" for node in network_model(program).graph.node) == digits
    rng = np.random.default_rng(0)
    half = rng.integers(-reach, reach + 1, (20, inputs // 2, 1, 2))
    half[:3] = np.array([reach, -reach, reach - 1])[:, None, None, None]
    rest = -half + rng.integers(-9, 10, half.shape)
    frames = np.concatenate([half, rest], axis=1).clip(-reach, reach).astype(np.int32)
    found = compared(program, frames)
    assert len(np.unique(found.readouts["out"])) > 20


def test_dense_sums_of_digits() -> None:
    rng = np.random.default_rng(1)
    port = Input("in", (40, 2, 3), 20, 1.0)
    weight = rng.integers(-128, 128, (4, 240)).astype(np.int8)
    program = Program(
        "dense",
        3,
        port,
        (Readout("out", (4, 1, 1), np.ones(3), np.zeros(4)),),
        (Dense("w", "in", "out", weight, 0, gains=np.array([1, -2, 0], dtype=np.int32)),),
    )
    assert sum(node.op_type == "MatMul" for node in network_model(program).graph.node) > 1
    frames = rng.integers(-900, 901, (6, *port.shape)).astype(np.int32)
    frames[0, 0, 0, 0], frames[1, 3, 1, 2] = (1 << 14) + 1, -(1 << 14) - 1
    compared(program, frames)


@pytest.mark.parametrize(
    ("factors", "gains"),
    [
        ((127, 127, 127, -126, -126, -126), ()),
        ((65, 66, -60, -54), ()),  # just beyond
        ((127, 127, 127, -126, -126, -126), (1023, -1)),
        ((127, 127, 127, -126, -126, -126), (1, 1022)),
    ],
)
def test_sums_over_projections_that_float32_does_not_hold(factors: tuple[int, ...], gains: tuple[int, ...]) -> None:
    """Each sum fits or is made of digits, but what lies between them is odd and beyond 2^24."""
    reach = 1023 if gains else (1 << 17) - 1
    projections = tuple(
        Conv(f"w{i}", "in", "out", np.full((1, 1, 1, 1), w, dtype=np.int8), 0, gains=np.array(gains, dtype=np.int32))
        for i, w in enumerate(factors)
    )
    projections += (Conv("shift", "in", "out", np.ones((1, 1, 3, 3), dtype=np.int8), 0, padding=(1, 1)),)
    port = Input("in", (1, 5, 5), reach.bit_length(), 1.0)
    program = Program("sums", 2, port, (Readout("out", (1, 5, 5), np.ones(2), np.zeros(1)),), projections)
    rng = np.random.default_rng(0)
    frames = (reach - 2 * rng.integers(0, 200, (4, 1, 5, 5))) * rng.choice([-1, 1], (4, 1, 5, 5))
    compared(program, frames.astype(np.int32))


def test_a_neuron_with_too_many_synapses_is_refused() -> None:
    program = summed(1, (1 << 16) + 1)
    with pytest.raises(ConfigError, match="w: the weights of a neuron sum up to 8388736, an ONNX model takes 8388607"):
        network_model(program)


def test_currents_beyond_what_integers_hold_are_refused() -> None:
    program = changed(summed((1 << 23) - 1, 2000), "w", exponent=15)
    with pytest.raises(ConfigError, match=r"out: its current could reach .*, an ONNX model holds 4503599627370495"):
        network_model(program)


def narrow(kind: str) -> tuple[Program, int]:
    """A population whose current leaves its range for the largest message alone, a readout behind it, and that one."""
    high, exponent = {"lif": (2048, 1), "relay": (16, 0), "readout": (2048, 6)}[kind]
    port = Input("in", (1, 1, 1), 12, 1.0, np.array([-high]), np.array([high]))
    populations: dict[str, Population] = {
        "lif": Lif("p", (1, 1, 1), 3000, 4095, 100, np.zeros(1, dtype=np.int16), 0),
        "relay": Relay("p", (1, 1, 1), 10),
        "readout": Readout("p", (1, 1, 1), np.ones(2), np.zeros(1)),
    }
    projections = [Conv("in>p", "in", "p", np.full((1, 1, 1, 1), 64, dtype=np.int8), exponent)]
    nodes = [populations[kind]]
    if kind != "readout":
        nodes.append(Readout("out", (1, 1, 1), np.ones(2), np.zeros(1)))
        projections.append(Conv("p>out", "p", "out", np.ones((1, 1, 1, 1), dtype=np.int8), 0))
    return Program("narrow", 2, port, tuple(nodes), tuple(projections)), high


@pytest.mark.parametrize("kind", ["lif", "relay", "readout"])
def test_a_current_that_leaves_its_range_is_refused_as_by_the_simulator(kind: str) -> None:
    program, high = narrow(kind)
    assert "peak/p" in names(list(network_model(program).graph.output))
    for sign in (1, -1):
        frames = np.array([0, sign * (high - 1), sign * high], dtype=np.int32).reshape(3, 1, 1, 1)
        compared(program, frames[:2])
        for made in (OnnxTarget(program, threads=1), Simulator(program)):
            with made as target, pytest.raises(BackendError, match=r"p: its current reaches .*limit is "):
                target.evaluate(frames, 0)


def test_what_provably_fits_has_no_peak() -> None:
    assert not [name for name in names(list(network_model(every_field()).graph.output)) if name.startswith("peak/")]


@pytest.mark.parametrize(("du", "dv"), [(4095, 0), (1024, 0), (0, 128), (4095, 1), (0, 0), (4095, 4095), (100, 3000)])
@pytest.mark.parametrize(("reach", "exponent", "vth"), [(128, 3, 12_000), (128, 5, 131_071), (3, 0, 6)])
def test_many_neurons_at_their_edges(du: int, dv: int, reach: int, exponent: int, vth: int) -> None:
    """A decay that is off by one changes few spikes, so it takes many neurons with thresholds amid their membranes."""
    rng = np.random.default_rng(du + dv)
    count, steps = 1500, 8
    program = Program(
        "wide",
        steps,
        Input("in", (8, 1, 1), 4, 1.0),
        (
            Lif("n", (count, 1, 1), vth, du, dv, np.zeros(count, dtype=np.int16), 0),
            Readout("out", (1, 1, 1), np.ones(steps), np.zeros(1)),
        ),
        (
            Dense("w", "in", "n", rng.integers(-reach, reach, (count, 8)).astype(np.int8), exponent),
            Dense("o", "n", "out", np.ones((1, count), dtype=np.int8), 0),
        ),
    )
    assert overflow_risks(program) or exponent < 5
    frames = rng.integers(-15, 16, (2, 8, 1, 1)).clip(-reach, reach)
    for unroll in (True, False):
        compared(program, frames.astype(np.int32), unroll=unroll)


def test_the_threshold_is_not_reached_by_equality() -> None:
    """Membranes one below, at and one above the threshold."""
    port = Input("in", (3, 1, 1), 4, 1.0)
    neurons = Lif("n", (3, 1, 1), 9, 4095, 0, np.array([-1, 0, 1], dtype=np.int16), 0)
    eye = np.eye(3, dtype=np.int8)
    program = Program(
        "edge",
        1,
        port,
        (neurons, Readout("out", (3, 1, 1), np.ones(1), np.zeros(3))),
        (Dense("w", "in", "n", eye, 0), Dense("o", "n", "out", eye, 0)),
    )
    found = compared(program, np.full((1, 3, 1, 1), 9, dtype=np.int32))
    assert found.messages["n"].ravel().tolist() == [0, 0, 1]


def test_the_bias_is_that_of_the_step() -> None:
    table = np.array([[0, 0], [50, 0], [0, 70]], dtype=np.int16)
    program = dataclasses.replace(pointwise("p", Input("in", (1, 2, 2), 4, 1.0), 1), populations=(), projections=())
    neurons = Lif("n", (2, 2, 2), 40, 4095, 0, np.array([3, -3], dtype=np.int16), 6)
    one = np.ones((2, 1, 1, 1), dtype=np.int8)
    program = dataclasses.replace(
        program,
        populations=(neurons, Readout("out", (2, 2, 2), np.ones(2), np.zeros(2))),
        projections=(Conv("w", "in", "n", one, 0), Conv("o", "n", "out", one, 0, groups=2)),
        conditioning=Conditioning(3, {"n": table}),
    )
    frames = np.zeros((1, 1, 2, 2), dtype=np.int32)
    spikes = [compared(program, frames, step).counts.events["n"] for step in range(3)]
    assert spikes[0] == 0
    assert 0 < spikes[1] <= 8
    assert 0 < spikes[2] <= 8


def leaky(timesteps: int, delays: npt.ArrayLike = ()) -> Program:
    """Four leaky neurons on an input of 4 bits, and a readout of their spikes."""
    base = pointwise("p", Input("in", (1, 2, 2), 4, 1.0), 1)
    one = np.ones((1, 1, 1, 1), dtype=np.int8)
    return dataclasses.replace(
        base,
        timesteps=timesteps,
        populations=(
            Lif("n", (1, 2, 2), 40, 100, 50, np.array([3], dtype=np.int16), 6, delays=np.array(delays, np.int32)),
            Readout("out", (1, 2, 2), np.ones(timesteps), np.zeros(1)),
        ),
        projections=(Conv("w", "in", "n", one, 0), Conv("o", "n", "out", one, 0)),
    )


@pytest.mark.parametrize(("timesteps", "scans"), [(1, False), (32, False), (33, True), (1024, True)])
def test_long_runs_are_a_scan(timesteps: int, scans: bool) -> None:
    program = leaky(timesteps)
    model = network_model(program)
    assert ("Scan" in kinds(model)) == scans
    assert len(model.graph.node) < 500
    compared(program, np.arange(8, dtype=np.int32).reshape(2, 1, 2, 2))


@pytest.mark.parametrize("timesteps", [32, 33])
def test_axonal_delays_of_long_runs(timesteps: int) -> None:
    """What a neuron sends is later, by as much as its own delay says, and what is late for the end is not counted."""
    frames = np.array([9, 6, 15, 12, 0, 7, 3, 14], dtype=np.int32).reshape(2, 1, 2, 2)
    delays = np.array([[[0, 1], [20, timesteps]]])
    prompt = compared(leaky(timesteps), frames)
    late = compared(leaky(timesteps, delays), frames)
    for (_, row, column), delay in np.ndenumerate(delays):
        spikes = prompt.messages["n"][:, :, 0, row, column]
        expected = np.zeros_like(spikes)
        expected[:, delay:] = spikes[:, : timesteps - delay]
        np.testing.assert_array_equal(late.messages["n"][:, :, 0, row, column], expected)
        assert spikes.any()
    np.testing.assert_array_equal(late.readouts["out"], late.messages["n"])
    assert 0 < late.counts.events["n"] < prompt.counts.events["n"]


def test_outputs() -> None:
    program = every_field()
    readouts = ["readout/out", "readout/y"]
    senders = [p.name for p in program.populations if not isinstance(p, Readout)]
    for outputs, prefix in (("readouts", None), ("events", "events/"), ("messages", "messages/")):
        model = network_model(program, outputs)
        found = names(list(model.graph.output))
        assert sorted(found) == sorted(readouts + [f"{prefix}{name}" for name in senders if prefix])
        assert names(list(model.graph.input)) == ["frames", "step"]
        onnx.checker.check_model(model, full_check=True)
        assert {node.domain for node in model.graph.node} == {""}
    with pytest.raises(ConfigError, match="outputs is 'spikes', it must be one of readouts, events, messages"):
        network_model(program, "spikes")


def test_the_same_program_gives_the_same_file() -> None:
    first, second = (network_model(every_field()).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_a_model_beyond_what_a_file_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "BYTES_MAX", 100)
    with pytest.raises(ConfigError, match=r"example: its constants take [0-9]+ bytes, an ONNX file holds 100"):
        network_model(every_field())


def test_the_target_does_what_every_target_does() -> None:
    program = every_field()
    rng = np.random.default_rng(0)
    frames = rng.integers(-15, 16, (5, *program.input.shape)).astype(np.int32)
    expected = Simulator(program).evaluate(frames, 2, record=True)
    for batch in (1, 2, 5, 64):
        with open_target("onnx", program, images=batch) as target:
            assert_equal(target.evaluate(frames, 2, record=True), expected)
            with pytest.raises(ConfigError, match="in takes"):
                target.evaluate(frames[:, :, :2], 0)
            with pytest.raises(ConfigError, match=r"diffusion step is 3, the Program has 0\.\.2"):
                target.evaluate(frames, 3)
            assert target.evaluate(frames, 2).counts == expected.counts
        target.close()
        with pytest.raises(BackendError, match="closed"):
            target.evaluate(frames, 2)
    for batch, threads in ((0, 0), (1, -1)):
        with pytest.raises(ConfigError, match="at least 1 and 0 are needed"):
            OnnxTarget(program, batch, threads)
    with pytest.raises(ConfigError, match="the backend onnx takes no synapses"):
        open_target("onnx", program, images=1, synapses="conv")


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_without_its_packages_the_backend_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("spikegen.exporters.onnx")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(BackendError, match=r"ONNX needs the packages onnx and onnxruntime .*'spikegen\[onnx\]'"):
        open_target("onnx", every_field(), images=1)
