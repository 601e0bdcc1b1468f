"""The charts of the page: matplotlib's SVG in data URIs, with colours that follow the reader's light or dark scheme.

A chart is drawn in stand-in colours, which :func:`_image` replaces by CSS variables that the picture declares itself.
As an image of its own it can run no script, whatever the names in it are. Equal data give equal bytes.
"""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from spikegen.energy.units import compact, joules, seconds
from spikegen.report.tables import Document, rates, synops_into

WIDTH = 5.6  # inches; at 100 CSS pixels each, a column of the page
ROWS_MAX = 60  # populations in one chart
NAME_MAX, TITLE_MAX = 26, 44  # characters of a population's name there, and of a model's title

# stand-in -> (CSS variable, light, dark)
_COLOURS = {
    "#010101": ("ink", "#1d2733", "#e4e9ef"),
    "#020202": ("soft", "#5d6b7a", "#9aa8b7"),
    "#030303": ("line", "#dde3ea", "#2e3946"),
    "#040404": ("binary", "#3b76c4", "#5a95e0"),
    "#050505": ("graded", "#d9822b", "#e89a4c"),
    "#060606": ("analog", "#2b9a86", "#3fb5a0"),
    "#070707": ("rate", "#7a5bb5", "#9d82d6"),
}
_INK, _SOFT, _LINE, _BINARY, _GRADED, _ANALOG, _RATE = _COLOURS
KINDS = {"binary": _BINARY, "graded": _GRADED, "analog": _ANALOG}  # kinds of a projection
CAUSES = {"binary": "by spikes", "graded": "by graded messages", "analog": "by pixels of the input"}
_HEAT = LinearSegmentedColormap.from_list(
    "heat", ["#2b2350", "#3d4f93", "#2f7f9e", "#35ac91", "#8fd16f", "#f6e663"], N=256
)
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "spikegen",
    "text.parse_math": False,  # names may hold dollars
    "text.color": _INK,
    "axes.labelcolor": _SOFT,
    "axes.edgecolor": _LINE,
    "axes.facecolor": "none",
    "axes.titlecolor": _INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": _LINE,
    "grid.linewidth": 0.8,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _SOFT,
    "ytick.labelcolor": _INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "font.size": 9.5,
}

Range: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class Chart:
    """One picture of the page.

    Attributes:
        name: id in the page.
        title: heading.
        alt: what it shows, in words.
        source: data URI.
        width, height: CSS pixels.
        note: a sentence below it, or "".
    """

    name: str
    title: str
    alt: str
    source: str
    width: int
    height: int
    note: str = ""


def bars(network: Document, role: str) -> Chart:
    """Synaptic operations into each population, by kind, and its firing rate."""
    into, rate = synops_into(network), _spiking(network)
    names, note = _largest({name: sum(kinds.values()) for name, kinds in into.items()})
    with mpl.rc_context(_SETTINGS):
        figure, (left, right) = _rows(names, 2, (1.35, 1))
        start = np.zeros(len(names))
        for kind, colour in KINDS.items():
            lengths = np.array([into[name].get(kind, 0.0) for name in names])
            if lengths.any():
                left.barh(range(len(names)), lengths, left=start, color=colour, height=0.68, label=CAUSES[kind])
                start += lengths
        left.xaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
        left.set_title("synaptic operations in")
        right.barh(range(len(names)), [rate.get(name, 0.0) for name in names], color=_RATE, height=0.68)
        right.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}%"))
        right.set_title("firing rate")
        for axes in (left, right):
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.grid(axis="x")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        source, width, height = _image(figure)
    top = max(into, key=lambda name: sum(into[name].values()))
    alt = (
        f"Bars for {len(names)} populations of the {role}: most synaptic operations go into {top} "
        f"({compact(sum(into[top].values()))} per evaluation)"
    )
    if rate:
        busiest = max(rate, key=lambda name: rate[name])
        alt += f", the highest firing rate has {busiest} ({rate[busiest]:.1%})"
    title = "Operations and firing rates by population, per evaluation"
    return Chart(f"{role}-bars", title, f"{alt}.", source, width, height, note)


def activity(network: Document, role: str) -> Chart | None:
    """Spikes and synaptic operations of one evaluation over the diffusion steps; None for a single step."""
    steps = network["steps"]
    if len(steps) < 2:
        return None
    spikes = [step["total"]["spikes"] / step["evaluations"] for step in steps]
    synops = {
        kind: np.array([step["total"][name] / step["evaluations"] for step in steps])
        for kind, name in (("binary", "binary_synops"), ("graded", "graded_synops"), ("analog", "analog_macs"))
    }
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(WIDTH, 5.0), layout="constrained")
        upper, lower = figure.subplots(2, sharex=True)
        places = np.arange(len(steps))
        upper.fill_between(places, spikes, color=_RATE, alpha=0.18, linewidth=0)
        upper.plot(places, spikes, color=_RATE, linewidth=1.8)
        upper.set_title("spikes")
        used = [kind for kind in KINDS if synops[kind].any()] or ["binary"]
        labels, colours = [CAUSES[kind] for kind in used], [KINDS[kind] for kind in used]
        lower.stackplot(places, [synops[kind] for kind in used], colors=colours, alpha=0.75, labels=labels)
        lower.set_title("synaptic operations")
        figure.legend(*lower.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        for axes in (upper, lower):
            axes.set_ylim(bottom=0)
            axes.margins(x=0)
            axes.grid(axis="y")
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
        _step_axis(lower, steps)
        source, width, height = _image(figure)
    first, last = compact(spikes[0]), compact(spikes[-1])
    alt = f"Spikes of one evaluation of the {role} over {len(steps)} diffusion steps: {first} at first, {last} at last."
    title = "Activity over the diffusion steps, per evaluation"
    return Chart(f"{role}-activity", title, alt, source, width, height)


def heat_map(network: Document, role: str) -> Chart | None:
    """Firing rate of each population at each diffusion step; None for a single step, or if nothing fires."""
    steps, spiking = network["steps"], _spiking(network)
    if len(steps) < 2 or not spiking:
        return None
    sizes = {node["name"]: node["neurons"] for node in network["nodes"] if node["name"] in spiking}
    names, note = _largest({name: sum(step["events"][name] for step in steps) for name in sizes})
    timesteps = network["program"]["timesteps"]
    values = np.array(
        [[step["events"][n] / (sizes[n] * timesteps * step["evaluations"]) for step in steps] for n in names]
    )
    with mpl.rc_context(_SETTINGS):
        figure, (axes,) = _rows(names, 1, (1,))
        picture = axes.imshow(values, aspect="auto", cmap=_HEAT, interpolation="none", vmin=0)
        axes.spines[:].set_visible(False)
        _step_axis(axes, steps)
        bar = figure.colorbar(picture, ax=axes, fraction=0.045, pad=0.02)
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}%"))
        bar.outline.set_visible(False)  # type: ignore[operator]
        source, width, height = _image(figure)
    place = np.unravel_index(int(values.argmax()), values.shape)
    alt = (
        f"Firing rate of {len(names)} populations of the {role} at {len(steps)} diffusion steps, from "
        f"{values.min():.1%} to {values.max():.1%}, the highest in {names[int(place[0])]}."
    )
    title = "Firing rate by population and diffusion step"
    return Chart(f"{role}-heat", title, alt, source, width, height, note)


def energies(document: Document) -> Chart:
    """Energy of one sample under each model, as a range, beside that of the dense ANN."""
    rows = {}
    for name, model in document["models"].items():
        found = document["energy"][name]
        ann = found["ann_per_sample_pj"]
        rows[model["title"]] = (
            (found["per_sample"]["low_pj"], found["per_sample"]["high_pj"]),
            None if ann is None else (ann, ann),
        )
    return _ranges(rows, ("spiking network", "dense ANN"), joules, ("energy-chart", "Estimated energy of one sample"))


def times(document: Document) -> Chart:
    """Time of one sample under each model, alone and as one of a stream."""
    rows = {}
    for name, model in document["time_models"].items():
        alone, streamed = (document["time"][name][f"sample_{how}_ns"] for how in ("alone", "streamed"))
        rows[model["title"]] = ((alone["low"], alone["high"]), (streamed["low"], streamed["high"]))
    return _ranges(rows, ("alone", "streamed"), seconds, ("time-chart", "Estimated time of one sample"))


def _ranges(
    rows: Mapping[str, tuple[Range, Range | None]],
    series: tuple[str, str],
    unit: Callable[[float], str],
    names: tuple[str, str],
) -> Chart:
    """Two series of ranges for each model on a logarithmic axis; ``names`` are id and heading."""
    styles: tuple[dict[str, Any], ...] = (
        {"color": _BINARY, "marker": "o"},
        {"color": _GRADED, "marker": "D", "fillstyle": "none"},
    )
    with mpl.rc_context(_SETTINGS):
        figure, (axes,) = _rows(list(rows), 1, (1,), TITLE_MAX)
        for place, ranges in enumerate(rows.values()):
            for found, label, style in zip(ranges, series, styles, strict=True):
                if found is not None and found[0] > 0:
                    axes.plot(found, (place, place), markersize=7, linewidth=2, label=label, **style)
        axes.set_xscale("log")
        axes.margins(x=0.12)
        low, high = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if high < 100 * low else (1,), numticks=6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: unit(value)))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
        axes.grid(axis="x")
        keys = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        figure.legend([*keys.values()], [*keys], loc="outside lower center", ncols=2)
        source, width, height = _image(figure)
    parts = "; ".join(f"{model} {unit(found[0][0])}" for model, found in rows.items())
    return Chart(*names, f"{names[1]} on a logarithmic scale: {parts}.", source, width, height)


def _spiking(network: Document) -> dict[str, float]:
    """The firing rates without that of a graded input port, whose every pixel counts as a message."""
    graded = {node["name"] for node in network["nodes"] if node["kind"] == "Input" and not node["binary"]}
    return {name: rate for name, rate in rates(network).items() if name not in graded}


def _largest(values: Mapping[str, float]) -> tuple[list[str], str]:
    """The names to draw, in their own order, and a note if some are left out."""
    if len(values) <= ROWS_MAX:
        return list(values), ""
    kept = set(sorted(values, key=lambda name: -values[name])[:ROWS_MAX])
    return [name for name in values if name in kept], f"The {ROWS_MAX} largest of {len(values)} populations."


def _rows(names: Sequence[str], columns: int, widths: Sequence[float], longest: int = NAME_MAX) -> tuple[Figure, Any]:
    """A figure with one row for each name, the first on top, and the axes of its columns."""
    figure = Figure(figsize=(WIDTH, 1.1 + 0.21 * len(names)), layout="constrained")
    axes = figure.subplots(1, columns, sharey=True, squeeze=False, width_ratios=widths)[0]
    labels = [_label(name if len(name) <= longest else f"{name[: longest - 1]}…") for name in names]
    axes[0].set_yticks(range(len(names)), labels)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    for one in axes:
        one.tick_params(axis="y", length=0)
        one.spines["left"].set_visible(False)
    return figure, axes


def _label(name: str) -> str:
    """``name`` without what no XML file may hold."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)


def _step_axis(axes: Axes, steps: Sequence[Document]) -> None:
    places = range(0, len(steps), -(-len(steps) // 6))
    axes.set_xticks(places, [str(steps[place]["step"]) for place in places])
    axes.set_xlabel("diffusion step, from noise to image")


def _image(figure: Figure) -> tuple[str, int, int]:
    """The figure as a data URI, its width and height in CSS pixels."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's fonts draw the text, these only measure it
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    for stand_in, (name, _, _) in _COLOURS.items():
        svg = svg.replace(stand_in, f"var(--{name})")
    svg = re.sub(r"'DejaVu Sans'(, [^;\"]*)?(?=[;\"])", _FONT, svg)
    light, dark = ("".join(f"--{colour[0]}:{colour[which]};" for colour in _COLOURS.values()) for which in (1, 2))
    style = f"<style>:root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
    svg = svg.replace("<defs>", f"{style}<defs>", 1)
    width, height = (round(100 * side) for side in figure.get_size_inches())
    data = base64.b64encode(svg.encode()).decode()
    return f"data:image/svg+xml;base64,{data}", width, height
