"""`spikegen import --from nir`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import rich_click as click

from spikegen.cli._arrays import read_inputs
from spikegen.cli._output import error_console, working
from spikegen.errors import LoweringError


def import_network(
    source: Path,
    output: Path,
    timesteps: int,
    dt: float,
    calibration: Path | None,
    input_form: tuple[int, float | None, bool],
    seed: int,
    *,
    at_threshold: bool,
) -> None:
    """Lower the NIR file ``source`` to the pipeline file ``output``; the arguments are the options of the command."""
    from spikegen.program import save
    from spikegen.runtime.files import check_output

    check_output(output)
    try:
        from spikegen.exporters.nir.convert import InputRange, import_nir
    except ImportError as error:
        raise LoweringError(f"importing needs PyTorch ({error}); pip install 'spikegen[torch]'") from error

    bits, largest, streamed = input_form
    errors = error_console()
    with working(errors, f"importing {source}") as say:
        found = import_nir(
            source,
            timesteps,
            dt,
            None if calibration is None else partial(read_inputs, calibration),
            InputRange(bits, largest, streamed),
            seed,
            lambda stage: say(f"importing {source}: {stage}"),
            at_threshold=at_threshold,
        )
        save(found.pipeline, output)
    program = found.pipeline.network("network")
    for warning in [*found.warnings, *(f"overflow is possible: {risk}" for risk in program.report["overflow_risks"])]:
        errors.print(f"Warning: {warning}", markup=False, highlight=False)
    agreement = ", ".join(f"{name} {share:.4f}" for name, share in found.agreement.items())
    click.echo(
        f"Wrote {output}\n  {len(program.populations)} populations, {len(program.projections)} projections, "
        f"T = {timesteps}, dt = {dt:g}\n  spikes equal to the float network's: {agreement or 'no neurons'}"
    )
