"""Tiny Programs made by hand, which predict some noise of the shape of their input."""

import dataclasses

import numpy as np

from spikegen.program import Conditioning, Conv, Host, Input, Lif, Program, Readout, validate

TIMESTEPS, STEPS = 4, 40


def tiny(channels: int = 1, size: int = 4, steps: int = STEPS, schedule: str = "linear") -> Program:
    """Input -> Lif (conditioned on the diffusion step) -> readout, with random weights."""
    rng = np.random.default_rng(7)
    shape = (channels, size, size)
    hidden = 3
    table = rng.integers(-40, 40, (steps, hidden)).astype(np.int16)
    program = Program(
        "tiny",
        TIMESTEPS,
        Input("x", shape, 7, 4 / 127),
        (
            Lif("hidden", (hidden, size, size), 900, 4095, 0, rng.integers(-20, 20, hidden).astype(np.int16), 4),
            Readout("noise", shape, 0.8 ** np.arange(TIMESTEPS)[::-1], np.full(channels, 0.03), 1 / 1000),
        ),
        (
            Conv(
                "x>hidden",
                "x",
                "hidden",
                rng.integers(-60, 60, (hidden, channels, 3, 3)).astype(np.int8),
                1,
                padding=(1, 1),
            ),
            Conv(
                "hidden>noise",
                "hidden",
                "noise",
                rng.integers(-60, 60, (channels, hidden, 3, 3)).astype(np.int8),
                1,
                padding=(1, 1),
            ),
        ),
        Conditioning(steps, {"hidden": table}),
        Host(beta_schedule=schedule),
    )
    validate(program)
    return program


def small_readout() -> Program:
    """A valid Program whose readout is smaller than its input."""
    program = tiny()
    first, last = program.projections
    assert isinstance(last, Conv)
    hidden, readout = program.populations
    return dataclasses.replace(
        program,
        populations=(hidden, dataclasses.replace(readout, shape=(1, 2, 2))),
        projections=(first, dataclasses.replace(last, padding=(0, 0))),
    )
