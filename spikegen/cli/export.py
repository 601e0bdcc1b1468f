"""`spikegen export`: lower a checkpoint to a pipeline file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from spikegen.cli._options import threshold_option
from spikegen.cli._output import error_console, working
from spikegen.errors import LoweringError

if TYPE_CHECKING:
    from spikegen.program import Program


@click.command()
@click.argument("checkpoint")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Pipeline file to write.")
@click.option(
    "--input-bits",
    type=click.IntRange(2, 16),
    default=7,
    show_default=True,
    help="Magnitude bits of real-valued inputs: images, code vectors.",
)
@click.option(
    "--input-range",
    type=click.FloatRange(min=0.0, min_open=True),
    default=4.0,
    show_default=True,
    help="Largest magnitude of a noised image; what is larger is clipped.",
)
@click.option(
    "--payload-bits",
    type=click.IntRange(1, 16),
    default=4,
    show_default=True,
    help="Most bits of the gain of a timestep (a model with TSM); fewer are used where they leave a smaller error.",
)
@click.option(
    "--streams",
    type=click.Choice(["cheapest", "composed", "relayed"]),
    default="cheapest",
    show_default=True,
    help="Real-valued streams: composed into the projections of their readers, computed once by relays, or whichever "
    "costs fewer operations.",
)
@threshold_option
@click.option("--dataset", help="Data set to calibrate on; default: the one that the model was trained on.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Choice of calibration data.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def export(
    checkpoint: str,
    output: Path,
    input_bits: int,
    input_range: float,
    payload_bits: int,
    streams: str,
    threshold_scale: float,
    dataset: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Lower CHECKPOINT, a folder that `spikegen train` wrote or a shipped model, to a pipeline file.

    Shipped models: digits-unet, digits-vq. The file holds every network of the model and the host's part around them.
    """
    from spikegen.program import save
    from spikegen.program.storage import digest
    from spikegen.program.threshold import guided
    from spikegen.runtime.files import check_output

    check_output(output)
    try:
        from spikegen.lowering import export_checkpoint
    except ImportError as error:
        raise LoweringError(f"exporting needs PyTorch and lava-dl ({error}); pip install 'spikegen[torch]'") from error

    errors = error_console()
    with working(errors, f"exporting {checkpoint}") as say:
        pipeline = export_checkpoint(
            checkpoint,
            seed,
            lambda stage: say(f"exporting {checkpoint}: {stage}"),
            input_bits=input_bits,
            noisy_range=input_range,
            payload_bits=payload_bits,
            streams=streams,
            dataset=dataset,
        )
        pipeline = guided(pipeline, threshold_scale)
        save(pipeline, output)
    for role, program in pipeline.networks.items():
        for risk in program.report["overflow_risks"]:
            errors.print(f"Warning: overflow is possible: {role}: {risk}")
    networks = {role: _summary(program) for role, program in pipeline.networks.items()}
    if as_json:
        summary = {"output": str(output), "name": pipeline.name, "digest": digest(pipeline), "networks": networks}
        click.echo(json.dumps(summary, indent=1))
        return
    click.echo(f"Wrote {output}")
    for role, row in networks.items():
        click.echo(
            f"  {role}: {row['populations']} populations ({row['relays']} relays), {row['neurons']:,} neurons, "
            f"{row['projections']} projections, {row['weights']:,} weights, depth {row['depth']}, "
            f"T = {row['timesteps']}; overflow is {row['overflow']}"
        )


def _summary(program: Program) -> dict[str, Any]:
    from spikegen.program import Relay
    from spikegen.program.ir import neurons

    return {
        "populations": len(program.populations),
        "relays": sum(isinstance(p, Relay) for p in program.populations),
        "neurons": sum(neurons(p) for p in program.populations),
        "projections": len(program.projections),
        "weights": sum(p.weight.size for p in program.projections),
        "depth": program.depth,
        "timesteps": program.timesteps,
        "overflow": "possible" if program.report["overflow_risks"] else "impossible",
    }
