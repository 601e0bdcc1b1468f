"""Programs as files of netx: there and back they are the same, what is no chain is refused, losses are told."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from spikegen.errors import ConfigError, ExchangeError
from spikegen.exporters.netx.convert import import_netx
from spikegen.exporters.netx.layers import LAYERS
from spikegen.exporters.netx.write import losses, netx_file, write_netx
from spikegen.program import (
    Conditioning,
    Conv,
    Dense,
    Input,
    Lif,
    Pipeline,
    Program,
    Readout,
    Relay,
    Standalone,
    save,
)
from spikegen.simulator import Simulator
from tests.cli.commands import contents, refuse, succeed
from tests.netx.chains import chain, frames, readout, scaled
from tests.netx.files import network, write
from tests.program.examples import alone


def opened(program: Program) -> h5py.File:
    return h5py.File(io.BytesIO(netx_file(program)), "r")


@pytest.mark.parametrize(("seed", "options"), [(0, {}), (8, {"bits": 4}), (5, {"current": True})])
def test_there_and_back(seed: int, options: dict[str, Any], tmp_path: Path) -> None:
    program = chain(seed, **options)
    write_netx(alone(program), tmp_path / "a.net")
    again = import_netx(tmp_path / "a.net", 8, bits=program.input.bits).pipeline.network("network")
    assert again.timesteps == program.timesteps
    for field in ("shape", "bits", "streamed", "scale"):
        assert getattr(again.input, field) == getattr(program.input, field), field
    for one, two in zip(program.populations, again.populations, strict=True):
        assert type(one) is type(two)
        assert one.shape == two.shape
        if isinstance(one, Lif) and isinstance(two, Lif):
            assert (one.vth, one.du, one.dv, one.bias_exp) == (two.vth, two.du, two.dv, two.bias_exp)
            np.testing.assert_array_equal(one.bias_mant, two.bias_mant)
        elif isinstance(one, Readout) and isinstance(two, Readout):
            np.testing.assert_array_equal(one.weights, two.weights)
    for first, second in zip(program.projections, again.projections, strict=True):
        np.testing.assert_array_equal(first.weight, second.weight)
        assert type(first) is type(second)
        assert first.exponent == second.exponent
        if isinstance(first, Conv) and isinstance(second, Conv):
            for field in ("stride", "padding", "dilation", "groups"):
                assert getattr(first, field) == getattr(second, field), field


def test_scaled_numbers_fire_the_same(tmp_path: Path) -> None:
    program = scaled()
    write_netx(alone(program), tmp_path / "a.net")
    again = import_netx(tmp_path / "a.net", 8).pipeline.network("network")
    given = frames(program)
    one, two = (Simulator(each).evaluate(given, 0, record=True).messages for each in (program, again))
    for place, name in enumerate(("layer1", "layer2", "layer3")):
        spikes = one[name]
        assert 0.02 < spikes.mean() < 0.98
        np.testing.assert_array_equal(two[again.populations[place].name], spikes)
    lost = "\n".join(losses(program))
    assert "layer1: weights, threshold and bias are divided by 0.5; it fires all the same" in lost
    assert "layer2: weights, threshold and bias are divided by 4" in lost
    with h5py.File(tmp_path / "a.net") as file:
        kinds = [file[f"layer/{index}/type"][0].decode() for index in range(5)]
        assert kinds == ["input", "conv", "flatten", "dense", "dense"]


def test_the_table_says_what_is_written() -> None:
    kinds = set()
    for program in (chain(0), chain(5, current=True)):
        with opened(program) as file:
            kinds |= {layer["type"][0].decode() for layer in file["layer"].values()}
    assert kinds == {name for name, row in LAYERS.items() if row.written}


PORT = Input("in", (2, 4, 4), 0, 1.0, streamed=True)


def small(**changes: Any) -> Program:
    """input -> conv -> leaky "a" -> dense -> "b" that does not leak -> the spikes are read."""
    conv = Conv("in->a", "in", "a", np.array([127, -128] * 18, np.int8).reshape(2, 2, 3, 3), 1, padding=(1, 1))
    first = Lif("a", (2, 4, 4), 40, 100, 30, np.array([3, -5]), 6)
    second = Lif("b", (3, 1, 1), 40, 4095, 0, np.zeros(3, np.int16), 0)
    dense = Dense("a->b", "a", "b", np.array([1, -2] * 48, np.int8).reshape(3, 32), 1)
    end, copy = readout(second, 4)
    conv = dataclasses.replace(conv, **changes.pop("conv", {}))
    dense = dataclasses.replace(dense, **changes.pop("dense", {}))
    first = dataclasses.replace(first, **changes.pop("a", {}))
    second = dataclasses.replace(second, **changes.pop("b", {}))
    populations = (*changes.pop("before", ()), first, *changes.pop("between", ()), second, end)
    projections = (conv, dense, copy, *changes.pop("more", ()))
    return dataclasses.replace(Program("small", 4, PORT, populations, projections), **changes)


def test_a_small_program_is_not_refused() -> None:
    assert len(opened(small())["layer"]) == 4


def listed() -> Program:
    """A dense layer, and a convolution behind it."""
    first, second = (Lif(name, (2, 4, 4), 40, 4095, 0, np.zeros(2, np.int16), 0) for name in "ab")
    end, copy = readout(second, 4)
    dense = Dense("in->a", "in", "a", np.eye(32, dtype=np.int8), 1)
    conv = Conv("a->b", "a", "b", np.ones((2, 2, 3, 3), np.int8), 1, padding=(1, 1))
    return Program("listed", 4, PORT, (first, second, end), (dense, conv, copy))


def wide(*, readout_only: bool = False) -> Program:
    """A depthwise convolution of 128 channels, or large weights that lead into a readout."""
    if readout_only:
        weight = np.full((4, 2, 4, 4), 127, np.int8)
        weight[0, 0, 0, 0] = -127
        out = Readout("out", (4, 1, 1), np.ones(4), np.zeros(4))
        return Program("wide", 4, PORT, (out,), (Conv("in->out", "in", "out", weight, 8),))
    port = Input("in", (128, 2, 2), 0, 1.0)
    lif = Lif("a", (128, 1, 2), 40, 4095, 0, np.zeros(128, np.int16), 0)
    end, copy = readout(lif, 4)
    conv = Conv("in->a", "in", "a", np.ones((128, 1, 2, 1), np.int8), 1, groups=128)
    return Program("wide", 4, port, (lif, end), (conv, copy))


REFUSED: Mapping[str, tuple[Program, str]] = {
    "skip": (
        small(more=(Conv("in->b", "in", "b", np.ones((3, 2, 4, 4), np.int8), 1, delay=1),)),
        "in: it is read by a, b; the layers of netx are a list",
    ),
    "join": (
        small(more=(Conv("in->b", "in", "b", np.ones((3, 2, 4, 4), np.int8), 1, delay=1),)),
        "b: 2 projections lead into it (from a, in); netx has no join: 'concat is not implemented.'",
    ),
    "relay": (
        small(
            between=(Relay("r", (2, 4, 4), 8),),
            dense={"source": "r"},
            more=(Conv("a->r", "a", "r", np.ones((2, 2, 1, 1), np.int8), 0),),
        ),
        "r: it passes sums on (a Relay: an average, a residual stream); every layer of netx fires: 'pool is not",
    ),
    "shuffle": (
        small(conv={"weight": np.ones((8, 2, 2, 2), np.int8), "stride": (2, 2), "padding": (0, 0), "shuffle": 2}),
        "in->a: it shuffles sub-pixels (a transposed convolution or an upsampling): 'convT is not implemented.'",
    ),
    "gains": (small(conv={"gains": np.array([1, 2, 1, 1])}), "in->a: its gain differs between timesteps (TSM)"),
    "conditioning": (
        small(conditioning=Conditioning(2, {"a": np.array([[0, 0], [1, 0]])})),
        "a: its bias depends on the diffusion step (conditioning)",
    ),
    "delays": (
        small(a={"delays": np.arange(32).reshape(2, 4, 4)}),
        "a: axonal delays up to 31; netx delays the synapses into a dense layer",
    ),
    "clock": (
        small(
            before=(Lif("c", (2, 4, 4), 40, 4095, 0, np.ones(2, np.int16), 6),),
            more=(Conv("c->b", "c", "b", np.ones((3, 2, 4, 4), np.int8), 1, delay=1),),
        ),
        "c: it hears nothing and fires by its bias alone",
    ),
    "bias": (small(a={"bias_exp": 5}), "a: its bias is [3, -5] << 5; netx adds whole multiples of 64 (bias_exp 6)"),
    "large bias": (
        small(a={"bias_mant": np.array([2048, 0]), "bias_exp": 7, "vth": 1 << 16}),
        "a: its bias is 0..4096 times 64, allowed -4096..4095",
    ),
    "dense weights of leaky neurons": (
        small(dense={"exponent": 8}, b={"du": 100}),
        "a->b: its weights are -512..256; netx's dense has -256..254, or 0..255, and b leaks",
    ),
    "dense weights of neurons that might overflow": (
        small(dense={"exponent": 12}),
        "a->b: its weights are -8192..4096; netx's dense has -256..254, or 0..255, and b might overflow",
    ),
    "dense weights that are odd multiples": (
        small(dense={"exponent": 1, "gains": np.full(4, 201)}),
        "a->b: its weights are -804..402; netx's dense has -256..254, or 0..255",
    ),
    "no positive weight": (
        small(dense={"weight": np.full((3, 32), -64, np.int8)}),
        "a->b: its weights are -128..-128; netx cuts the weights of a dense layer where none is positive",
    ),
    "weights that are all 0": (
        small(dense={"weight": np.zeros((3, 32), np.int8)}),
        "a->b: its weights are all 0; netx stops with an OverflowError at such a layer",
    ),
    "a convolution of a list": (listed(), "a->b: it is a convolution of what is a list in netx, which has no way back"),
    "groups": (wide(), "in->a: its kernel, stride, padding, dilation or groups reach 128, netx's conv takes 127"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_chain_of_netx_is_refused(name: str, tmp_path: Path) -> None:
    program, message = REFUSED[name]
    with pytest.raises(ExchangeError) as error:
        write_netx(alone(program), tmp_path / "a.net")
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


def test_all_reasons_are_told_at_once() -> None:
    program = small(a={"bias_exp": 5}, dense={"exponent": 8}, b={"du": 100})
    with pytest.raises(ExchangeError) as error:
        netx_file(program)
    for part in ("a: its bias is", "a->b: its weights are"):
        assert part in str(error.value)


def test_a_wide_current_is_divided() -> None:
    """A readout has no threshold: its currents come in larger units where they would not fit."""
    program = wide(readout_only=True)
    lost = "\n".join(losses(program))
    assert "out: the last layer never fires; the membrane of its neurons is 0.5 times the current" in lost
    with opened(program) as file:
        np.testing.assert_array_equal(
            file["layer/2/weight"][()], program.projections[0].weight.reshape(4, -1).astype(int) * 2
        )
        assert file["layer/2/neuron/vThMant"][()] == (1 << 18) - 1


def test_losses() -> None:
    program = small(input=Input("in", (2, 4, 4), 4, 0.5), conv={"exponent": 2})
    text = "\n".join(losses(program))
    for part in (
        "input: messages of 4 bits, x / 0.5 rounded and clipped by the host; give Network(..., input_message_bits=4)",
        "(column, row, channel); the same at each timestep, which the host must send again",
        "window: T = 4; give Network(..., reset_interval=4, reset_offset=1)",
        "out: it reads spikes, which leave the last layer; its sum over time is lost",
        "in->a: weights that synapses of 8 bits do not hold; exact on Lava's CPU simulator only",
    ):
        assert part in text
    assert len(losses(program)) == 5
    assert len(losses(small())) == 4


def test_several_networks_get_a_file_each(tmp_path: Path) -> None:
    pipeline = Pipeline("two", Standalone(), {"network": small(), "other": small(a={"bias_exp": 5})})
    with pytest.raises(ExchangeError, match="other: a: its bias is"):
        write_netx(pipeline, tmp_path / "a.net")
    assert not list(tmp_path.iterdir())
    files, lost = write_netx(
        dataclasses.replace(pipeline, networks={"network": small(), "other": small()}), tmp_path / "a.net"
    )
    assert [path.name for path in files] == ["a.network.net", "a.other.net"]
    assert sum(loss.startswith("other: window") for loss in lost) == 1
    with pytest.raises(ConfigError, match=r"the name of a file of netx ends in \.net"):
        write_netx(alone(small()), tmp_path / "a.h5")


def test_there_and_back_as_a_user_does_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("a.net"), *network()[1:])
    result = succeed("import", "a.net", "--from", "netx", "-T", 4, "--input", "2x4x4", "-o", "a.h5")
    assert "3 populations, 3 projections, input 2x4x4, T = 4" in result.stdout
    result = succeed("export", "a.h5", "--to", "netx", "-o", "b.net")
    assert "Lost: window: T = 4; give Network(..., reset_interval=4, reset_offset=1)" in result.stderr
    succeed("import", "b.net", "--from", "netx", "-T", 4, "-o", "b.h5")
    np.save("x.npy", (np.random.default_rng(0).random((3, 4, 2, 4, 4)) < 0.5) * 1.0)
    for name in "ab":
        succeed("run", f"{name}.h5", "--input", "x.npy", "-o", f"{name}.npy")
    np.testing.assert_array_equal(np.load("a.npy"), np.load("b.npy"))
    assert np.load("a.npy").any()


def test_options_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("a.net"), *network()[1:])
    save(alone(small(a={"bias_exp": 5})), "a.h5")
    base = ("import", "a.net", "-o", "b.h5", "--from")
    refuse(2, "a file of netx does not say T; give it", *base, "netx")
    refuse(2, "--dt is an option of nir, not of netx", *base, "netx", "-T", 4, "--dt", 1)
    refuse(2, "--input is an option of netx, not of nir", *base, "nir", "-T", 4, "--input", "2x4x4")
    refuse(2, "--input 2x4: expected channels x height x width", *base, "netx", "-T", 4, "--input", "2x4")
    refuse(1, "layer 0 (conv): nothing says the shape of the input", *base, "netx", "-T", 4)
    refuse(2, "a name that ends in .net and --to netx go together", "export", "a.h5", "-o", "b.net")
    refuse(1, "a: its bias is [3, -5] << 5", "export", "a.h5", "--to", "netx", "-o", "b.net")
    before = contents()
    Path("b.net").write_bytes(before["a.net"][:900])
    refuse(1, "b.net: not a readable netx file", "import", "b.net", "-o", "b.h5", "--from", "netx", "-T", 4)
