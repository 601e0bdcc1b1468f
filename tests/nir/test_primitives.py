"""Every row of the table of primitives: its numbers, and its way into a Program and back."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np
import numpy.typing as npt
import pytest

from spikegen.errors import ExchangeError
from spikegen.exporters.nir.builder import program_shape
from spikegen.exporters.nir.convert import InputRange, import_nir
from spikegen.exporters.nir.float_run import run_float
from spikegen.exporters.nir.primitives import PRIMITIVES
from spikegen.exporters.nir.structure import read_structure
from spikegen.exporters.nir.walk import walk
from spikegen.exporters.nir.write import write_nir
from spikegen.lowering.kernels import dense_weight
from spikegen.program import Conv, Lif, Pipeline, Program
from spikegen.simulator import Simulator
from tests.nir.graphs import (
    DT,
    EXAMPLES,
    T,
    chain,
    frames,
    late,
    nested,
    residual,
    resting,
    scalars,
    varied,
    weights,
    written,
)
from tests.nir.reference import evaluate

Array = npt.NDArray[np.float64]
GRAPHS = {**EXAMPLES, "residual": residual, "resting": resting, "varied": varied, "scalars": scalars, "late": late}
RANGE = InputRange(bits=4, largest=15 / 8, streamed=True)  # holds the inputs of the examples as they are


def test_every_primitive_has_an_example() -> None:
    assert set(EXAMPLES) == set(PRIMITIVES)
    for name, example in EXAMPLES.items():
        assert name in {type(node).__name__ for node in example().nodes.values()}


def in_program_shape(values: Array) -> Array:
    """[N, T, ...] with the axes of a Program."""
    return values.reshape(*values.shape[:2], *program_shape(values.shape[2:]))


def last_delay(graph: nir.NIRGraph, key: str) -> str:
    """The node whose value neurons send: the last of the Delays that alone read them."""
    readers = [target for source, target in graph.edges if source == key]
    if len(readers) == 1 and isinstance(graph.nodes[readers[0]], nir.Delay):
        return last_delay(graph, readers[0])
    flat = len(readers) == 1 and isinstance(graph.nodes[readers[0]], nir.Flatten)
    return last_delay(graph, readers[0]) if flat else key


@pytest.mark.parametrize("name", GRAPHS)
def test_the_float_network_is_the_graphs_equations(name: str, tmp_path: Path) -> None:
    path = written(GRAPHS[name](), tmp_path / "a.nir")
    graph = nir.read(path, type_check=False)
    given = frames(graph)
    wanted = [evaluate(graph, image, DT) for image in given]
    spikes: dict[str, Array] = {}
    found = run_float(
        walk(read_structure(path), T, DT), in_program_shape(given), lambda key, s: spikes.update({key: s.numpy()})
    )
    delays = {key for key, node in graph.nodes.items() if isinstance(node, nir.Delay)}
    assert set(spikes) - delays == {key for key, node in graph.nodes.items() if hasattr(node, "v_threshold")}
    for key, values in {**spikes, **found}.items():
        sent = last_delay(graph, key)
        np.testing.assert_array_equal(values.reshape(len(given), T, -1), [w[sent].reshape(T, -1) for w in wanted])
        assert values.any()
        assert np.ptp(values) > 0


def imported(path: Path, inputs: Array) -> Pipeline:
    return import_nir(path, T, DT, lambda _: in_program_shape(inputs), RANGE).pipeline


@pytest.mark.parametrize("name", GRAPHS)
def test_a_round_trip_gives_the_same_program(name: str, tmp_path: Path) -> None:
    first = written(GRAPHS[name](), tmp_path / "first.nir")
    inputs = frames(nir.read(first, type_check=False))
    before = imported(first, inputs)
    (second,), lost = write_nir(before, tmp_path / "second.nir", DT)
    uneven = name in {"Conv1d", "Conv2d"}  # their kernels are not square, and nir minds
    graph = nir.read(second, type_check=not uneven)
    assert any("not square" in loss for loss in lost) == uneven
    after = imported(second, inputs)
    program = before.network("network")
    if name == "CubaLIF":  # its rounded state has no native grid: the search for the LSB may end one step beside
        near_numbers(program, after.network("network"))
        return
    same_numbers(program, after.network("network"))
    messages = program.input.quantize(in_program_shape(inputs))
    one, two = (Simulator(p.network("network")).evaluate(messages, 0, record=True) for p in (before, after))
    for left, right in zip(one.readouts.values(), two.readouts.values(), strict=True):
        np.testing.assert_array_equal(left, right)
        assert left.any()
    # and the graph is what the Program computes: its float values are the Program's, up to its rounded states
    exact = name not in {"LIF", "CubaLIF"}
    for image, sent in zip(inputs, one.readouts[next(program.readouts()).name], strict=True):
        shape = next(n.input_type["input"] for n in graph.nodes.values() if isinstance(n, nir.Input))
        values = evaluate(graph, image.reshape(T, *map(int, shape)), DT)
        readout = next(program.readouts())
        real = sent * readout.scale + readout.bias[:, :, None, None]
        output = next(key for key, node in graph.nodes.items() if isinstance(node, nir.Output))
        if exact:
            np.testing.assert_allclose(values[output].reshape(real.shape), real, rtol=0, atol=1e-12)
        else:
            assert np.mean(values[output].reshape(real.shape) == real) > 0.9


def near_numbers(one: Program, two: Program) -> None:
    """Equal real weights, thresholds and decays, up to their grids."""
    for left, right in zip(one.projections, two.projections, strict=True):
        steps = [p.weight * 2.0**p.exponent * q.nodes[p.target].scale for p, q in ((left, one), (right, two))]
        step = 2.0**left.exponent * one.nodes[left.target].scale
        np.testing.assert_allclose(steps[0], steps[1], rtol=0, atol=step)
    for before, after in zip(one.populations, two.populations, strict=True):
        if isinstance(before, Lif) and isinstance(after, Lif):
            assert (before.du, before.dv) == (after.du, after.dv)
            assert abs(before.vth * before.scale - after.vth * after.scale) <= before.scale


def test_a_nested_graph_is_inlined(tmp_path: Path) -> None:
    graph = nested()
    given = frames(graph)
    walked = walk(read_structure(written(graph, tmp_path / "a.nir")), T, DT)
    spikes: dict[str, Array] = {}
    run_float(walked, in_program_shape(given), lambda key, s: spikes.update({key: s.numpy()}))
    inner = graph.nodes.pop("n1")
    ends = {name: f"n1.{name}" for name in inner.nodes}
    graph.nodes.update({f"n1.{name}": node for name, node in inner.nodes.items() if name in {"n0", "n1"}})
    plain = [(source, target) for source, target in inner.edges if "put" not in source + target]
    outer = {"n1": ("n1.n0", "n1.n1")}
    graph.edges = [(outer.get(a, (a, a))[1], outer.get(b, (b, b))[0]) for a, b in graph.edges]
    graph.edges += [(ends[source], ends[target]) for source, target in plain]
    wanted = [evaluate(graph, image, DT) for image in given]
    assert set(spikes) == {"n1.n1", "n3"}
    for key, found in spikes.items():
        np.testing.assert_array_equal(found.reshape(len(given), T, -1), [w[key] for w in wanted])
        assert found.any()


def same_numbers(one: Program, two: Program) -> None:
    """Equal but for names."""
    for left, right in zip((*one.populations, *one.projections), (*two.populations, *two.projections), strict=True):
        assert type(left) is type(right)
        for key, value in vars(left).items():
            if key == "weight" and isinstance(left, Conv) and isinstance(right, Conv):
                weights = [dense_weight(conv.weight.astype(float), conv.groups) for conv in (left, right)]
                np.testing.assert_array_equal(weights[0], weights[1], err_msg=left.name)
            elif key not in {"name", "source", "target", "origin", "scale", "groups"}:
                np.testing.assert_array_equal(value, getattr(right, key), err_msg=f"{left.name}: {key}")


@pytest.mark.parametrize(("text", "padding", "out"), [("same", (1, 4), (7, 9)), ("valid", (0, 0), (5, 1))])
def test_the_texts_for_padding(text: str, padding: tuple[int, int], out: tuple[int, int], tmp_path: Path) -> None:
    found = []
    for said in (text, padding):
        node = nir.Conv2d((7, 9), weights(2, 1, 3, 5), (1, 1), said, (1, 2), 1, np.zeros(2))
        path = written(chain((1, 7, 9), node, out=(2, *out)), tmp_path / "a.nir")
        images = np.random.default_rng(0).integers(0, 8, (2, 1, 7, 9)) / 8.0
        found.append(run_float(walk(read_structure(path), T, DT), images, lambda *_: None)["output"])
    np.testing.assert_array_equal(found[0], found[1])
    assert found[0].any()


def test_same_padding_of_even_kernels_is_refused(tmp_path: Path) -> None:
    node = nir.Conv2d((7, 9), weights(2, 1, 2, 3), (1, 1), "same", (1, 1), 1, np.zeros(2))
    with pytest.raises(ExchangeError, match="n0: padding is 'same'; whole numbers, 'valid', and 'same' for odd"):
        walk(read_structure(written(chain((1, 7, 9), node, out=(2, 7, 9)), tmp_path / "a.nir")), T, DT)
