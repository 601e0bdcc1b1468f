"""The report as one HTML page that needs nothing else: no script, no file beside it, no network."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import jinja2

import spikegen
from spikegen.energy.units import compact, joules_range, seconds_range
from spikegen.report import estimates, figures, tables
from spikegen.report.cores import CELL, COLUMNS, CORE, Cores, cores
from spikegen.report.figures import Chart
from spikegen.report.tables import Document, Table

ENERGY_TILE, TIME_TILE = "horowitz45_fp32", "loihi2_n3b3"  # models of the key figures
CHIPS_LABELLED = 4  # more chips are drawn smaller, without numbers in their cores


@dataclass(frozen=True)
class Picture:
    """The picture of the samples.

    Attributes:
        png: PNG file, made here: a file from elsewhere is decoded first.
        alt: what it shows, in words.
    """

    png: bytes
    alt: str

    @property
    def source(self) -> str:
        """Data URI."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Tile:
    """A key figure: label, value, and what it is of."""

    label: str
    value: str
    remark: str


@dataclass(frozen=True)
class Section:
    """The charts and tables of one network."""

    role: str
    summary: str
    activity: Chart | None
    operations: Table
    charts: tuple[Chart, ...]
    tables: tuple[Table, ...]


def html_page(document: Document, samples: Picture | None = None) -> str:
    """The page of a report.

    Args:
        document: what ``spikegen report --json`` writes; all that the page says is in it. ``check``, if it is there, is
            what ``spikegen check --json`` prints, or ``{"error": message}``.
        samples: the picture of the samples, or None.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("spikegen.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    check = document.get("check")
    found = _cores(check)
    return environment.get_template("page.html").render(
        title=document["pipeline"]["name"],
        subtitle=_subtitle(document),
        tiles=_tiles(document, check),
        provenance=_provenance(document),
        samples=samples,
        sections=[_section(network, role) for role, network in document["networks"].items()],
        energy_chart=figures.energies(document),
        energies=estimates.energies(document),
        energy_tables=_energy_tables(document),
        measured=estimates.measured(document),
        time_chart=figures.times(document),
        times=estimates.times(document),
        durations=estimates.durations(document),
        assumptions=document["assumptions"]["mapping"],
        check=check,
        cores=found,
        small=any(len(network.chips) > CHIPS_LABELLED for network in found),
        definitions=tables.definitions(document),
        version=spikegen.__version__,
        geometry={"width": COLUMNS * CELL, "core": CORE},
    )


def _subtitle(document: Document) -> str:
    parts = [
        f"{role} at {len(network['diffusion_steps'])} diffusion steps"
        if len(network["diffusion_steps"]) > 1
        else f"{role} once"
        for role, network in document["networks"].items()
    ]
    samples = "1 sample" if document["samples"] == 1 else f"{document['samples']:,} samples"
    return f"{samples}: {', '.join(parts)}"


def _provenance(document: Document) -> Table:
    pipeline = document["pipeline"]
    items = {
        "pipeline": pipeline["name"],
        "digest": pipeline["digest"],
        **{f"run: {key}": value for key, value in (document.get("run") or {}).items()},
        "samples": f"{document['samples']:,}",
        **document.get("provenance", {}),
        "report by": f"spikegen {spikegen.__version__}",
    }
    return tables.pairs("provenance", "Provenance", ((key, str(value)) for key, value in items.items()))


def _tiles(document: Document, check: Document | None) -> list[Tile]:
    per_sample = document["per_sample"]
    synops = sum(per_sample[name] for name in tables.SYNOPS)
    tiles = [
        Tile("synaptic operations", compact(synops), "per sample, zero weights included"),
        Tile("spikes", compact(per_sample["spikes"]), "per sample"),
    ]
    for name in _first(ENERGY_TILE, document["models"]):
        energy = document["energy"][name]["per_sample"]
        value = joules_range(energy["low_pj"], energy["high_pj"])
        tiles.append(Tile("estimated energy", value, f"per sample, {document['models'][name]['title']}"))
    for name in _first(TIME_TILE, document["time_models"]):
        time = document["time"][name]["sample_alone_ns"]
        value = seconds_range(time["low"], time["high"])
        tiles.append(Tile("estimated time", value, f"one sample alone, {document['time_models'][name]['title']}"))
    if check is not None and "networks" in check:
        verdict = "fits" if check["fits"] else "does not fit"
        most = max(network["cores"] for network in check["networks"].values())
        tiles.append(Tile("cores", f"{most:,}", f"{verdict} {check['board']['title']}, estimated"))
    return tiles


def _steps(steps: int) -> str:
    return "1 step" if steps == 1 else f"{steps} steps"


def _first(wanted: str, models: Document) -> list[str]:
    """The model for a key figure: the one that is wanted, else the first, if there is any."""
    return [wanted] if wanted in models else list(models)[:1]


def _section(network: Document, role: str) -> Section:
    program = network["program"]
    steps = len(network["diffusion_steps"])
    neurons = sum(node["neurons"] for node in network["nodes"] if node["kind"] != "Input")
    summary = (
        f"{program['name']}: {neurons:,} neurons, T = {program['timesteps']} timesteps, "
        f"{network['evaluations']:,} evaluations ({network['samples']:,} samples x {_steps(steps)})."
    )
    charts = (figures.bars(network, role), figures.heat_map(network, role))
    more = [tables.populations(network, role), tables.projections(network, role)]
    if steps > 1:
        more.append(tables.steps(network, role))
    more += [estimates.on_cores(network, role), estimates.loads(network, role)]
    return Section(
        role,
        summary,
        figures.activity(network, role),
        tables.operations(network, role),
        tuple(chart for chart in charts if chart),
        tuple(more),
    )


def _energy_tables(document: Document) -> list[Table]:
    found = [estimates.shares(document), estimates.prices(document)]
    found += [estimates.formula(network, role) for role, network in document["networks"].items()]
    cost = document.get("generator")
    return [*found, tables.generator(cost)] if cost else found


def _cores(check: Any) -> list[Cores]:
    if check is None or "networks" not in check:
        return []
    return [cores(role, network, check["board"]) for role, network in check["networks"].items()]
