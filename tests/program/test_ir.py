"""The dataclasses: frozen arrays, values that do not fit, the graph's properties."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from spikegen.program import Conditioning, Conv, Input, Lif, Program, Readout
from spikegen.program.ir import neurons
from tests.program.examples import changed, every_primitive

PRIMITIVES = {**Program.NODE_TYPES, **Program.PROJECTION_TYPES}


def instances() -> list[Any]:
    program = every_primitive()
    return [program, program.input, *program.populations, *program.projections, program.conditioning, program.host]


def arrays() -> list[npt.NDArray[Any]]:
    found = [getattr(node, field.name) for node in instances() for field in dataclasses.fields(node)]
    return [*(x for x in found if isinstance(x, np.ndarray)), *every_primitive().conditioning.tables.values()]


def test_the_example_has_every_primitive() -> None:
    assert {type(instance).__name__ for instance in instances()} >= set(PRIMITIVES)


@pytest.mark.parametrize("instance", instances(), ids=lambda x: type(x).__name__)
def test_dataclasses_are_frozen(instance: Any) -> None:
    name = dataclasses.fields(instance)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(instance, name, None)


def test_arrays_are_read_only_copies() -> None:
    assert len(arrays()) == 11  # a bias, 2 x (weights, bias), 5 weights, a table
    for array in arrays():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    mine = np.zeros(2, dtype=np.int16)
    lif = Lif("a", (2, 1, 1), 1, 4095, 0, mine, 0)
    mine[0] = 9
    assert lif.bias_mant.tolist() == [0, 0]


def conv(weight: npt.ArrayLike) -> npt.NDArray[np.int8]:
    return Conv("c", "a", "b", weight, 0).weight  # type: ignore[arg-type]


def bias(mantissa: npt.ArrayLike) -> npt.NDArray[np.int16]:
    return Lif("a", (1, 1, 1), 1, 4095, 0, mantissa, 0).bias_mant  # type: ignore[arg-type]


def table(values: npt.ArrayLike) -> npt.NDArray[np.int16]:
    return Conditioning(1, {"a": values}).tables["a"]  # type: ignore[dict-item]


@pytest.mark.parametrize("make", [conv, bias, table])
@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 1e30, -32769, 32768, 10**12])
def test_values_that_do_not_fit_are_refused(make: Any, value: float) -> None:
    with pytest.raises(ValueError, match="holds values that do not fit int"):
        make(np.array([[[[value]]]]))


def test_values_that_fit_are_kept_whatever_their_type() -> None:
    assert conv(np.array([-128.0, 127.0])).tolist() == [-128, 127]
    assert bias([-32768, 32767]).tolist() == [-32768, 32767]
    with pytest.raises(ValueError, match="an array of int64 holds values that do not fit int8"):
        conv([128])


def test_readouts_keep_what_validate_must_judge() -> None:
    readout = Readout("y", (1, 1, 1), np.array([np.nan, np.inf]), np.array([1.0]))
    assert np.isnan(readout.weights[0])


def test_levels_and_depth() -> None:
    program = every_primitive()
    # in -> a -> r -> out takes three timesteps, in -> r is delayed by one so that both inputs of r meet at level 2
    assert program.levels == {"in": 0, "a": 1, "r": 2, "out": 3, "y": 2}
    assert program.depth == 3
    assert changed(changed(program, "in>a", delay=4), "in>r", delay=5).levels == {
        "in": 0,
        "a": 5,
        "r": 6,
        "out": 7,
        "y": 6,
    }


def test_levels_of_populations_without_inputs_are_zero() -> None:
    program = dataclasses.replace(every_primitive(), projections=())
    assert set(program.levels.values()) == {0}
    assert program.depth == 0
    assert dataclasses.replace(program, populations=()).depth == 0


def test_edges_of_a_node() -> None:
    program = every_primitive()
    assert [p.name for p in program.into("r")] == ["a>r", "in>r"]
    assert [p.name for p in program.out_of("in")] == ["in>a", "in>r"]
    assert program.into("in") == program.out_of("out") == program.into("nobody") == ()
    assert list(program.nodes) == ["in", "a", "r", "out", "y"]
    assert [r.name for r in program.readouts()] == ["out", "y"]


def test_message_bits_are_declared() -> None:
    program = every_primitive()
    assert [program.message_bits(name) for name in program.nodes] == [4, 0, 23, 0, 0]


def test_bias_mantissa_of_a_diffusion_step() -> None:
    program = every_primitive()
    lif = program.populations[0]
    assert isinstance(lif, Lif)
    assert program.bias_mant(lif, 2).tolist() == [-5 - 4, 7 - 5]
    assert dataclasses.replace(program, conditioning=Conditioning(3)).bias_mant(lif, 2).tolist() == [-5, 7]


@pytest.mark.parametrize(
    ("parameters", "shape"),
    [
        ({}, (4, 3, 4)),  # (5 - 3 + 1, 6 - 3 + 1)
        ({"padding": (1, 0)}, (4, 5, 4)),
        ({"stride": (2, 3)}, (4, 2, 2)),  # 2 // 2 + 1, 3 // 3 + 1
        ({"dilation": (2, 1)}, (4, 1, 4)),  # 5 - 2 * 2
        ({"shuffle": 2}, (1, 6, 8)),
    ],
)
def test_target_shape(parameters: dict[str, Any], shape: tuple[int, int, int]) -> None:
    projection = Conv("c", "a", "b", np.ones((4, 2, 3, 3), dtype=np.int8), 0, **parameters)
    assert projection.target_shape((2, 5, 6)) == shape


def test_neurons() -> None:
    assert neurons(Input("in", (2, 3, 4), 1, 1.0)) == 24
