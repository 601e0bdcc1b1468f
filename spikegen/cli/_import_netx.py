"""`spikegen import --from netx`."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from spikegen.cli._output import error_console, working
from spikegen.cli._shape import read_shape


def import_file(
    source: Path, output: Path, timesteps: int, input_shape: str | None, bits: int, *, streamed: bool
) -> None:
    """Make the pipeline file ``output`` of the netx file ``source``; the arguments are the options of the command."""
    from spikegen.exporters.netx.convert import import_netx
    from spikegen.program import overflow_risks, save
    from spikegen.runtime.files import check_output

    check_output(output)
    errors = error_console()
    with working(errors, f"importing {source}"):
        size = None if input_shape is None else read_shape(input_shape)[0]
        found = import_netx(source, timesteps, size, bits, streamed=streamed)
        save(found.pipeline, output)
    program = found.pipeline.network("network")
    for warning in [*found.warnings, *(f"overflow is possible: {risk}" for risk in overflow_risks(program))]:
        errors.print(f"Warning: {warning}", markup=False, highlight=False)
    taken = "x".join(map(str, program.input.shape))
    click.echo(
        f"Wrote {output}\n  {len(program.populations)} populations, {len(program.projections)} projections, "
        f"input {taken}, T = {timesteps}"
    )
