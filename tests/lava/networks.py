"""Hand-made Programs that together use every feature of the IR, and the comparison of two evaluations."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from spikegen.exporters.lava.form import SYNAPSES
from spikegen.lowering.retime import retime
from spikegen.program import (
    Conditioning,
    Conv,
    Dense,
    Evaluation,
    Input,
    Lif,
    Program,
    Readout,
    Relay,
    overflow_risks,
    validate,
)

# Every form of a network on Lava -> arguments of LavaTarget.
FORMS: dict[str, dict[str, Any]] = {
    "fused": {},
    **{synapses: {"model": "unrolled", "synapses": synapses} for synapses in SYNAPSES},
}


def everything(timesteps: int, port: Input | None = None) -> Program:
    """Every feature on rectangular shapes, so that no exchange of axes, channels or signs goes unnoticed.

    Stride, shuffle, dilation, groups, 1x1, dense, unequal geometry per axis, exponents of 0 and more, an empty kernel,
    skips over one and several levels, two projections between the same populations, relays, leaky and non-leaky
    neurons, two readouts at different levels, conditioned and unconditioned biases, gains, a clock.

    Args:
        timesteps: T.
        port: another input of shape (2, 6, 4), whose range is within +-31.
    """
    rng = np.random.default_rng(3)

    def weight(*shape: int, reach: int = 128) -> npt.NDArray[np.int8]:
        return rng.integers(-reach, reach, shape).astype(np.int8)

    def bias(channels: int, reach: int) -> npt.NDArray[np.int16]:
        return rng.integers(-reach, reach, channels).astype(np.int16)

    def gains(*values: int) -> npt.NDArray[np.int32]:
        return np.resize(np.array(values, dtype=np.int32), timesteps)

    ones = np.eye(4, dtype=np.int8)[:, :, None, None]
    populations = (
        Lif("clock", (2, 6, 4), 90, 4095, 0, np.array([40, 70], dtype=np.int16), 7),
        Lif("a", (4, 6, 4), 500, 4095, 0, bias(4, 200), 6),
        Lif("down", (6, 3, 2), 400, 4095, 128, bias(6, 300), 5),
        Lif("leaky", (2, 3, 4), 250, 1500, 400, bias(2, 60), 7),
        Relay("relay", (4, 6, 4), 11),
        Readout("early", (1, 6, 4), np.ones(timesteps), np.zeros(1)),
        Lif("mixed", (4, 6, 4), 300, 4095, 0, bias(4, 600), 7),
        Lif("flat", (7, 1, 1), 700, 3000, 0, bias(7, 250), 7),
        Relay("again", (2, 6, 4), 14),
        Readout("late", (2, 6, 4), np.ones(timesteps), np.zeros(2)),
    )
    projections = (
        Conv("in>a", "in", "a", weight(4, 2, 3, 3, reach=12), 0, padding=(1, 1)),
        Conv("a>down", "a", "down", weight(6, 4, 3, 2), 1, stride=(2, 2), padding=(1, 0)),
        Conv("a>leaky", "a", "leaky", weight(2, 2, 3, 1), 2, stride=(2, 1), padding=(2, 0), dilation=(2, 1), groups=2),
        Conv("down>relay", "down", "relay", weight(16, 6, 3, 3, reach=16), 0, padding=(1, 1), shuffle=2),
        Conv("a>relay", "a", "relay", weight(4, 4, 1, 1, reach=4), 3, gains=gains(2, -1, 3, 1)),
        Conv("a>early", "a", "early", weight(1, 4, 3, 3), 1, padding=(1, 1)),
        Conv("relay>mixed", "relay", "mixed", ones * 3, 0),
        Conv("relay>mixed.grouped", "relay", "mixed", weight(4, 1, 3, 3, reach=2), 0, padding=(1, 1), groups=4),
        Conv("in>mixed", "in", "mixed", weight(4, 1, 1, 3, reach=8), 1, padding=(0, 1), groups=2),
        Dense("leaky>flat", "leaky", "flat", weight(7, 24), 0),
        Dense("relay>flat", "relay", "flat", np.fix(weight(7, 96) / 100).astype(np.int8), 0),
        Dense("flat>again", "flat", "again", weight(48, 7), 3),
        Conv("mixed>late", "mixed", "late", weight(2, 4, 3, 3), 1, padding=(1, 1)),
        Conv("again>late", "again", "late", weight(2, 1, 3, 1), 0, padding=(1, 0), groups=2),
        Conv("a>late", "a", "late", weight(2, 4, 1, 1), 5),
        Conv("clock>late", "clock", "late", weight(8, 2, 3, 2), 1, stride=(2, 2), padding=(1, 0), shuffle=2),
        Dense("clock>flat", "clock", "flat", weight(7, 48, reach=4), 1, gains=gains(-2, 0, 1, 5)),
        Conv("silent>late", "down", "late", np.zeros((8, 6, 1, 1), dtype=np.int8), 1, shuffle=2),
    )
    tables = {name: rng.integers(-40, 40, (3, channels)).astype(np.int16) for name, channels in (("a", 4), ("flat", 7))}
    conditioning = Conditioning(3, tables)
    program = retime(
        Program(
            "everything", timesteps, port or Input("in", (2, 6, 4), 5, 1 / 32), populations, projections, conditioning
        )
    )
    validate(program)
    assert overflow_risks(program) == []  # the ranges are chosen for it
    return program


def tiny(timesteps: int = 4) -> Program:
    """The smallest network that is worth running: two pixels, a population and a readout."""
    rng = np.random.default_rng(5)
    return retime(
        Program(
            "tiny",
            timesteps,
            Input("in", (1, 1, 2), 5, 1 / 16),
            (
                Lif("a", (2, 1, 2), 300, 4095, 0, np.array([3, -2], dtype=np.int16), 4),
                Readout("out", (1, 1, 2), np.ones(timesteps), np.zeros(1)),
            ),
            (
                Conv("in>a", "in", "a", rng.integers(-128, 128, (2, 1, 3, 3)).astype(np.int8), 1, padding=(1, 1)),
                Conv("a>out", "a", "out", rng.integers(-128, 128, (1, 2, 3, 3)).astype(np.int8), 1, padding=(1, 1)),
            ),
        )
    )


def frames(program: Program, images: int, seed: int = 0) -> npt.NDArray[np.int32]:
    """Random images, or streams of them, over the whole range of the input."""
    port = program.input
    shape = (images, program.timesteps, *port.shape) if port.streamed else (images, *port.shape)
    low, high = port.low[:, None, None], port.high[:, None, None]
    return np.random.default_rng(seed).integers(low, high + 1, shape).astype(np.int32)


def assert_equal(found: Evaluation, expected: Evaluation) -> None:
    """The same spikes, messages, readouts and counts, value by value."""
    for values, wanted in ((found.messages, expected.messages), (found.readouts, expected.readouts)):
        assert list(values) == list(wanted)
        for name, array in values.items():
            np.testing.assert_array_equal(array, wanted[name], err_msg=name)
            assert array.dtype == np.int32
    assert found.counts == expected.counts


def unet(timesteps: int = 4) -> Program:
    """A small spiking U-Net: stride down, shuffle up, skips over one and several levels, a relay, time embedding.

    The skips of one population have different delays, and the input is heard late too.
    """
    rng = np.random.default_rng(17)

    def conv(name: str, shape: tuple[int, int, int, int], reach: int, **geometry: Any) -> Conv:
        source, target = name.split(">")
        return Conv(name, source, target, rng.integers(-reach, reach, shape).astype(np.int8), 1, **geometry)

    def lif(name: str, shape: tuple[int, int, int], vth: int) -> Lif:
        return Lif(name, shape, vth, 4095, 0, rng.integers(-50, 200, shape[0]).astype(np.int16), 6)

    around: dict[str, Any] = {"padding": (1, 1)}
    populations = (
        lif("stem", (4, 8, 6), 900),
        lif("block", (4, 8, 6), 200),
        Relay("stream", (4, 8, 6), 8),
        lif("down", (6, 4, 3), 250),
        lif("middle", (6, 4, 3), 250),
        lif("up", (4, 8, 6), 300),
        lif("last", (4, 8, 6), 300),
        Readout("noise", (1, 8, 6), np.ones(timesteps) / timesteps, np.zeros(1), 1 / 256),
    )
    projections = (
        conv("in>stem", (4, 1, 3, 3), 12, **around),
        conv("stem>block", (4, 4, 3, 3), 60, **around),
        conv("block>stream", (4, 4, 1, 1), 8),
        conv("stem>stream", (4, 4, 1, 1), 8),
        conv("block>down", (6, 4, 3, 3), 60, stride=(2, 2), **around),
        conv("down>middle", (6, 6, 3, 3), 60, **around),
        conv("middle>up", (16, 6, 3, 3), 60, shuffle=2, **around),
        conv("block>up", (4, 4, 1, 1), 60),
        conv("stem>up", (4, 4, 1, 1), 60),
        conv("up>last", (4, 4, 3, 3), 60, **around),
        conv("block>last", (4, 4, 3, 3), 60, **around),
        conv("stem>last", (4, 4, 1, 1), 60),
        conv("stream>last", (4, 4, 1, 1), 3),
        conv("last>noise", (1, 4, 3, 3), 60, **around),
        conv("in>noise", (1, 1, 1, 1), 12),
    )
    tables = {name: rng.integers(-90, 90, (3, 4)).astype(np.int16) for name in ("block", "up")}
    port = Input("in", (1, 8, 6), 7, 1 / 32)
    program = retime(Program("unet", timesteps, port, populations, projections, Conditioning(3, tables)))
    validate(program)
    assert overflow_risks(program) == []
    return program


def without_gains(program: Program) -> Program:
    """``program`` without the gains that change from timestep to timestep; the first gain of each is kept for all."""
    projections = (
        dataclasses.replace(p, gains=np.full_like(p.gains, p.gains[0])) if p.gains.size else p
        for p in program.projections
    )
    return dataclasses.replace(program, projections=tuple(projections))
