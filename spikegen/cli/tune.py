"""`spikegen tune`: quantisation-aware fine-tuning of a pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click

from spikegen.cli._loss_bar import loss_bar
from spikegen.cli._output import error_console
from spikegen.cli._pipeline import read_pipeline
from spikegen.errors import LoweringError


@click.command()
@click.argument("source", metavar="PIPELINE")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Pipeline file to write.")
@click.option("--iterations", type=click.IntRange(min=1), default=150, show_default=True, help="Optimiser steps.")
@click.option("--batch-size", type=click.IntRange(min=2), default=128, show_default=True, help="Images per step.")
@click.option(
    "--lr",
    type=click.FloatRange(min=0.0, min_open=True),
    default=5e-4,
    show_default=True,
    help="Peak learning rate, relative to the size of the weights and to the thresholds.",
)
@click.option("--teacher", metavar="CHECKPOINT", help="Also learn the predictions of this float model.")
@click.option(
    "--teacher-weight",
    type=click.FloatRange(min=0.0),
    default=10.0,
    show_default=True,
    help="Weight of the distance to the prediction of the teacher.",
)
@click.option(
    "--bias-weight",
    type=click.FloatRange(min=0.0),
    default=100.0,
    show_default=True,
    help="Weight of the part of that distance that does not average out: offset, and slope other than 1.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Choice of images and noise.")
@click.option("--state", type=click.Path(path_type=Path), help="Folder of the resumable state; default: OUTPUT.state.")
@click.option(
    "--save-every", type=click.IntRange(min=1), default=50, show_default=True, help="Iterations between saved states."
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; default: torch's choice.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def tune(
    source: str,
    output: Path,
    iterations: int,
    batch_size: int,
    lr: float,
    teacher: str | None,
    teacher_weight: float,
    bias_weight: float,
    seed: int,
    state: Path | None,
    save_every: int,
    threads: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Fine-tune the integer weights and biases of PIPELINE, a pipeline of images, on the data it was trained on.

    The network that learns computes what the written pipeline computes, integer for integer. The same command goes on
    where a killed run stopped.
    """
    from spikegen.runtime.files import check_output

    check_output(output)
    if Path(source).resolve() == output.resolve():
        raise click.UsageError("PIPELINE and --output must be different files")
    try:
        import torch

        from spikegen.models import load_checkpoint
        from spikegen.program import ImageDiffusion, save
        from spikegen.training import Tuner, Tuning
    except ImportError as error:
        raise LoweringError(f"tuning needs PyTorch ({error}); pip install 'spikegen[torch]'") from error

    if threads is not None:
        torch.set_num_threads(threads)
    errors = error_console()
    pipeline = read_pipeline(source, errors.print)
    settings = Tuning(
        iterations=iterations,
        batch_size=batch_size,
        learning_rate=lr,
        teacher_weight=teacher_weight,
        bias_weight=bias_weight,
        seed=seed,
    )
    folder = output.with_name(f"{output.name}.state") if state is None else state
    tuner = Tuner(pipeline, folder, settings, None if teacher is None else load_checkpoint(teacher))
    with loss_bar("tuning", tuner.iteration, iterations, quiet) as on_progress:
        tuned = tuner.run(on_progress=on_progress, save_every=save_every)
    save(tuned.pipeline, output)
    lost = isinstance(pipeline.host, ImageDiffusion) and bool(pipeline.host.noise_power.size)
    if lost:
        errors.print("Note: the measured power of the predicted noise was dropped: it was that of the old weights.")
    if as_json:
        summary = {
            "output": str(output),
            "state": str(folder),
            "iterations": tuner.iteration,
            "loss_before": tuned.loss_before,
            "loss_after": tuned.loss_after,
            "noise_power_dropped": lost,
        }
        click.echo(json.dumps(summary, indent=1))
        return
    click.echo(
        f"Wrote {output}: mean squared error of the predicted noise {tuned.loss_before:.4f} -> {tuned.loss_after:.4f} "
        f"after {tuner.iteration} iterations"
    )
