"""The dataclasses: frozen arrays, values that do not fit, the graph's properties."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given

from spikegen.errors import ConfigError
from spikegen.program import (
    Conditioning,
    Conv,
    ImageDiffusion,
    Input,
    Lif,
    Pipeline,
    Program,
    Readout,
    Standalone,
    TokenDiffusion,
)
from spikegen.program.ir import neurons
from tests.program.examples import changed, every_primitive

PRIMITIVES = {**Program.NODE_TYPES, **Program.PROJECTION_TYPES}


def instances() -> list[Any]:
    program = every_primitive()
    return [program, program.input, *program.populations, *program.projections, program.conditioning]


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
    assert len(arrays()) == 19  # the input's range, bias and delays, 2 x (weights, bias), 5 x (weight, gains), a table
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


@pytest.mark.parametrize(("bits", "low", "high"), [(0, 0, 1), (1, -1, 1), (4, -15, 15), (23, 1 - 2**23, 2**23 - 1)])
def test_the_range_of_an_input_is_all_that_its_bits_hold(bits: int, low: int, high: int) -> None:
    port = Input("in", (2, 1, 1), bits, 1.0)
    assert (port.low.tolist(), port.high.tolist()) == ([low] * 2, [high] * 2)
    assert port.low.dtype == port.high.dtype == np.int32
    assert not port.low.flags.writeable


@pytest.mark.parametrize(("shape", "bits"), [((), 4), ((0, 1, 1), 4), ((-1, 1, 1), 4), ((10**12, 1, 1), 10**12)])
def test_inputs_of_absurd_size_take_no_memory(shape: Any, bits: int) -> None:
    assert Input("in", shape, bits, 1.0).low.size == 0


def test_a_given_range_is_kept() -> None:
    port = Input("in", (2, 1, 1), 4, 1.0, np.array([0, -3]), np.array([10, 2]), streamed=True)
    assert (port.low.tolist(), port.high.tolist()) == ([0, -3], [10, 2])
    with pytest.raises(ValueError, match="do not fit int32"):
        dataclasses.replace(port, high=np.array([2**31, 0]))


@given(
    st.floats(-1e6, 1e6),
    # scales down to 2^-10: smaller ones make x / scale inexact in a way that only the division itself defines
    st.sampled_from((1.0, 0.5, 0.25, 2.0, 2.0**-10)),
    st.integers(0, 23),
)
@example(0.5, 1.0, 4)
@example(1.5, 1.0, 4)
@example(2.5, 1.0, 4)
@example(-0.5, 1.0, 4)
@example(-2.5, 1.0, 4)
@example(0.5, 1.0, 0)
@example(1e6, 2.0**-10, 23)
def test_quantize_rounds_half_to_even_then_clips(x: float, scale: float, bits: int) -> None:
    # A power of two divides exactly, so Python's rational arithmetic is the reference; round() is half to even.
    low, high = (1 - 2**bits, 2**bits - 1) if bits else (0, 1)
    expected = max(low, min(high, round(Fraction(x) / Fraction(scale))))
    quantized = Input("in", (1, 1, 1), bits, scale).quantize(np.array([[[x]]]))
    assert quantized.dtype == np.int32
    assert quantized.tolist() == [[[expected]]]


def test_quantize_clips_each_channel_to_its_own_range() -> None:
    port = Input("in", (2, 1, 2), 4, 0.5, np.array([0, -3]), np.array([10, -1]))
    x = np.array([[[-9.0, 9.0]], [[-9.0, 9.0]]])
    assert port.quantize(x).tolist() == [[[0, 10]], [[-3, -1]]]
    assert port.quantize(np.stack([[x, x]])).shape == (1, 2, 2, 1, 2)


def test_a_pipeline_gives_its_networks_by_role() -> None:
    program = every_primitive()
    pipeline = Pipeline("digits", ImageDiffusion(), {"denoiser": program})
    assert pipeline.network("denoiser") is program
    with pytest.raises(ConfigError, match=r"^the pipeline 'digits' has no decoder; it has denoiser$"):
        pipeline.network("decoder")
    with pytest.raises(ConfigError, match=r"^the pipeline 'empty' has no network; it has no networks at all$"):
        Pipeline("empty", Standalone(), {}).network("network")


def test_networks_come_in_the_order_of_the_roles() -> None:
    host = TokenDiffusion(np.eye(3), 4)
    assert not host.codebook.flags.writeable
    networks = dict.fromkeys(("decoder", "extra", "encoder", "denoiser"), every_primitive())
    assert list(Pipeline("p", host, networks).networks) == ["encoder", "denoiser", "decoder", "extra"]
