"""`spikegen inspect`: what a Program consists of and how it was made. Needs neither torch nor Lava."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import rich_click as click

from spikegen.cli._program import read_program

if TYPE_CHECKING:
    from spikegen.program import Program


@click.command()
@click.argument("source", metavar="PROGRAM")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def inspect(source: str, as_json: bool) -> None:
    """Show the populations, projections, relay decisions and quantisation of PROGRAM."""
    from rich.console import Console

    summary = describe(read_program(source, Console(stderr=True, highlight=False).print))
    if as_json:
        click.echo(json.dumps(summary, indent=1, allow_nan=False))
    else:
        _print(summary)


def describe(program: Program) -> dict[str, Any]:
    """Everything that ``spikegen inspect`` shows, as JSON-able values."""
    from spikegen.program import Conv, Lif, Readout, overflow_risks
    from spikegen.program.counting import fan_out
    from spikegen.program.ir import neurons
    from spikegen.program.storage import digest

    errors = {row["population"]: row["relative_error"] for row in program.report.get("quantisation", [])}
    nodes = [
        {
            "name": name,
            "type": type(node).__name__,
            "shape": list(node.shape),
            "neurons": neurons(node),
            "level": program.levels[name],
            "message": "none"
            if isinstance(node, Readout)
            else f"{program.message_bits(name)} bit"
            if program.message_bits(name)
            else "binary",
            "vth": node.vth if isinstance(node, Lif) else None,
            "scale": node.scale,
            "conditioned": name in program.conditioning.tables,
            "relative_error": errors.get(name),
        }
        for name, node in program.nodes.items()
    ]
    projections = [
        {
            "name": p.name,
            "type": type(p).__name__,
            "weight": list(p.weight.shape),
            "exponent": p.exponent,
            "stride": list(p.stride) if isinstance(p, Conv) else None,
            "groups": p.groups if isinstance(p, Conv) else None,
            "shuffle": p.shuffle if isinstance(p, Conv) else None,
            "delay": p.delay,
            "synapses": int(fan_out(p, program.nodes[p.source])[0].sum()),
            "zero_weights": float((p.weight == 0).mean()),
        }
        for p in program.projections
    ]
    return {
        "name": program.name,
        "digest": digest(program),
        "timesteps": program.timesteps,
        "depth": program.depth,
        "diffusion_steps": program.conditioning.steps,
        "beta_schedule": program.host.beta_schedule,
        "ann_macs": program.host.ann_macs,
        "overflow_risks": overflow_risks(program),
        "populations": nodes,
        "projections": projections,
        "streams": list(program.report.get("streams", [])),
        "provenance": dict(program.provenance),
    }


def _print(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)

    def table(title: str, columns: dict[str, str], rows: list[dict[str, Any]]) -> None:
        drawn = Table(title=title, title_justify="left")
        for heading in columns.values():
            left = heading in ("name", "type", "choice")
            drawn.add_column(heading, justify="left" if left else "right", overflow="fold")
        for row in rows:
            drawn.add_row(*(_cell(row[key]) for key in columns))
        console.print(drawn)

    console.print(
        f"{summary['name']}: T = {summary['timesteps']}, depth {summary['depth']}, "
        f"{summary['diffusion_steps']} diffusion steps ({summary['beta_schedule']}), digest {summary['digest'][:16]}",
        markup=False,
    )
    table(
        "populations",
        {
            "name": "name",
            "type": "type",
            "shape": "shape",
            "neurons": "neurons",
            "level": "level",
            "message": "message",
            "vth": "vth",
            "scale": "LSB",
            "relative_error": "error",
        },
        summary["populations"],
    )
    table(
        "projections",
        {
            "name": "name",
            "weight": "weight",
            "exponent": "exp",
            "stride": "stride",
            "shuffle": "shuffle",
            "delay": "delay",
            "synapses": "synapses",
        },
        summary["projections"],
    )
    if summary["streams"]:
        streams = [{**s, "choice": "relay" if s["relay"] else "composed"} for s in summary["streams"]]
        table(
            "real-valued streams (estimated synaptic operations of one evaluation)",
            {
                "name": "name",
                "readers": "readers",
                "composed_operations": "composed",
                "relay_operations": "relay",
                "choice": "choice",
            },
            streams,
        )
    if summary["overflow_risks"]:
        for risk in summary["overflow_risks"]:
            console.print(f"overflow is possible: {risk}", markup=False)
    else:
        console.print("overflow is impossible (interval bounds over all inputs)")
    for key, value in summary["provenance"].items():
        console.print(f"{key}: {value}", markup=False)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return "x".join(str(item) for item in value)
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("[", "\\[")
