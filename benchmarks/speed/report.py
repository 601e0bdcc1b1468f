"""The results file, and its figures as tables."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.networks import NETWORKS
from spikegen import __version__
from spikegen.atomic import write_atomically

Figures = Mapping[str, Any]
BEGIN, END = "<!-- speed table -->", "<!-- end of speed table -->"
DOCUMENT = Path(__file__).parents[2] / "docs" / "speed.md"
GIB = 1 << 30


def machine(threads: int) -> dict[str, Any]:
    """What the figures depend on."""
    model = "unknown"
    info = Path("/proc/cpuinfo")
    flags: list[str] = []
    if info.exists():
        lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        fields = {key.strip(): value.strip() for key, value in lines.items()}
        model = fields.get("model name", model)
        flags = [flag for flag in fields.get("flags", "").split() if flag.startswith(("avx", "amx"))]
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": threads,
        "instructions": flags,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "spikegen": __version__,
    }


def read(file: Path) -> dict[str, Any]:
    """The results so far."""
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"machine": {}, "rows": {}}
    return found


def write(file: Path, results: Figures) -> None:
    """Replace the results file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, (json.dumps(results, indent=1) + "\n").encode())


def tables(results: Figures) -> str:
    """All rows as markdown."""
    rows: Figures = results["rows"]
    parts = [_machine(results), *(make(_of(rows, row)) for row, make in TABLES.items() if _of(rows, row))]
    return "\n\n".join(parts)


def update(results: Figures, document: Path = DOCUMENT) -> None:
    """Put the tables between the marks of ``document``."""
    text = document.read_text(encoding="utf-8")
    before, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise SystemExit(f"{document} has no {BEGIN} ... {END}")
    write_atomically(document, f"{before}{BEGIN}\n{tables(results)}\n{END}{after}".encode())


def _of(rows: Figures, row: str) -> dict[str, Any]:
    found = {name.partition("/")[2]: figures for name, figures in rows.items() if name.partition("/")[0] == row}
    order = list(NETWORKS)
    return dict(sorted(found.items(), key=lambda item: order.index(item[0]) if item[0] in order else 0))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|---" + "|--:" * (len(header) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _seconds(value: float) -> str:
    if value >= 10:
        return f"{value:.0f} s"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def _machine(results: Figures) -> str:
    found = results["machine"]
    networks = "\n".join(f"- `{name}`: {network.what}" for name, network in NETWORKS.items())
    return (
        f"Machine: {found['processor']}, {found['cores']} cores, {found['threads']} threads, torch {found['torch']}; "
        f"up to {results['rounds']} rounds, median (minimum).\n\n{networks}"
    )


def _forward(rows: Figures) -> str:
    def cell(figures: Figures, name: str) -> str:
        found = figures["seconds"][name]
        return f"{_seconds(found['median'])} ({_seconds(found['min'])})"

    body = [
        (
            f"`{name}`",
            str(f["batch"]),
            str(f["seconds"]["simulator"]["rounds"]),
            f"{f['macs_per_image'] * f['batch'] / 1e9:.2f}",
            f"{f['rate']:.1%}",
            *(cell(f, which) for which in ("simulator", "SpikingJelly", "SLAYER")),
            *(f"{f['ratios'][which]['median']:.1f}" for which in ("SpikingJelly", "SLAYER")),
        )
        for name, f in rows.items()
    ]
    header = (
        "network",
        "batch",
        "rounds",
        "GMAC",
        "spikes",
        "simulator",
        "SpikingJelly",
        "SLAYER",
        "x SpikingJelly",
        "x SLAYER",
    )
    return "**One evaluation of the batch, images in, noise out**\n\n" + _table(header, body)


def _lava(rows: Figures) -> str:
    def cell(figures: Figures, name: str) -> str:
        return _seconds(figures["seconds"][name]["median"] / figures["batch"])

    body = [
        (
            f"`{name}`",
            str(f["batch"]),
            str(f["seconds"]["unrolled"]["rounds"]),
            *(cell(f, which) for which in ("simulator", "fused", "unrolled")),
            *(f"{f['ratios'][which]['median']:,.0f}" for which in ("unrolled / simulator", "unrolled / fused")),
            "yes" if all(f["equal"].values()) else "NO",
        )
        for name, f in rows.items()
    ]
    header = ("network", "images per run", "rounds", "simulator", "Lava fused", "Lava unrolled")
    ratios = ("simulator x unrolled", "fused x unrolled", "equal readouts and counts")
    title = "**Seconds per image and evaluation on Lava's CPU simulator, unrolled with stock `Conv`**"
    return f"{title}\n\n" + _table((*header, *ratios), body)


def _rate(rows: Figures) -> str:
    body = [
        (
            f"`{name}`",
            f"{f['gmacs']:.0f}",
            f"{f['gmacs'] * f['float_macs_per_image'] / f['macs_per_image']:.0f}",
            f"{f['layers_gmacs']:.0f}" if f["layers_gmacs"] else "",
            f"{f['best']['gmacs']:.0f}",
            f"{f['ratio']:.0%}",
            *(f"{f['split'][part]:.0%}" for part in ("convolutions", "neurons", "rest")),
        )
        for name, f in rows.items()
    ]
    header = ("network", "GMAC/s", "of the float network", "convolutions only", "best int8 product", "share")
    text = "**Multiply-accumulates per second of the simulator, and where its time goes**\n\n"
    text += _table((*header, "convolutions", "neurons", "rest"), body)
    best = {name: f["best"]["name"] for name, f in rows.items()}
    text += "\n\nBest int8 product: " + "; ".join(f"{what} (run of `{name}`)" for name, what in best.items()) + "."
    return text + "".join(_layers(name, f) for name, f in rows.items() if name.startswith("sddpm"))


def _layers(name: str, figures: Figures) -> str:
    """The layers by geometry: seconds, rate, and share of the best product."""
    groups: dict[tuple[str, ...], list[float]] = {}
    for layer in figures["split"]["layers"]:
        weight, source = layer["weight"], layer["source"]
        key = ("x".join(map(str, weight)), "x".join(map(str, source)), layer["kernel"])
        sums = groups.setdefault(key, [0, 0.0, 0.0])
        sums[0] += 1
        sums[1] += layer["seconds"]
        sums[2] += layer["seconds"] * layer["gmacs"]
    body = [
        (*key, str(count), _seconds(seconds), f"{products / seconds:.0f}", f"{products / seconds / best:.0%}")
        for key, (count, seconds, products) in sorted(groups.items(), key=lambda item: -item[1][1])
        for best in (figures["best"]["gmacs"],)
    ]
    header = ("weight", "source", "kernel", "convolutions", "time", "GMAC/s", "share of best")
    return f"\n\n**Layers of `{name}`, most time first**\n\n" + _table(header, body)


def _cost(rows: Figures) -> str:
    body = [
        (
            f"`{name}`",
            f"{f['weights']:,}",
            f"{f['peak_bytes'] / GIB:.2f} GiB",
            f"{f['loaded_bytes'] / GIB:.2f} GiB",
            _seconds(f["build_seconds"]),
            _seconds(f["export_seconds"]),
            f"{f['export_peak_bytes'] / GIB:.2f} GiB",
        )
        for name, f in rows.items()
    ]
    batch = next(iter(rows.values()))["batch"]
    header = (
        "network",
        "weights",
        "peak memory",
        "of it before the simulator",
        "to build",
        "export",
        "its peak memory",
    )
    return f"**Memory of an evaluation of {batch} images, and the export**\n\n" + _table(header, body)


def _scaling(rows: Figures) -> str:
    body = [
        (step["from"], step["to"], f"{step['macs']:.2f}", f"{step['seconds']:.2f}", f"{step['excess']:.2f}")
        for f in rows.values()
        for step in f["steps"]
    ]
    header = ("from", "to", "x multiply-accumulates", "x time", "time / multiply-accumulates")
    return "**Doubling a size, of `unet-32` but for the last rows**\n\n" + _table(header, body)


TABLES = {"forward": _forward, "lava": _lava, "rate": _rate, "cost": _cost, "scaling": _scaling}
