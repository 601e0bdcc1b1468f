"""`spikegen check`: does a pipeline fit a board, and what would. Needs neither torch nor Lava for a pipeline file."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import rich_click as click

from spikegen.cli._lazy import EXIT_ERROR
from spikegen.cli._output import error_console, output_console
from spikegen.cli._pipeline import read_pipeline

if TYPE_CHECKING:
    from rich.console import Console

    from spikegen.hardware.loihi2 import Check, NetworkCheck


@click.command()
@click.argument("source", metavar="PIPELINE")
@click.option("--board", default="oheogulch", show_default=True, help="Board, such as oheogulch or kapohopoint.")
@click.option("--fix", is_flag=True, help="Propose what would fit: boards, widths, timesteps, relays.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def check(ctx: click.Context, source: str, board: str, fix: bool, as_json: bool) -> None:
    """Check every network of PIPELINE against the limits of a board, and show its cores. Exit code 1 if one is broken.

    Cores are an estimate by the rules that published compiler logs show; delays take cores too.
    """
    from spikegen.hardware.loihi2 import check_pipeline, find_board

    wanted = find_board(board)
    found = check_pipeline(read_pipeline(source, error_console().print), wanted)
    summary = describe(found, fix=fix)
    if as_json:
        click.echo(json.dumps(summary, indent=1, allow_nan=False))
    else:
        _print(summary)
    if not found.fits:
        ctx.exit(EXIT_ERROR)


def describe(check: Check, *, fix: bool) -> dict[str, Any]:
    """Everything that ``spikegen check`` shows, as JSON-able values."""
    board = {field: getattr(check.board, field) for field in ("name", "title", "chips", "source")}
    networks = {role: _describe_network(check, network, fix=fix) for role, network in check.networks.items()}
    return {"board": board, "fits": check.fits, "cores_together": check.together, "networks": networks}


def _describe_network(check: Check, network: NetworkCheck, *, fix: bool) -> dict[str, Any]:
    from spikegen.hardware.loihi2 import propose, smallest_board

    layout = network.layout
    enough = smallest_board(layout.chips)
    traffic = layout.traffic()
    return {
        "fits": network.fits,
        "cores": layout.cores,
        "cores_available": check.board.chips * layout.budget.cores_per_chip,
        "chips": layout.chips,
        "smallest_board": None if enough is None else enough.name,
        "cores_by_role": {role.value: cores for role, cores in layout.cores_by_role().items()},
        "violations": [dataclasses.asdict(violation) for violation in network.violations],
        "placements": [
            {
                "layer": placement.layer.name,
                "role": placement.layer.role.value,
                "population": placement.layer.population,
                "cores": placement.cores,
                "tile": list(placement.tile),
                "chips": [layout.chips_of(placement)[0], layout.chips_of(placement)[-1]],
                "used": dict(placement.used),
                "shares": {name: round(share, 4) for name, share in placement.shares.items()},
                "bottleneck": placement.bottleneck,
            }
            for placement in layout.placements
        ],
        "messages_between_chips": [[*ends, messages] for ends, messages in traffic.items()],
        "proposals": [dataclasses.asdict(proposal) for proposal in propose(network, check.board)] if fix else None,
    }


def _print(summary: dict[str, Any]) -> None:
    console = output_console()
    board = summary["board"]
    for role, network in summary["networks"].items():
        _print_network(console, role, network, board)
    if len(summary["networks"]) > 1:
        console.print(f"\nall networks at the same time: {summary['cores_together']} cores")
    verdict = "fits" if summary["fits"] else "does not fit"
    console.print(f"\n{verdict} {board['title']} ({_count(board['chips'], 'chip')})")


def _print_network(console: Console, role: str, network: dict[str, Any], board: dict[str, Any]) -> None:
    from rich.table import Table

    by_role = ", ".join(f"{cores} for {name}s" for name, cores in network["cores_by_role"].items() if cores)
    console.print(
        f"\n{role}: {network['cores']} of {network['cores_available']} cores of {board['title']} ({by_role}), "
        f"{_count(network['chips'], 'chip')}"
    )
    table = Table(title="cores (the fullest of each population)", title_justify="left")
    rows = _rows(network["placements"])
    for heading in list(rows[0]):
        left = heading in ("population", "full by")
        table.add_column(heading, justify="left" if left else "right", overflow="fold", no_wrap=heading == "full by")
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
    if network["messages_between_chips"]:
        total = sum(messages for *_, messages in network["messages_between_chips"])
        console.print(f"between chips, if every neuron sends: {total:,} messages per timestep (times the firing rate)")
    for violation in network["violations"]:
        where = f"{violation['where']}: " if violation["where"] else ""
        used = f"{violation['resource']} {violation['used']:,}, limit {violation['limit']:,}"
        console.print(f"{violation['rule']}: {where}{used}; {violation['hint']}", soft_wrap=True)
    for proposal in network["proposals"] or ():
        mark = "would fit" if proposal["fits"] else "would not be enough"
        console.print(f"{mark}: {proposal['change']}: {proposal['effect']}", soft_wrap=True)


def _rows(placements: list[dict[str, Any]]) -> list[dict[str, str]]:
    """One row for each population that takes cores, delays and partial sums beside it; columns that say anything."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for placement in placements:
        groups.setdefault(placement["population"], []).append(placement)
    rows = []
    for name, group in groups.items():
        own = [placement for placement in group if placement["role"] == "population"]
        cores = {
            heading: sum(placement["cores"] for placement in group if placement["role"] == role)
            for heading, role in (("cores", "population"), ("delays", "delay"), ("sums", "partial sum"))
        }
        full = own[0] if own else group[0]  # an input has delays only
        first, last = min(row["chips"][0] for row in group), max(row["chips"][1] for row in group)
        rows.append(
            {
                "population": name,
                **{heading: str(count) if count else "" for heading, count in cores.items()},
                "tile": "x".join(map(str, full["tile"])),
                "neurons": f"{full['used']['neurons']:,}",
                "words": f"{full['used']['synapse_words']:,}",
                "full by": full["bottleneck"].replace("_", " "),
                "share": f"{full['shares'][full['bottleneck']]:.0%}",
                "chips": str(first) if first == last else f"{first}-{last}",
            }
        )
    empty = {heading for heading in ("delays", "sums") if not any(row[heading] for row in rows)}
    if all(row["chips"] == "0" for row in rows):
        empty.add("chips")
    return [{heading: cell for heading, cell in row.items() if heading not in empty} for row in rows]


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"
