"""`spikegen export`: lower a checkpoint to a Program file."""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click

from spikegen.errors import LoweringError


@click.command()
@click.argument("checkpoint")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Program file to write.")
@click.option(
    "--input-bits", type=click.IntRange(2, 16), default=7, show_default=True, help="Magnitude bits of the input image."
)
@click.option(
    "--input-range",
    type=click.FloatRange(min=0.0, min_open=True),
    default=4.0,
    show_default=True,
    help="Largest magnitude of the input image; what is larger is clipped.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Choice of calibration data.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def export(checkpoint: str, output: Path, input_bits: int, input_range: float, seed: int, as_json: bool) -> None:
    """Lower CHECKPOINT, a folder that `spikegen train` wrote or a shipped model (digits-unet), to a Program."""
    from rich.console import Console

    from spikegen.program import Relay, save
    from spikegen.program.ir import neurons
    from spikegen.program.storage import digest
    from spikegen.runtime.files import check_output

    check_output(output)
    try:
        from spikegen.lowering import InputFormat, export_checkpoint
    except ImportError as error:
        raise LoweringError(f"exporting needs PyTorch and lava-dl ({error}); pip install 'spikegen[torch]'") from error

    errors = Console(stderr=True, highlight=False)
    with errors.status(f"exporting {checkpoint}") as status:
        program = export_checkpoint(
            checkpoint,
            InputFormat(input_bits, input_range),
            seed,
            lambda stage: status.update(f"exporting {checkpoint}: {stage}"),
        )
        save(program, output)
    risks = program.report["overflow_risks"]
    for risk in risks:
        errors.print(f"Warning: overflow is possible: {risk}", markup=False)
    summary = {
        "output": str(output),
        "digest": digest(program),
        "populations": len(program.populations),
        "relays": sum(isinstance(p, Relay) for p in program.populations),
        "neurons": sum(neurons(p) for p in program.populations),
        "projections": len(program.projections),
        "weights": sum(p.weight.size for p in program.projections),
        "depth": program.depth,
        "timesteps": program.timesteps,
        "overflow": "possible" if risks else "impossible",
    }
    if as_json:
        click.echo(json.dumps(summary, indent=1))
        return
    click.echo(
        f"Wrote {output}: {summary['populations']} populations ({summary['relays']} relays), "
        f"{summary['neurons']:,} neurons, {summary['projections']} projections, {summary['weights']:,} weights, "
        f"depth {summary['depth']}, T = {summary['timesteps']}; overflow is {summary['overflow']}"
    )
