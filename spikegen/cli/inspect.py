"""`spikegen inspect`: what a pipeline consists of and how it was made. Needs neither torch nor Lava."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import rich_click as click

from spikegen.cli._output import error_console, output_console
from spikegen.cli._pipeline import read_pipeline

if TYPE_CHECKING:
    from rich.console import Console

    from spikegen.program import Pipeline, Program


@click.command()
@click.argument("source", metavar="PIPELINE")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def inspect(source: str, as_json: bool) -> None:
    """Show the networks of PIPELINE: populations, projections, relay decisions and quantisation."""
    summary = describe(read_pipeline(source, error_console().print))
    if as_json:
        click.echo(json.dumps(summary, indent=1, allow_nan=False))
    else:
        _print(summary)


def describe(pipeline: Pipeline) -> dict[str, Any]:
    """Everything that ``spikegen inspect`` shows, as JSON-able values."""
    from spikegen.program.storage import digest

    return {
        "name": pipeline.name,
        "digest": digest(pipeline),
        "host": _describe_host(pipeline),
        "networks": {role: _describe_network(program) for role, program in pipeline.networks.items()},
        "provenance": dict(pipeline.provenance),
    }


def _describe_host(pipeline: Pipeline) -> dict[str, Any]:
    """The host's part; arrays by their shape, None where they are empty."""
    import numpy as np

    values = {field.name: getattr(pipeline.host, field.name) for field in dataclasses.fields(pipeline.host)}
    shown = {
        name: (list(value.shape) if value.size else None) if isinstance(value, np.ndarray) else value
        for name, value in values.items()
    }
    return {"type": type(pipeline.host).__name__, **shown}


def _describe_network(program: Program) -> dict[str, Any]:
    from spikegen.program import Conv, Lif, Readout, Relay, overflow_risks
    from spikegen.program.counting import fan_out
    from spikegen.program.ir import neurons

    errors = {row["population"]: row["relative_error"] for row in program.report.get("quantisation", [])}
    nodes = [
        {
            "name": name,
            "type": type(node).__name__,
            "shape": list(node.shape),
            "neurons": neurons(node),
            "level": program.levels[name],
            "message": "none" if isinstance(node, Readout) else _message(program.message_bits(name)),
            "tail": type(node.tail).__name__ if isinstance(node, Readout) and node.tail is not None else None,
            "vth": node.vth if isinstance(node, Lif) else None,
            "axonal_delay": int(node.delays.max(initial=0)) if isinstance(node, Lif) else None,
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
            "payload": _message(program.payload_bits(p)),
            "gains": p.gains.tolist() or None,
            "synapses": int(fan_out(p, program.nodes[p.source])[0].sum()),
            "zero_weights": float((p.weight == 0).mean()),
        }
        for p in program.projections
    ]
    spiking = [node for node in program.populations if isinstance(node, Lif)]
    return {
        # A layer that reads a concatenation is several populations, and layers that fire alike share one.
        "spiking_layers": len({node.origin for node in spiking} - {""}),
        "spiking_populations": len(spiking),
        "spiking_neurons": sum(neurons(node) for node in spiking),
        "relays": sum(isinstance(node, Relay) for node in program.populations),
        "timesteps": program.timesteps,
        "depth": program.depth,
        "conditioning_steps": program.conditioning.steps,
        "ann_macs": program.ann_macs,
        "overflow_risks": overflow_risks(program),
        "populations": nodes,
        "projections": projections,
        "streams": list(program.report.get("streams", [])),
    }


def _message(bits: int) -> str:
    return f"{bits} bit" if bits else "binary"


def _print(summary: dict[str, Any]) -> None:
    console = output_console()
    host = dict(summary["host"])
    if "noise_power" in host:
        host["noise_power"] = "not measured" if host["noise_power"] is None else "measured"
    parts = ", ".join(f"{name} {_cell(value)}" for name, value in host.items() if name != "type")
    console.print(f"{summary['name']}: {host['type']}{f' ({parts})' if parts else ''}, digest {summary['digest'][:16]}")
    for role, network in summary["networks"].items():
        _print_network(console, role, network)
    for key, value in summary["provenance"].items():
        console.print(f"{key}: {value}")


def _print_network(console: Console, role: str, summary: dict[str, Any]) -> None:
    from rich.table import Table

    def table(title: str, columns: dict[str, str], rows: list[dict[str, Any]]) -> None:
        drawn = Table(title=title, title_justify="left")
        for heading in columns.values():
            left = heading in ("name", "type", "choice")
            drawn.add_column(heading, justify="left" if left else "right", overflow="fold")
        for row in rows:
            drawn.add_row(*(_cell(row[key]) for key in columns))
        console.print(drawn)

    conditioned = summary["conditioning_steps"]
    console.print(
        f"\n{role}: T = {summary['timesteps']}, depth {summary['depth']}"
        + (f", biases for {conditioned} diffusion steps" if conditioned > 1 else "")
    )
    console.print(
        f"{summary['spiking_layers']} spiking layers in {summary['spiking_populations']} populations of "
        f"{summary['spiking_neurons']:,} neurons, {summary['relays']} relays, {len(summary['projections'])} projections"
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
            "payload": "payload",
            "synapses": "synapses",
        },
        summary["projections"],
    )
    for node in summary["populations"]:
        if node["tail"] is not None:
            console.print(f"{node['name']}: the host goes on with a {node['tail']}")
    if summary["streams"]:
        streams = [{**stream, "choice": _choice(stream)} for stream in summary["streams"]]
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
            console.print(f"overflow is possible: {risk}")
    else:
        console.print("overflow is impossible (interval bounds over all inputs)")


def _choice(stream: dict[str, Any]) -> str:
    if stream["relay"]:
        return "relay"
    cheaper = (stream["relay_operations"] or 0.0) < (stream["composed_operations"] or 0.0)
    return "composed (a relay is too coarse)" if cheaper and not stream.get("fits", True) else "composed"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return "x".join(str(item) for item in value)
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
    return str(value) if isinstance(value, bool | str) else f"{value:,}"
