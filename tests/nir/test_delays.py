"""Delay nodes: which population has them, which are refused, and what the command says of them."""

from __future__ import annotations

import re
from pathlib import Path

import nir
import numpy as np
import numpy.typing as npt
import pytest

from spikegen.errors import ExchangeError
from spikegen.exporters.nir.convert import InputRange, import_nir
from spikegen.exporters.nir.structure import read_structure
from spikegen.exporters.nir.walk import Walked, walk
from spikegen.lowering.graph import NeuronOp
from spikegen.simulator import Simulator
from tests.cli.commands import succeed
from tests.nir.graphs import DT, EXAMPLES, T, chain, conv, fires, late, weights, written

STEPS = np.arange(32).reshape(2, 4, 4) % (T + 2)  # those of the example


def delays(walked: Walked) -> dict[str, npt.NDArray[np.int32]]:
    """Population -> its delays."""
    return {op.name: op.delays for op in walked.graph.ops if isinstance(op, NeuronOp)}


def walked(graph: nir.NIRGraph, folder: Path, dt: float = DT, *, spikes: bool = False) -> Walked:
    return walk(read_structure(written(graph, folder / "a.nir")), T, dt, spikes=spikes)


def test_a_delay_that_alone_reads_its_neurons_is_theirs_and_ends_with_the_window(tmp_path: Path) -> None:
    found = delays(walked(EXAMPLES["Delay"](), tmp_path))
    assert set(found) == {"n1", "n4"}
    np.testing.assert_array_equal(found["n1"], np.minimum(STEPS, T))
    assert found["n1"].dtype == np.int32
    assert not found["n4"].size


def test_spikes_that_others_read_too_are_copied_and_delays_in_a_row_add_up(tmp_path: Path) -> None:
    found = delays(walked(late(), tmp_path))
    assert set(found) == {"n1", "n2", "later", "n4", "n8"}  # `again` is in `later`, `none` changes nothing
    assert not found["n1"].size
    for name, wanted in {"n2": 1, "later": 4, "n8": 2}.items():
        np.testing.assert_array_equal(found[name], np.full_like(found[name], wanted), err_msg=name)
    np.testing.assert_array_equal(found["n4"], np.arange(32).reshape(2, 4, 4) % 2)
    assert found["n2"].shape == (2, 4, 4)


def test_a_nested_graph_only_passes_spikes_on(tmp_path: Path) -> None:
    inner = chain((2,), nir.Delay(np.full(2, DT)), out=(2,))
    found = delays(walked(chain((2,), fires(2), inner, fires(2), out=(2,)), tmp_path))
    assert {name: value.ravel().tolist() for name, value in found.items()} == {"n0": [1, 1], "n2": []}
    graph = chain((2,), fires(2), inner, fires(2), out=(2,))
    graph.edges.append(("n0", "n2"))
    found = delays(walked(graph, tmp_path))
    assert {name: value.ravel().tolist() for name, value in found.items()} == {"n0": [], "n1.n0": [1, 1], "n2": []}
    inner.nodes["beside"] = nir.Delay(np.full(2, 2 * DT))
    inner.edges += [("input", "beside"), ("beside", "output")]
    found = delays(walked(chain((2,), fires(2), inner, fires(2), out=(2,)), tmp_path))
    wanted = {"n0": [], "n1.n0": [1, 1], "n1.beside": [2, 2], "n2": []}
    assert {name: value.ravel().tolist() for name, value in found.items()} == wanted


def test_a_row_of_delays_counts_as_values(tmp_path: Path) -> None:
    """Else a small file could ask for any amount of work."""
    size = 1 << 12
    nodes = (fires(size), *[nir.Delay(np.array([DT]))] * 16)
    path = written(chain((size,), *nodes, out=(size,)), tmp_path / "a.nir")
    with pytest.raises(ExchangeError, match=r"n0: with it the graph has \d+ values .* the limits are"):
        walk(read_structure(path), 1024, DT)


def test_delays_in_a_row_end_with_the_window_too(tmp_path: Path) -> None:
    nodes = (fires(2), *[nir.Delay(np.array([(T - 1) * DT]))] * 3)
    found = delays(walked(chain((2,), *nodes, out=(2,)), tmp_path))
    np.testing.assert_array_equal(found["n0"].ravel(), [T, T])


def test_a_copy_that_others_read_keeps_its_own_delays(tmp_path: Path) -> None:
    graph = chain((2,), fires(2), nir.Delay(np.full(2, DT)), nir.Delay(np.full(2, DT)), out=(2,))
    graph.edges.append(("n1", "output"))
    found = delays(walked(graph, tmp_path))
    assert {name: value.ravel().tolist() for name, value in found.items()} == {"n0": [1, 1], "n2": [1, 1]}


@pytest.mark.parametrize("streamed", [True, False])
def test_the_spikes_of_the_input_go_through_a_copy(streamed: bool, tmp_path: Path) -> None:
    graph = chain((3,), nir.Delay(np.array([0, 2, 9]) * DT), nir.Linear(weights(4, 3)), fires(4), out=(4,))
    path = written(graph, tmp_path / "a.nir")
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 2, (5, T, 3, 1, 1) if streamed else (5, 3, 1, 1)).astype(np.int32)

    def calibration(shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
        assert shape == frames.shape[1:]
        return frames.astype(np.float64)

    found = import_nir(path, T, DT, calibration, InputRange(0, streamed=streamed))
    assert found.agreement == {"n0": 1.0, "n2": 1.0}
    sent = Simulator(found.pipeline.network("network")).evaluate(frames, 0, record=True).messages["n0"]
    given = frames if streamed else np.repeat(frames[:, None], T, axis=1)
    np.testing.assert_array_equal(sent[:, :, 0], given[:, :, 0])
    np.testing.assert_array_equal(sent[:, 2:, 1], given[:, :-2, 1])
    assert sent[:, 2:, 1].any()
    assert not sent[:, :2, 1].any()
    assert not sent[:, :, 2].any()


def test_a_delay_of_what_is_no_spikes(tmp_path: Path) -> None:
    after = nir.Delay(np.full((2, 4, 4), DT))
    cases = {
        "its input input is real-valued; a Program delays spikes only: put the Delay directly behind a neuron, before "
        "weights and sums; an input of spikes needs --input-bits 0": (after, fires(2, 4, 4)),
        "its input n0 is real-valued": (conv(2, 2, 3, 4), after, fires(2, 4, 4)),
    }
    for message, nodes in cases.items():
        with pytest.raises(ExchangeError, match=re.escape(f"n{len(nodes) - 2} (Delay): {message}")):
            walked(chain((2, 4, 4), *nodes, out=(2, 4, 4)), tmp_path)
    nothing = nir.Delay(np.zeros((2, 4, 4)))
    assert set(delays(walked(chain((2, 4, 4), nothing, fires(2, 4, 4), out=(2, 4, 4)), tmp_path))) == {"n1"}


@pytest.mark.parametrize(
    ("delay", "message"),
    [
        ([0.0, -1e-3], r"delay is -0.001 s, it must be at least 0"),
        ([0.0, 0.002, 0.001], r"delay has shape (3,), its input (2,)"),
        (
            [0.001, 0.0025],
            "delay is 0.0025 s, which is 2.5 timesteps of --dt 0.001; a Program delays by whole timesteps: --dt 0.0005",
        ),
        (
            [0.0, 0.0003],
            ": --dt 0.0001 would do, with 10 times the timesteps",
        ),
        (
            [0.001, 0.002468],
            ": the nearest for this delay is --dt 0.001234, or a delay of 0.002 s",
        ),
        ([np.nan, 0.001], "n1: delay has NaN or infinite values"),
        ([np.inf, 0.001], "n1: delay has NaN or infinite values"),
    ],
)
def test_delays_that_a_program_does_not_have(delay: list[float], message: str, tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match=re.escape(message)):
        walked(chain((2,), fires(2), nir.Delay(np.array(delay)), out=(2,)), tmp_path, 0.001)


@pytest.mark.parametrize(("delay", "steps"), [(1e308, T), (0.1234567, T), (0.003, 3), (np.float32(0.003), 3), (0.0, 0)])
def test_how_long_a_delay_is(delay: float, steps: int, tmp_path: Path) -> None:
    """What float32 rounds is whole, and what is later than the window is never, whole or not."""
    node = nir.Delay(np.array([delay, 0.001]))
    found = delays(walked(chain((2,), fires(2), node, out=(2,)), tmp_path, 0.001))["n0"]
    assert found.ravel().tolist() == [steps, 1]


def test_there_and_back_as_a_user_does_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(late(), Path("a.nir"))
    np.save("x.npy", np.random.default_rng(0).integers(0, 8, (4, 1, 4, 4)) / 8.0)
    options = (
        "--from",
        "nir",
        "-T",
        T,
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
    assert "n1 1.0000, n2 1.0000, later 1.0000, n4 1.0000, n8 1.0000" in result.stdout
    succeed("export", "a.h5", "--to", "nir", "--dt", DT, "-o", "b.nir")
    succeed("import", "b.nir", *options, "-o", "b.h5")
    for name in ("a", "b"):
        succeed("run", f"{name}.h5", "--input", "x.npy", "-o", f"{name}.npy")
    np.testing.assert_array_equal(np.load("a.npy"), np.load("b.npy"))
    assert np.load("a.npy").any()


def test_the_agreement_is_that_of_the_delayed_spikes(tmp_path: Path) -> None:
    path = written(EXAMPLES["Delay"](), tmp_path / "a.nir")
    found = import_nir(path, T, DT, lambda _: np.random.default_rng(0).integers(0, 8, (4, 1, 4, 4)) / 8.0)
    assert found.agreement == {"n1": 1.0, "n4": 1.0}
