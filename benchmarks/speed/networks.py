"""The networks that are measured: random weights but for digits-unet, exported once and kept in a folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikegen.lowering.export import export_model
from spikegen.models import Checkpoint, UNetConfig, load_checkpoint
from spikegen.program import Lif, Program, Target, load, save
from spikegen.program.ir import Conv
from spikegen.runtime.evaluate import evaluate_frames
from spikegen.simulator import Simulator
from spikegen.training import Recipe, untrained
from spikegen.training.recipes import Stage

SMALL = UNetConfig(image_size=16, channels=1, width=32, neuron="hard-reset")
"""Width 32, multipliers 1-2, one block per level and one in the middle, T = 4, spiking tail: 57,360,384
multiply-accumulates per image and SNN step, taps on padding counted, which is 3.67 G at batch 16."""

SDDPM = UNetConfig(
    image_size=32,
    channels=3,
    width=32,
    multipliers=(1, 2, 2, 4),
    blocks=2,
    middle_blocks=2,
    neuron="hard-reset",
    tail="swish",
)
"""The architecture of SDDPM (arXiv 2306.17046), whose width is 128; its tail is computed by the host."""


@dataclass(frozen=True)
class Network:
    """A network by name; ``config`` None is the shipped checkpoint of that name."""

    name: str
    config: UNetConfig | None
    what: str

    def checkpoint(self) -> Checkpoint:
        """The float model: shipped, or with random weights and BatchNorm statistics of noise, so that it fires."""
        if self.config is None:
            return load_checkpoint(self.name)
        size = self.config.image_size
        dataset = f"noise:{self.config.channels}x{size}x{size}"
        return untrained(Recipe(self.config, (Stage(batch_size=16),), dataset=dataset), batches=1)

    def file(self, folder: Path) -> Path:
        """The exported pipeline, in ``folder``, where it is made once."""
        path = folder / f"{self.name}.h5"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            save(export_model(self.checkpoint(), self.name), path)
        return path

    def program(self, folder: Path) -> Program:
        """The network "denoiser" of that pipeline."""
        return load(self.file(folder)).network("denoiser")


def of_unet(config: UNetConfig) -> Network:
    """A U-Net like :data:`SMALL`, named after what may differ."""
    name = f"unet-w{config.width}-{config.image_size}x{config.image_size}-T{config.timesteps}"
    return Network(name, config, describe(config))


def describe(config: UNetConfig) -> str:
    """Sizes in words."""
    multipliers = "-".join(map(str, config.multipliers))
    size = f"{config.image_size}x{config.image_size}x{config.channels}"
    return f"width {config.width}, multipliers {multipliers}, blocks {config.blocks}, {size}, T = {config.timesteps}"


NETWORKS: Mapping[str, Network] = {
    "digits-unet": Network("digits-unet", None, "shipped: FSDDIM, width 36, multipliers 1-2, blocks 1, 8x8x1, T = 4"),
    "unet-32": Network("unet-32", SMALL, describe(SMALL)),
    **{
        f"sddpm-{width}": Network(f"sddpm-{width}", replace(SDDPM, width=width), describe(replace(SDDPM, width=width)))
        for width in (32, 64, 128)
    },
}


def macs(program: Program) -> int:
    """Multiply-accumulates of the Program for one image, all timesteps: stored weights, taps on padding counted.

    A frame that the input repeats is convolved once.
    """
    total = 0
    for projection in program.projections:
        target = program.nodes[projection.target].shape
        pixels = math.prod(target[1:]) // projection.shuffle**2 if isinstance(projection, Conv) else 1
        repeated = projection.source == program.input.name and not program.input.streamed
        total += projection.weight.size * pixels * (1 if repeated else program.timesteps)
    return total


def images_of(program: Program, images: int, seed: int = 0) -> npt.NDArray[np.float64]:
    """Noise, as at the start of sampling."""
    return np.random.default_rng(seed).standard_normal((images, *program.input.shape))


def predict(
    program: Program, target: Target, images: npt.NDArray[np.float64], step: int = 500
) -> npt.NDArray[np.float64]:
    """Images in, noise out: quantisation and the host's tail included, as a float model has them."""
    return evaluate_frames(program, target, program.input.quantize(images), step, len(images))[0]


def firing(program: Program) -> float:
    """Mean spikes per neuron and timestep over the populations, of one image."""
    with Simulator(program) as simulator:
        found = simulator.evaluate(program.input.quantize(images_of(program, 1)), 500, record=True)
    rates = [float(np.mean(found.messages[p.name])) for p in program.populations if isinstance(p, Lif)]
    return float(np.mean(rates))
