"""Pages that are generated from the code, so that they cannot go stale. Each function returns MyST Markdown."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Iterator

import click

from spikegen import cli, program
from spikegen.energy import MAPPED, MODELS, OPERATIONS, TIME_MODELS, Constant
from spikegen.exporters.netx.layers import LAYERS as NETX
from spikegen.exporters.netx.layers import REFUSED as NETX_REFUSED
from spikegen.exporters.nir.primitives import PRIMITIVES as NIR
from spikegen.exporters.nir.primitives import REFUSED as NIR_REFUSED
from spikegen.lowering.layers import CONTAINERS, LAYERS
from spikegen.program import numerics

PRIMITIVES: tuple[type, ...] = (
    program.Program,
    program.Input,
    program.Lif,
    program.Relay,
    program.Readout,
    program.SwishTail,
    program.Conv,
    program.Dense,
    program.Conditioning,
    program.Pipeline,
    program.Standalone,
    program.ImageDiffusion,
    program.TokenDiffusion,
)

WIDTHS: dict[str, str] = {
    "STATE_LIMIT": "bound of u and v (24 bit with sign)",
    "DECAY_UNITY": "unit of du and dv (12 bit)",
    "DECAY_MAX": "greatest du, dv",
    "STATE_SHIFT": "currents and thresholds are shifted left by this before they meet the state",
    "VTH_MAX": "greatest vth (17 bit)",
    "BIAS_MANT_MIN": "least bias mantissa (signed 13 bit)",
    "BIAS_MANT_MAX": "greatest bias mantissa",
    "BIAS_EXP_MAX": "greatest bias exponent (3 bit)",
    "WEIGHT_MIN": "least weight mantissa (int8)",
    "WEIGHT_MAX": "greatest weight mantissa",
    "WEIGHT_EXP_MAX": "greatest weight exponent",
    "GRADED_BITS_MAX": "greatest magnitude of a graded message, in bits",
    "CURRENT_LIMIT": "bound of a summed current",
}


def markdown(text: str) -> str:
    """ReStructuredText of our docstrings as Markdown: roles and literals become code, literal blocks become fences."""
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    parts = re.split(r"::\n\n((?:(?: {4}.*)?\n)+)", text + "\n")
    for index in range(1, len(parts), 2):
        parts[index] = ":\n\n```text\n" + textwrap.dedent(parts[index]).strip() + "\n```\n\n"
    return "".join(parts).strip()


def documented(cls: type) -> dict[str, str]:
    """Field -> description from the ``Attributes`` section of a docstring."""
    _, _, section = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")
    fields: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", textwrap.dedent(section).strip()):
        names, _, text = entry.partition(": ")
        for name in names.split(", ") if names else ():
            fields[name.strip()] = " ".join(text.split())
    return fields


def type_name(hint: object) -> str:
    """A type annotation as a reader wants it."""
    if typing.get_origin(hint) in (typing.Union, type(int | str)):
        return " or ".join(type_name(part) for part in typing.get_args(hint))
    text = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    text = re.sub(r"numpy\.ndarray\[.*numpy\.dtype\[numpy\.(\w+)\]\]", r"\1 array", text)
    return re.sub(r"\b(?:[a-z_]+\.)+(\w+)", r"\1", text)


def program_table() -> str:
    """The specification: one row per primitive with its meaning, equations and fields."""
    rows = ["* - Primitive", "  - Meaning and equations", "  - Fields: type, meaning, range"]
    for cls in PRIMITIVES:
        body = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[0]
        described, hints = documented(cls), typing.get_type_hints(cls)
        fields = [
            f"- **{field.name}** `{type_name(hints[field.name])}`: {markdown(described[field.name])}"
            for field in dataclasses.fields(cls)
        ]
        rows += [f"* - `{cls.__name__}`", _cell(markdown(body)), _cell("\n".join(fields))]
    return _list_table("14 46 40", rows)


def widths_table() -> str:
    """The bounds of the arithmetic, from :mod:`spikegen.program.numerics`."""
    rows = ["| constant | value | meaning |", "|---|---|---|"]
    rows += [f"| `{name}` | {getattr(numerics, name)} | {meaning} |" for name, meaning in WIDTHS.items()]
    return "\n".join(rows) + "\n"


def support_matrix() -> str:
    """What can be lowered, from the mapper table of :mod:`spikegen.lowering.layers`."""
    rows = ["| layer or function | in the Program |", "|---|---|"]
    rows += [f"| `{_callable_name(key)}` | {layer.becomes} |" for key, layer in LAYERS.items()]
    rows += [f"| `{_callable_name(key)}` | its layers, on one timestep or on all at once |" for key in CONTAINERS]
    return "\n".join(rows) + "\n"


def nir_table() -> str:
    """What NIR files may hold, from the table of :mod:`spikegen.exporters.nir.primitives`."""
    rows = ["| NIR | read as | written for |", "|---|---|---|"]
    rows += [f"| `{name}` | {row.becomes} | {row.written or 'never'} |" for name, row in NIR.items()]
    rows += [f"| `{name}` | refused: {why} | never |" for name, why in NIR_REFUSED.items()]
    return "\n".join(rows) + "\n"


def netx_table() -> str:
    """What files of netx may hold, from the table of :mod:`spikegen.exporters.netx.layers`."""
    rows = ["| layer | read as | written for |", "|---|---|---|"]
    rows += [
        f"| `{name}` | {row.becomes} | {row.written or 'never: netx does not load it'} |" for name, row in NETX.items()
    ]
    rows += [f"| `{name}` | refused: {why} | never |" for name, why in NETX_REFUSED.items()]
    return "\n".join(rows) + "\n"


def operations_table() -> str:
    """The definitions of every count."""
    rows = ["| operation | definition |", "|---|---|"]
    rows += [f"| `{name}` | {meaning} |" for name, meaning in OPERATIONS.items()]
    return "\n".join(rows) + "\n"


def mapped_table() -> str:
    """The definitions of what follows from the mapping."""
    rows = ["| operation | definition |", "|---|---|"]
    rows += [f"| `{name}` | {meaning} |" for name, meaning in MAPPED.items()]
    return "\n".join(rows) + "\n"


def energy_tables() -> str:
    """The energy models with their sources."""
    blocks = []
    for model in MODELS.values():
        ann = () if model.ann is None else (model.ann,)
        rows = [f"### `{model.name}`", "", f"{model.title}.", "", *_constants((*model.prices, *ann))]
        rows += ["", f"Not billed: {model.not_billed}."]
        blocks.append("\n".join(rows))
    return "\n\n".join(blocks) + "\n"


def time_tables() -> str:
    """The time models with their sources."""
    blocks = []
    for model in TIME_MODELS.values():
        rows = [f"### Time: `{model.name}`", "", f"{model.title}.", "", *_constants(model.durations)]
        rows += ["", f"Left out: {model.left_out}."]
        rows += [
            "",
            f"Compared: {model.checked}." if model.checked else "It has been compared with no measurement here.",
        ]
        blocks.append("\n".join(rows))
    return "\n\n".join(blocks) + "\n"


def _constants(constants: tuple[Constant, ...]) -> list[str]:
    rows = [f"| operation | {constants[0].unit} | what it stands for | certainty |", "|---|---|---|---|"]
    for constant in constants:
        low, high = constant.low, constant.high
        figure = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        rows.append(f"| `{constant.operation}` | {figure} | {constant.meaning} | {constant.certainty} |")
    sources = dict.fromkeys(constant.source for constant in constants)
    return [*rows, "", f"Source: {'; '.join(sources)}."]


def cli_reference() -> str:
    """Every command with its options, from the click commands themselves."""
    group = cli.main
    blocks = ["(cli)=\n# Command line\n", markdown(inspect.cleandoc(group.help or ""))]
    for name in cli.COMMANDS:
        command = group.load(name)
        context = click.Context(command, info_name=f"spikegen {name}")
        lines = [f"## spikegen {name}", "", markdown(inspect.cleandoc(command.help or "")), ""]
        lines += ["```text", context.command.get_usage(context).removeprefix("Usage: "), "```", ""]
        lines += [f"- {row}" for row in _parameters(command, context)]
        lines += ["", "```sh", cli.COMMANDS[name].example, "```"]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _parameters(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Argument):
            yield f"`{parameter.make_metavar(context)}`: {'required' if parameter.required else 'optional'}"
            continue
        record = parameter.get_help_record(context)
        if record is not None:
            yield f"`{record[0]}`: {record[1]}"


def _callable_name(key: object) -> str:
    if isinstance(key, str):  # of other libraries, and methods
        return key.replace("lava.lib.dl.slayer.", "slayer.").replace("spikingjelly.activation_based.", "spikingjelly ")
    module, name = getattr(key, "__module__", ""), getattr(key, "__name__", str(key))
    if module == "_operator":
        return f"operator.{name}"
    if module.startswith("torch.nn"):
        return f"torch.nn.{name}"
    return name if module.startswith("spikegen") else f"torch.{name}"


def _cell(text: str) -> str:
    return "  - " + textwrap.indent(text, "    ").lstrip()


def _list_table(widths: str, rows: list[str]) -> str:
    return "\n".join([":::{list-table}", ":header-rows: 1", f":widths: {widths}", "", *rows, ":::"]) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "program_table.md": program_table,
    "widths_table.md": widths_table,
    "support_matrix.md": support_matrix,
    "netx_table.md": netx_table,
    "nir_table.md": nir_table,
    "operations_table.md": operations_table,
    "mapped_table.md": mapped_table,
    "energy_tables.md": energy_tables,
    "time_tables.md": time_tables,
    "cli.md": cli_reference,
}
