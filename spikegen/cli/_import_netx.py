"""`spikegen import --from netx`."""

from __future__ import annotations

import re
from pathlib import Path

import rich_click as click

from spikegen.cli._output import error_console, working

_SHAPE = re.compile(r"\d{1,7}(x\d{1,7}x\d{1,7})?")


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
        found = import_netx(source, timesteps, _shape(input_shape), bits, streamed=streamed)
        save(found.pipeline, output)
    program = found.pipeline.network("network")
    for warning in [*found.warnings, *(f"overflow is possible: {risk}" for risk in overflow_risks(program))]:
        errors.print(f"Warning: {warning}", markup=False, highlight=False)
    size = "x".join(map(str, program.input.shape))
    click.echo(
        f"Wrote {output}\n  {len(program.populations)} populations, {len(program.projections)} projections, "
        f"input {size}, T = {timesteps}"
    )


def _shape(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    sizes = [int(size) for size in text.split("x")] if _SHAPE.fullmatch(text) else []
    if not sizes or min(sizes) < 1:
        raise click.UsageError(f"--input {text}: expected channels x height x width, such as 1x28x28, or features: 784")
    return (sizes[0], sizes[1], sizes[2]) if len(sizes) == 3 else (sizes[0], 1, 1)
