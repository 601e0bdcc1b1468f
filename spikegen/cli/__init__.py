"""The command line. `spikegen --help` imports neither torch nor Lava nor numpy: a command is loaded when it is run."""

from __future__ import annotations

import rich_click as click

from spikegen import __version__
from spikegen.cli._lazy import LazyCommand, LazyGroup

COMMANDS: dict[str, LazyCommand] = {
    "data": LazyCommand(
        "spikegen.cli.data",
        "data",
        "Look at a data set, or fetch it.",
        "spikegen data mnist@32 --download",
    ),
    "train": LazyCommand(
        "spikegen.cli.train",
        "train",
        "Train a spiking model.",
        "spikegen train digits-unet -o runs/digits",
    ),
    "import": LazyCommand(
        "spikegen.cli.import_",
        "import_",
        "Take over a published checkpoint.",
        "spikegen import 1224_4T.pt --from sddpm -o sddpm-cifar10",
    ),
    "export": LazyCommand(
        "spikegen.cli.export",
        "export",
        "Lower a checkpoint to integer networks.",
        "spikegen export digits-unet -o digits.h5",
    ),
    "tune": LazyCommand(
        "spikegen.cli.tune",
        "tune",
        "Fine-tune the integers of a pipeline.",
        "spikegen tune digits.h5 --teacher digits-unet -o tuned.h5",
    ),
    "inspect": LazyCommand(
        "spikegen.cli.inspect",
        "inspect",
        "Show what a pipeline consists of and how it was made.",
        "spikegen inspect digits.h5",
    ),
    "check": LazyCommand(
        "spikegen.cli.check",
        "check",
        "Check a pipeline against the limits of a Loihi 2 board.",
        "spikegen check digits.h5 --board oheogulch --fix",
    ),
    "verify": LazyCommand(
        "spikegen.cli.verify",
        "verify",
        "Compare simulator, SLAYER, Lava and ONNX Runtime spike by spike.",
        "spikegen verify digits.h5",
    ),
    "statistics": LazyCommand(
        "spikegen.cli.statistics",
        "statistics",
        "Measure what the solver analytic needs.",
        "spikegen statistics digits.h5 -o measured.h5",
    ),
    "sample": LazyCommand(
        "spikegen.cli.sample",
        "sample",
        "Generate images with a pipeline.",
        "spikegen sample digits.h5 -n 16 --steps 20 --seed 0 --backend lava -o digits.png --counts counts.json",
    ),
    "run": LazyCommand(
        "spikegen.cli.run",
        "run",
        "Run a plain network on inputs.",
        "spikegen run net.h5 --input x.npy -o y.npy --counts counts.json",
    ),
    "deploy": LazyCommand(
        "spikegen.cli.deploy",
        "deploy",
        "Write a job folder for a host with Loihi 2.",
        "spikegen deploy digits.h5 --partition oheogulch -n 64 --steps 20 --shards 4 -o job",
    ),
    "submit": LazyCommand(
        "spikegen.cli.submit",
        "submit",
        "Queue a job folder with Slurm, here or over ssh.",
        "spikegen submit job --ssh me@inrc-host",
    ),
    "status": LazyCommand(
        "spikegen.cli.status",
        "status",
        "Show how far the shards of a job are.",
        "spikegen status job --wait",
    ),
    "fetch": LazyCommand(
        "spikegen.cli.fetch",
        "fetch",
        "Check and merge the results of a job.",
        "spikegen fetch job -o digits.png --counts counts.json",
    ),
    "reconstruct": LazyCommand(
        "spikegen.cli.reconstruct",
        "reconstruct",
        "Encode and decode real images.",
        "spikegen reconstruct digits-vq -n 16 -o reconstructed.png",
    ),
    "report": LazyCommand(
        "spikegen.cli.report",
        "report",
        "Count operations and estimate their energy.",
        "spikegen report digits.h5 --counts counts.json",
    ),
}


@click.group(cls=LazyGroup, table=COMMANDS, epilog="Example:\n\nspikegen sample digits-unet -n 16 -o digits.png")
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Spiking generative models, from PyTorch to the Lava simulator and Loihi 2."""
