"""Programs as NIR graphs: random ones mean the same, what would mean something else is refused, losses are told."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import nir
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings

from spikegen.errors import ConfigError, ExchangeError
from spikegen.exporters.nir.convert import import_nir
from spikegen.exporters.nir.losses import losses, refusals
from spikegen.exporters.nir.primitives import PRIMITIVES
from spikegen.exporters.nir.write import nir_graph, write_nir
from spikegen.program import Conditioning, Conv, Dense, Input, Lif, Pipeline, Program, Readout, Relay, Standalone, load
from spikegen.program.target import streamed_frames
from spikegen.simulator import Simulator
from tests.cli.commands import contents, refuse, succeed
from tests.nir.graphs import DT, EXAMPLES, written
from tests.nir.reference import evaluate
from tests.program.examples import alone
from tests.strategies import frames, programs


def with_delays(program: Program) -> Program:
    """Of about every second neuron one timestep."""

    def late(shape: tuple[int, int, int]) -> npt.NDArray[np.int32]:
        return np.arange(math.prod(shape), dtype=np.int32).reshape(shape) % 2

    populations = tuple(
        dataclasses.replace(p, delays=late(p.shape)) if isinstance(p, Lif) else p for p in program.populations
    )
    return dataclasses.replace(program, populations=populations)


def without_leak(program: Program) -> Program:
    """IF neurons without conditioning, whose arithmetic is exact in floating point."""
    populations = tuple(dataclasses.replace(p, du=4095, dv=0) if isinstance(p, Lif) else p for p in program.populations)
    return dataclasses.replace(program, populations=populations, conditioning=Conditioning(1))


@settings(max_examples=25)
@given(st.data())
def test_random_programs_mean_the_same(data: st.DataObject) -> None:
    program = without_leak(data.draw(programs(gains=False, clocks=False, max_populations=4, max_size=5)))
    readouts = {p.name: dataclasses.replace(p, bias=p.bias[0]) for p in program.readouts()}
    program = dataclasses.replace(program, populations=tuple(readouts.get(p.name, p) for p in program.populations))
    assume(not refusals(program))
    if data.draw(st.booleans(), label="delays"):
        program = with_delays(program)
    given_frames = data.draw(frames(program, images=(1,)))
    result = Simulator(program).evaluate(given_frames, 0, record=True)
    graph = nir_graph(program, DT)
    real = streamed_frames(program, given_frames)[0] * program.input.scale
    shape = next(node.input_type["input"] for node in graph.nodes.values() if isinstance(node, nir.Input))
    values = evaluate(graph, real.reshape(program.timesteps, *map(int, shape)), DT)
    for population in program.populations:
        if isinstance(population, Readout):
            wanted = result.readouts[population.name][0] * population.scale + population.bias[:, :, None, None]
        else:
            wanted = result.messages[population.name][0] * (population.scale if isinstance(population, Relay) else 1.0)
        sent = f"{population.name}_delay"
        found = values[sent if sent in values else population.name].reshape(wanted.shape)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9, err_msg=population.name)


PORT = Input("in", (2, 4, 4), 4, 1 / 16)


def small(**changes: Any) -> Program:
    """input -> conv -> a Lif -> a readout, with changes of "lif", "conv", "readout" or the program itself."""
    conv = Conv("in->a", "in", "a", np.ones((2, 2, 3, 3), np.int8), 1, padding=(1, 1))
    lif = Lif("a", (2, 4, 4), 40, 4095, 0, np.array([3, -5]), 2)
    readout = Readout("out", (2, 4, 4), np.ones(4), np.zeros(2))
    out = Conv("a->out", "a", "out", np.ones((2, 1, 1, 1), np.int8), 0, groups=2)
    lif = dataclasses.replace(lif, **changes.pop("lif", {}))
    conv = dataclasses.replace(conv, **changes.pop("conv", {}))
    readout = dataclasses.replace(readout, **changes.pop("readout", {}))
    base = Program("small", 4, PORT, (lif, readout), (conv, out))
    return dataclasses.replace(base, **changes)


def test_a_small_program_is_not_refused() -> None:
    assert refusals(small()) == []
    nodes = nir_graph(small()).nodes
    assert {name: type(node).__name__ for name, node in nodes.items()} == {
        "in": "Input",
        "in_to_a": "Conv2d",
        "a": "IF",
        "out": "Output",
    }


def test_the_table_says_what_is_written(tmp_path: Path) -> None:
    """Of all examples and a Relay, every row that is written for something appears, and no other."""
    relay = Relay("r", (2, 4, 4), 12, 0.5)
    parts = small().projections[0], Conv("r->out", "r", "out", np.ones((2, 2, 3, 3), np.int8), 1, padding=(1, 1))
    into = dataclasses.replace(parts[0], target="r")
    programs_written = [small(populations=(relay, small().populations[1]), projections=(into, parts[1]))]
    for name, example in EXAMPLES.items():
        path = written(example(), tmp_path / f"{name}.nir")
        programs_written.append(import_nir(path, 2, DT).pipeline.network("network"))
    kinds = {type(node).__name__ for program in programs_written for node in nir_graph(program, DT).nodes.values()}
    assert kinds == {name for name, row in PRIMITIVES.items() if row.written}


REFUSED: dict[str, tuple[Program, str]] = {
    "gains": (small(conv={"gains": np.array([1, 2, 1, 1])}), "in->a: its gain differs between timesteps (TSM)"),
    "conditioning": (
        small(conditioning=Conditioning(2, {"a": np.array([[0, 0], [1, 0]])})),
        "a: its bias depends on the diffusion step (conditioning)",
    ),
    "shuffle": (
        small(
            conv={"weight": np.ones((8, 2, 2, 2), np.int8), "stride": (2, 2), "padding": (0, 0), "shuffle": 2},
        ),
        "in->a: it shuffles sub-pixels",
    ),
    "bias": (
        small(readout={"bias": np.arange(8.0).reshape(4, 2)}),
        "out: its bias differs between timesteps",
    ),
    "membrane": (small(lif={"du": 2047}), "a: its current decays and its membrane does not; CubaLIF leaks"),
    "clock": (small(projections=small().projections[1:]), "a: it hears nothing and fires by its bias alone"),
    "image": (
        small(
            projections=(
                Dense("in->a", "in", "a", np.ones((32, 32), np.int8), 1),
                Conv("a->out", "a", "out", np.ones((2, 2, 3, 3), np.int8), 1, padding=(1, 1)),
            )
        ),
        "a->out: it is a convolution, and a or out is a list of neurons in NIR",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_mean_something_else_is_refused(name: str, tmp_path: Path) -> None:
    program, message = REFUSED[name]
    with pytest.raises(ExchangeError) as error:
        write_nir(alone(program), tmp_path / "a.nir")
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


def test_all_reasons_are_told_at_once() -> None:
    program = small(
        lif={"du": 2047},
        conv={"gains": np.array([1, 2, 1, 1])},
        conditioning=Conditioning(2, {"a": np.array([[0, 0], [1, 0]])}),
    )
    with pytest.raises(ExchangeError) as error:
        nir_graph(program)
    for part in ("a: its bias depends", "a: its current decays", "in->a: its gain"):
        assert part in str(error.value)


def test_gains_that_are_all_the_same_are_a_factor() -> None:
    graph = nir_graph(small(conv={"gains": np.full(4, 3)}))
    np.testing.assert_array_equal(graph.nodes["in_to_a"].weight, nir_graph(small()).nodes["in_to_a"].weight * 3)


def test_losses() -> None:
    found = losses(small(readout={"weights": np.array([1.0, 2.0, 3.0, 4.0])}))
    text = "\n".join(found)
    for part in (
        "input: it is rounded to whole multiples of 0.0625, 4 bits and a sign",
        "arithmetic: integers of 24 bits",
        "window: states start at 0 and end after T = 4 timesteps",
        "levels: the delays of projections, which align frames on Lava, are left out; axonal delays are Delay",
        "out: the host's weighted sum over time is left out",
    ):
        assert part in text
    assert len(found) == 5


def test_axonal_delays_are_a_node_that_all_readers_read() -> None:
    delays = np.arange(32, dtype=np.int32).reshape(2, 4, 4)
    graph = nir_graph(small(lif={"delays": delays}), DT)
    np.testing.assert_array_equal(graph.nodes["a_delay"].delay, delays * DT)
    assert graph.edges == [("in", "in_to_a"), ("in_to_a", "a"), ("a", "a_delay"), ("a_delay", "out")]
    assert "a_delay" not in nir_graph(small(lif={"delays": delays * 0}), DT).nodes


def test_populations_may_have_the_names_of_what_is_written_beside_them() -> None:
    late = with_delays(small()).populations[0]
    listed = Lif("a_delay_flat", (3, 1, 1), 40, 4095, 0, np.zeros(3, np.int16), 0)
    dense = [
        Dense(f"{a}->{b}", a, b, np.ones((3, n), np.int8), 0)
        for a, b, n in (("a", listed.name, 32), (listed.name, "out", 3))
    ]
    out = Readout("out", (3, 1, 1), np.ones(4), np.zeros(3))
    graph = nir_graph(small(populations=(late, listed, out), projections=(small().projections[0], *dense)), DT)
    kinds = {name: type(node).__name__ for name, node in graph.nodes.items() if "_to_" not in name}
    assert kinds == {
        "in": "Input",
        "a": "IF",
        "a_delay": "Delay",
        "a_delay_flat_2": "Flatten",
        "a_delay_flat": "IF",
        "out": "Output",
    }


def test_a_bias_past_the_decay_of_the_current_is_a_v_leak() -> None:
    program = small(lif={"du": 2047, "dv": 1024})
    node = nir_graph(program, DT).nodes["a"]
    np.testing.assert_array_equal(node.v_leak[:, 0, 0], np.array([12, -20]) / 64 * 4)
    assert "a: a bias past the decay of the current becomes a v_leak" in "\n".join(losses(program))


def test_there_and_back_as_a_user_does_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(EXAMPLES["Flatten"](), Path("a.nir"))
    np.save("x.npy", np.random.default_rng(0).integers(0, 8, (4, 1, 4, 4)) / 8.0)
    options = (
        "--from",
        "nir",
        "-T",
        6,
        "--dt",
        DT,
        "--calibration",
        "x.npy",
        "--input-bits",
        3,
        "--input-range",
        0.875,
    )
    result = succeed("import", "a.nir", *options, "-o", "a.h5")
    assert "spikes equal to the float network's: n1 1.0000, n4 1.0000" in result.stdout
    result = succeed("export", "a.h5", "--to", "nir", "--dt", DT, "-o", "b.nir")
    assert "Lost: window: states start at 0" in result.stderr
    succeed("import", "b.nir", *options, "-o", "b.h5")
    for name in ("a", "b"):
        succeed("run", f"{name}.h5", "--input", "x.npy", "-o", f"{name}.npy")
    np.testing.assert_array_equal(np.load("a.npy"), np.load("b.npy"))
    assert np.load("a.npy").any()
    provenance = load("a.h5").provenance
    assert provenance["source"] == "NIR file a.nir"
    assert float(provenance["dt"]) == DT


def test_options_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(EXAMPLES["IF"](), Path("a.nir"))
    base = ("import", "a.nir", "-o", "a.h5", "--from")
    refuse(2, "a NIR file does not say T; give it", *base, "nir")
    refuse(2, "--dataset is an option of sddpm, sdm, spiking-diffusion, not of nir", *base, "nir", "--dataset", "mnist")
    refuse(2, "--dt is an option of nir, not of sddpm", *base, "sddpm", "--dt", 1)
    refuse(1, "there is no such file", *base, "nir", "-T", 4, "--calibration", "none.npy")
    before = contents()
    Path("b.nir").write_bytes(before["a.nir"][:900])
    refuse(1, "b.nir: not a readable NIR file", "import", "b.nir", "-o", "a.h5", "--from", "nir", "-T", 4)
    with pytest.raises(ConfigError, match=r"the name of a NIR file ends in \.nir"):
        write_nir(Pipeline("a", Standalone(), {"network": small()}), "a.h5")
