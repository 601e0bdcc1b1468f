"""`spikegen import`: take over a checkpoint of a published model, or a network of an open format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from click import get_current_context
from click.core import ParameterSource

from spikegen.cli._output import error_console, working
from spikegen.errors import LoweringError

if TYPE_CHECKING:
    from spikegen.models import Checkpoint

SDDPM, SDM, SPIKING_DIFFUSION, NIR, NETX = FORMATS = ("sddpm", "sdm", "spiking-diffusion", "nir", "netx")
SCHEDULES = ("linear", "squaredcos_cap_v2")  # the names of the table in spikegen.diffusion.schedule
_NIR_BITS = 7
# Options that mean something for these formats only.
_OWN = {
    "denoiser": (SPIKING_DIFFUSION,),
    "entry": (SDDPM, SDM, SPIKING_DIFFUSION),
    "image_size": (SDDPM, SDM, SPIKING_DIFFUSION),
    "dataset": (SDDPM, SDM, SPIKING_DIFFUSION),
    "beta_schedule": (SDDPM, SDM),
    "dt": (NIR,),
    "calibration": (NIR,),
    "input_bits": (NIR, NETX),
    "input_range": (NIR,),
    "streamed": (NIR,),
    "at_threshold": (NIR,),
    "seed": (NIR,),
    "input_shape": (NETX,),
    "constant": (NETX,),
}


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, path_type=Path))
@click.option("--from", "source", type=click.Choice(FORMATS), required=True, help="Whose names the file has.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Checkpoint folder to write; for nir and netx the pipeline file.",
)
@click.option(
    "--denoiser",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="spiking-diffusion: file of the SDID, where CHECKPOINT is that of the VQ-SVAE.",
)
@click.option("--entry", help="Entry of the file with the weights; default: net_model, as the authors load it.")
@click.option(
    "-T",
    "--timesteps",
    type=click.IntRange(1, 1024),
    help="T; default: 4 for sddpm, else from the file; nir and netx do not say it, it must be given.",
)
@click.option("--image-size", type=click.IntRange(1, 1024), help="Pixels; default: 32, for spiking-diffusion 28.")
@click.option("--dataset", help="What it was trained on; default: cifar10, or mnist for one channel, at its size.")
@click.option("--beta-schedule", type=click.Choice(SCHEDULES), help="sddpm, sdm: noise schedule; default: linear.")
@click.option(
    "--dt",
    type=click.FloatRange(min=0.0, min_open=True),
    default=1e-4,
    show_default=True,
    help="nir: seconds per timestep; 0.001 for files of Norse, 1 for files that count timesteps (Sinabs).",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="nir: inputs to calibrate on, .npy [N, C, H, W], or [N, T, C, H, W] with --streamed; default: random ones.",
)
@click.option(
    "--input-bits",
    type=click.IntRange(0, 16),
    help="nir, netx: magnitude bits of the input; 0 for spikes. Default: 7, netx 0.",
)
@click.option(
    "--input-range",
    type=click.FloatRange(min=0.0, min_open=True),
    help="nir: largest magnitude of the input; what is larger is clipped; default: that of --calibration, or 1.",
)
@click.option("--streamed", is_flag=True, help="nir: every timestep has an input of its own, such as spikes.")
@click.option(
    "--at-threshold",
    is_flag=True,
    help="nir: neurons fire when they reach their threshold (SpikingJelly), not only above it.",
)
@click.option(
    "--input",
    "input_shape",
    metavar="SHAPE",
    help="netx: one input, such as 1x28x28 (channels, height, width) or 784, where the file does not say it.",
)
@click.option("--constant", is_flag=True, help="netx: every timestep has the same input; default: one of its own.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="nir: choice of random inputs.")
def import_(
    checkpoint: Path,
    source: str,
    output: Path,
    denoiser: Path | None,
    entry: str | None,
    timesteps: int | None,
    image_size: int | None,
    dataset: str | None,
    beta_schedule: str | None,
    dt: float,
    calibration: Path | None,
    input_bits: int | None,
    input_range: float | None,
    streamed: bool,
    at_threshold: bool,
    input_shape: str | None,
    constant: bool,
    seed: int,
) -> None:
    """Write CHECKPOINT, a file of SDDPM, SDM or Spiking-Diffusion, as a checkpoint folder of spikegen.

    Names and shapes are checked in full, and no code in the file is run. The folder goes where a shipped model goes:
    `spikegen export DIR`. For spiking-diffusion, CHECKPOINT may be the folder with model.pth and
    diff_result/diff_model.pth.

    With --from nir, CHECKPOINT is a network file of another framework, which becomes a pipeline file at once; with
    --from netx a file that a SLAYER network's export_hdf5 wrote, whose integers are taken as they are.
    """
    _check_options(source)
    if source == NETX:
        if timesteps is None:
            raise click.UsageError("--timesteps: a file of netx does not say T; give it")
        from spikegen.cli._import_netx import import_file

        import_file(checkpoint, output, timesteps, input_shape, input_bits or 0, streamed=not constant)
        return
    if source == NIR:
        if timesteps is None:
            raise click.UsageError("--timesteps: a NIR file does not say T; give it")
        from spikegen.cli._import_nir import import_network

        import_network(
            checkpoint,
            output,
            timesteps,
            dt,
            calibration,
            (_NIR_BITS if input_bits is None else input_bits, input_range, streamed),
            seed,
            at_threshold=at_threshold,
        )
        return
    try:
        from spikegen import importing
        from spikegen.models.checkpoint import WEIGHTS_FILE, save_checkpoint
    except ImportError as error:
        raise LoweringError(f"importing needs PyTorch ({error}); pip install 'spikegen[torch]'") from error

    if (output / WEIGHTS_FILE).resolve() in {path.resolve() for path in (checkpoint, denoiser) if path is not None}:
        raise click.UsageError(f"{output}: {WEIGHTS_FILE} in it would replace what is imported; choose another folder")
    options: dict[str, Any] = {
        "entry": entry,
        "timesteps": timesteps,
        "image_size": image_size,
        "dataset": dataset,
    }
    with working(error_console(), f"importing {checkpoint}"):
        if source == SPIKING_DIFFUSION:
            found = importing.import_spiking_diffusion(checkpoint, denoiser, **options)
        else:
            read = importing.import_sddpm if source == SDDPM else importing.import_sdm
            found = read(checkpoint, beta_schedule=beta_schedule, **options)
        save_checkpoint(output, found)
    click.echo(f"Wrote {output}\n  {_summary(found)}")


def _check_options(source: str) -> None:
    """Refuse options of other formats."""
    context = get_current_context()
    for name, takers in _OWN.items():
        given = context.get_parameter_source(name) is not ParameterSource.DEFAULT
        if given and source not in takers:
            option = "input" if name == "input_shape" else name.replace("_", "-")
            raise click.UsageError(f"--{option} is an option of {', '.join(takers)}, not of {source}")


def _summary(checkpoint: Checkpoint) -> str:
    config = checkpoint.model.config
    parameters = sum(parameter.numel() for parameter in checkpoint.model.parameters())
    size = config.image_size
    return (
        f"{parameters:,} parameters, images of {config.channels} x {size} x {size}, T = {config.timesteps}, "
        f"{config.diffusion_steps} diffusion steps, data set {checkpoint.dataset}"
    )
