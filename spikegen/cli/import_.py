"""`spikegen import`: take over a checkpoint of a published model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from spikegen.cli._output import error_console, working
from spikegen.errors import LoweringError

if TYPE_CHECKING:
    from spikegen.models import Checkpoint

SDDPM, SDM, SPIKING_DIFFUSION = FORMATS = ("sddpm", "sdm", "spiking-diffusion")
SCHEDULES = ("linear", "squaredcos_cap_v2")  # the names of the table in spikegen.diffusion.schedule


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, path_type=Path))
@click.option("--from", "source", type=click.Choice(FORMATS), required=True, help="Whose names the file has.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Checkpoint folder to write.")
@click.option(
    "--denoiser",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="spiking-diffusion: file of the SDID, where CHECKPOINT is that of the VQ-SVAE.",
)
@click.option("--entry", help="Entry of the file with the weights; default: net_model, as the authors load it.")
@click.option("--timesteps", type=click.IntRange(1, 1024), help="T; default: 4 for sddpm, else from the file.")
@click.option("--image-size", type=click.IntRange(1, 1024), help="Pixels; default: 32, for spiking-diffusion 28.")
@click.option("--dataset", help="What it was trained on; default: cifar10, or mnist for one channel, at its size.")
@click.option("--beta-schedule", type=click.Choice(SCHEDULES), help="sddpm, sdm: noise schedule; default: linear.")
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
) -> None:
    """Write CHECKPOINT, a file of SDDPM, SDM or Spiking-Diffusion, as a checkpoint folder of spikegen.

    Names and shapes are checked in full, and no code in the file is run. The folder goes where a shipped model goes:
    `spikegen export DIR`. For spiking-diffusion, CHECKPOINT may be the folder with model.pth and
    diff_result/diff_model.pth.
    """
    if source == SPIKING_DIFFUSION and beta_schedule is not None:
        raise click.UsageError("--beta-schedule: tokens have no noise schedule")
    if source != SPIKING_DIFFUSION and denoiser is not None:
        raise click.UsageError(f"--denoiser is an option of {SPIKING_DIFFUSION}, not of {source}")
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


def _summary(checkpoint: Checkpoint) -> str:
    config = checkpoint.model.config
    parameters = sum(parameter.numel() for parameter in checkpoint.model.parameters())
    size = config.image_size
    return (
        f"{parameters:,} parameters, images of {config.channels} x {size} x {size}, T = {config.timesteps}, "
        f"{config.diffusion_steps} diffusion steps, data set {checkpoint.dataset}"
    )
