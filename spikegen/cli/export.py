"""`spikegen export`: lower a checkpoint to a pipeline file, or write its networks in another format."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from click import get_current_context
from click.core import ParameterSource

from spikegen.cli._module import OPTIONS as MODULE_OPTIONS
from spikegen.cli._module import export_user_module, is_module, module_options
from spikegen.cli._options import threshold_option
from spikegen.cli._output import error_console, working
from spikegen.cli._pipeline import is_checkpoint
from spikegen.errors import ExchangeError, LoweringError

if TYPE_CHECKING:
    from collections.abc import Callable

    from spikegen.program import Pipeline, Program

FORMATS = ("pipeline", "onnx", "nir", "netx")
# How the names of files end; those of pipelines are free.
_SUFFIXES = {"onnx": ".onnx", "nir": ".nir", "netx": ".net"}
# The names of the table in spikegen.exporters.onnx, whose import `--help` need not wait for.
ONNX_OUTPUTS = ("readouts", "events", "messages")
# Of lowering: a pipeline file went through it.
_LOWERING = ("input_bits", "input_range", "payload_bits", "streams", "dataset", "seed")


@click.command()
@click.argument("checkpoint")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Pipeline file to write; with --to onnx NAME.onnx, which NAME.input.onnx and NAME.readout.onnx, the host's "
    "part, are written beside (NAME.ROLE.onnx, ..., where there are several networks); with --to nir NAME.nir, with "
    "--to netx NAME.net.",
)
@click.option(
    "--to",
    "target_format",
    type=click.Choice(FORMATS),
    default="pipeline",
    show_default=True,
    help="A pipeline file, ONNX models, NIR graphs or files of lava-dl's netx; for these CHECKPOINT may be a pipeline "
    "file too.",
)
@click.option(
    "--outputs",
    type=click.Choice(ONNX_OUTPUTS),
    default="readouts",
    show_default=True,
    help="With --to onnx: what a network gives beside its readouts: for every population its spikes counted over the "
    "timesteps (events), or every message.",
)
@click.option(
    "--dt",
    type=click.FloatRange(min=0.0, min_open=True),
    default=1e-4,
    show_default=True,
    help="With --to nir: seconds per timestep.",
)
@click.option(
    "--input-bits",
    type=click.IntRange(0, 16),
    default=7,
    show_default=True,
    help="Magnitude bits of real-valued inputs: images, code vectors. Of MODULE:FUNCTION also 0, spikes, which is the "
    "default where its input is streamed.",
)
@click.option(
    "--input-range",
    type=click.FloatRange(min=0.0, min_open=True),
    default=4.0,
    show_default=True,
    help="Largest magnitude of a noised image; what is larger is clipped. Of MODULE:FUNCTION: of its input, default 1.",
)
@click.option(
    "--payload-bits",
    type=click.IntRange(1, 16),
    default=4,
    show_default=True,
    help="Most bits of the gain of a timestep (a model with TSM); fewer are used where they leave a smaller error.",
)
@click.option(
    "--streams",
    type=click.Choice(["cheapest", "composed", "relayed"]),
    default="cheapest",
    show_default=True,
    help="Real-valued streams: composed into the projections of their readers, computed once by relays, or whichever "
    "costs fewer operations.",
)
@module_options
@threshold_option
@click.option("--dataset", help="Data set to calibrate on; default: the one that the model was trained on.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Choice of calibration data.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def export(
    checkpoint: str,
    output: Path,
    target_format: str,
    outputs: str,
    dt: float,
    input_bits: int,
    input_range: float,
    payload_bits: int,
    streams: str,
    threshold_scale: float,
    dataset: str | None,
    seed: int,
    as_json: bool,
    **of_module: Any,
) -> None:
    """Lower CHECKPOINT, a folder that `spikegen train` wrote or a shipped model, to a pipeline file.

    Shipped models: digits-unet, digits-vq. The file holds every network of the model and the host's part around them.
    CHECKPOINT may also be MODULE:FUNCTION, code of yours that returns a torch.nn.Module: it is imported and run.
    With --to onnx the networks become ONNX models, exact integers as everywhere; with --to nir NIR graphs of real
    numbers, and what is lost in them is told; with --to netx files that lava-dl's netx loads, with equal spikes, where
    the network is a chain.
    """
    from spikegen.program import load, overflow_risks
    from spikegen.program.storage import digest
    from spikegen.program.threshold import guided
    from spikegen.runtime.files import check_output

    check_output(output)
    own = is_module(checkpoint)
    lowered = target_format != "pipeline" and not own and not is_checkpoint(checkpoint)
    _check_module_options(checkpoint, own, input_bits)
    _check_options(checkpoint, output, target_format, lowered)
    if target_format == "onnx":
        from spikegen.exporters.onnx import write_models

        write = partial(write_models, output=output, outputs=outputs)
    elif target_format == "nir":
        write = partial(_write_nir, output=output, dt=dt)
    elif target_format == "netx":
        write = partial(_write_netx, output=output)
    else:
        write = partial(_save, output=output)
    options = {
        "input_bits": input_bits,
        "noisy_range": input_range,
        "payload_bits": payload_bits,
        "streams": streams,
        "dataset": dataset,
    }
    errors = error_console()
    with working(errors, f"exporting {checkpoint}") as say:
        if own:
            made = _export_own(checkpoint, {**of_module, **_given(input_bits, input_range)}, options, seed, say)
        else:
            made = load(checkpoint) if lowered else _export(checkpoint, seed, options, say)
        pipeline = guided(made, threshold_scale)
        files = write(pipeline)
    risks = {role: overflow_risks(program) for role, program in pipeline.networks.items()}
    for role, found in risks.items():
        for risk in found:
            errors.print(f"Warning: overflow is possible: {role}: {risk}")
    networks = {role: _summary(program, bool(risks[role])) for role, program in pipeline.networks.items()}
    if as_json:
        summary = {
            "output": str(output),
            "files": [str(path) for path in files],
            "name": pipeline.name,
            "digest": digest(pipeline),
            "networks": networks,
        }
        click.echo(json.dumps(summary, indent=1))
        return
    click.echo(f"Wrote {', '.join(map(str, files))}")
    for role, row in networks.items():
        click.echo(
            f"  {role}: {row['populations']} populations ({row['relays']} relays), {row['neurons']:,} neurons, "
            f"{row['projections']} projections, {row['weights']:,} weights, depth {row['depth']}, "
            f"T = {row['timesteps']}; overflow is {row['overflow']}"
        )
        if row["float_agreement"] is not None:
            click.echo(_agreement(row["float_agreement"]))


def _agreement(found: dict[str, Any]) -> str:
    """How near a network is to the float model, in words."""
    shares, error = list(found["spikes"].values()), found["readout_error"]
    ends = list(dict.fromkeys(f"{share:.2%}" for share in (min(shares), max(shares)))) if shares else []
    spikes = f"{' to '.join(ends)} of the spikes of a layer are equal, " if ends else ""
    readout = "is 0" if error is None else f"differs by {error:.2%}"
    return f"    beside the float model on {found['inputs']} inputs: {spikes}the readout {readout}"


def _is_given(name: str) -> bool:
    return get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT


def _given(input_bits: int, input_range: float) -> dict[str, Any]:
    """The two options of which a module has other defaults than a checkpoint; None where not given."""
    values = {"input_bits": input_bits, "input_range": input_range}
    return {name: value if _is_given(name) else None for name, value in values.items()}


def _check_module_options(checkpoint: str, own: bool, input_bits: int) -> None:
    """Refuse what means nothing for a checkpoint, or for a module."""
    if own and _is_given("dataset"):
        raise click.UsageError("--dataset is for checkpoints; give inputs of your own with --calibration")
    if own:
        return
    idle = [f"--{'input' if name == 'input_shape' else name}" for name in MODULE_OPTIONS if _is_given(name)]
    if idle:
        raise click.UsageError(f"{', '.join(idle)}: for MODULE:FUNCTION only, and {checkpoint} is no such thing")
    if input_bits < 2:
        raise click.UsageError(f"--input-bits is {input_bits}; images need at least 2")


def _export_own(
    source: str, given: dict[str, Any], options: dict[str, Any], seed: int, say: Callable[[str], None]
) -> Pipeline:
    lowering = {"payload_bits": options["payload_bits"], "streams": options["streams"], "seed": seed}
    return export_user_module(source, given, lowering, say, error_console().print)


def _check_options(checkpoint: str, output: Path, target_format: str, lowered: bool) -> None:
    """Refuse options that mean nothing here."""
    for name, owner in (("outputs", "onnx"), ("dt", "nir")):
        if target_format != owner and _is_given(name):
            raise click.UsageError(f"--{name} is an option of --to {owner}")
    for name, suffix in _SUFFIXES.items():
        if (target_format == name) != (output.suffix == suffix):
            raise click.UsageError(f"-o is {output}: a name that ends in {suffix} and --to {name} go together")
    idle = [f"--{name.replace('_', '-')}" for name in _LOWERING if _is_given(name)] if lowered else []
    if idle:
        raise click.UsageError(f"{checkpoint} is a pipeline file, already lowered: {', '.join(idle)} would do nothing")


def _export(checkpoint: str, seed: int, options: dict[str, Any], say: Callable[[str], None]) -> Pipeline:
    try:
        from spikegen.lowering import export_checkpoint
    except ImportError as error:
        raise LoweringError(f"exporting needs PyTorch ({error}); pip install 'spikegen[torch]'") from error
    pipeline: Pipeline = export_checkpoint(
        checkpoint, seed, lambda stage: say(f"exporting {checkpoint}: {stage}"), **options
    )
    return pipeline


def _write_nir(pipeline: Pipeline, output: Path, dt: float) -> list[Path]:
    try:
        from spikegen.exporters.nir.write import write_nir
    except ImportError as error:
        raise ExchangeError(f"NIR files need the package nir ({error}); pip install 'spikegen[nir]'") from error
    return _told(*write_nir(pipeline, output, dt))


def _write_netx(pipeline: Pipeline, output: Path) -> list[Path]:
    from spikegen.exporters.netx.write import write_netx

    return _told(*write_netx(pipeline, output))


def _told(files: list[Path], lost: list[str]) -> list[Path]:
    for loss in lost:
        error_console().print(f"Lost: {loss}", markup=False, highlight=False)
    return files


def _save(pipeline: Pipeline, output: Path) -> list[Path]:
    from spikegen.program import save

    save(pipeline, output)
    return [output]


def _summary(program: Program, risky: bool) -> dict[str, Any]:
    from spikegen.program import Relay
    from spikegen.program.ir import neurons

    return {
        "populations": len(program.populations),
        "relays": sum(isinstance(p, Relay) for p in program.populations),
        "neurons": sum(neurons(p) for p in program.populations),
        "projections": len(program.projections),
        "weights": sum(p.weight.size for p in program.projections),
        "depth": program.depth,
        "timesteps": program.timesteps,
        "overflow": "possible" if risky else "impossible",
        "float_agreement": program.report.get("float_agreement"),
    }
