"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import rich_click as click

Command = TypeVar("Command", bound=Callable[..., Any])

# The names of the tables in spikegen.runtime, whose import `--help` need not wait for.
BACKENDS = ("simulator", "lava", "lava-unrolled", "loihi2", "loihi2-sim", "onnx")
SYNAPSES = ("fast-conv", "sparse", "conv")
BACKEND_SYNAPSES = {
    "lava-unrolled": SYNAPSES,
    "loihi2": ("conv", "sparse"),
    "loihi2-sim": ("conv", "sparse"),
}
GENERATORS = ("chip", "lookup")
SEED = click.IntRange(0, (1 << 64) - 1)
# The names of the tables in spikegen.diffusion, likewise.
_SOLVERS = ("ddim", "ddpm", "analytic", "dpm-solver++", "absorbing")
_SPACINGS, _VARIANCES = ("linspace", "leading", "trailing"), ("fixed_small", "fixed_large")
IMAGE_STEPS = 20  # of solvers of images, where nobody chooses


def backend_options(command: Command) -> Command:
    """``--backend``, ``--synapses``, ``--device`` and ``--batch``: where networks run."""
    options = (
        click.option(
            "--backend",
            type=click.Choice(BACKENDS),
            default="simulator",
            show_default=True,
            help="Where the networks run; lava is one fused process, lava-unrolled one for every layer and projection, "
            "loihi2 the chip, loihi2-sim the chip's network with CPU models, onnx ONNX Runtime.",
        ),
        click.option(
            "--synapses",
            type=click.Choice(SYNAPSES),
            help="How the synapses are held; default fast-conv for lava-unrolled, conv for loihi2 and loihi2-sim.",
        ),
        click.option(
            "--device", metavar="DEVICE", help="Where the simulator computes: cpu (default), cuda, cuda:1, ..."
        ),
        click.option("--batch", type=click.IntRange(min=1), help="Images per evaluation; changes no result."),
    )
    for option in reversed(options):
        command = option(command)
    return command


generator_option = click.option(
    "--generator",
    type=click.Choice(GENERATORS),
    help="Spike generator of a token decoder: on the chip (default), or a look-up table on the host; equal spikes.",
)

threshold_option = click.option(
    "--threshold-scale",
    type=float,
    metavar="FACTOR",
    default=1.0,
    show_default=True,
    help="Threshold guidance: all thresholds of the denoiser times this, such as 0.997.",
)


def sampling_options(command: Command) -> Command:
    """Everything that decides the samples: their number, steps, solver and its options, seed."""
    options = (
        click.option(
            "-n", "--images", type=click.IntRange(min=1), default=16, show_default=True, help="Number of images."
        ),
        click.option(
            "--steps", type=click.IntRange(min=1), help="Solver steps; default 20 for images, all for tokens."
        ),
        click.option(
            "--solver", type=click.Choice(_SOLVERS), help="Solver; default ddim for images, absorbing for tokens."
        ),
        click.option(
            "--eta", type=click.FloatRange(0.0, 1.0), help="Noise of ddim: 0 none (default), 1 as much as ddpm."
        ),
        click.option(
            "--variance", type=click.Choice(_VARIANCES), help="Noise of ddpm: beta~ (fixed_small, default) or beta."
        ),
        click.option(
            "--spacing",
            type=click.Choice(_SPACINGS),
            help="Timesteps of the solvers of images; default leading, for dpm-solver++ linspace, which is its own.",
        ),
        threshold_option,
        click.option("--temperature", type=float, help="Temperature of the token probabilities, > 0; default 1."),
        generator_option,
        click.option(
            "--seed", type=SEED, metavar="INTEGER", default=0, show_default=True, help="Same seed, same images."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def check_backend(backend: str, synapses: str | None, device: str | None) -> None:
    """Refuse ``--synapses`` and ``--device`` where they mean nothing."""
    if device is not None and backend != "simulator":
        raise click.UsageError(f"--device is an option of the backend simulator, not of {backend}")
    if synapses is None:
        return
    if backend not in BACKEND_SYNAPSES:
        takers = ", ".join(BACKEND_SYNAPSES)
        raise click.UsageError(f"--synapses is an option of the backends {takers}, not of {backend}")
    if synapses not in BACKEND_SYNAPSES[backend]:
        known = ", ".join(BACKEND_SYNAPSES[backend])
        raise click.UsageError(f"--synapses {synapses} is not for {backend}, which has {known}")
