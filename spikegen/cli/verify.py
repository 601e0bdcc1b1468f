"""`spikegen verify`: simulator, SLAYER dynamics and Lava message by message, and the distance to the float model."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import rich_click as click

from spikegen.cli._options import SYNAPSES
from spikegen.cli._output import error_console, working
from spikegen.cli._pipeline import read_pipeline

if TYPE_CHECKING:
    from rich.console import Console

    from spikegen.lowering.parts import Part
    from spikegen.models import Checkpoint
    from spikegen.program import Pipeline
    from spikegen.verification import NetworkResult

_SHARES = (0.05, 0.4, 0.8)


@click.command()
@click.argument("source", metavar="PIPELINE")
@click.option("-n", "--images", type=click.IntRange(min=1), default=4, show_default=True, help="Images per step.")
@click.option(
    "--at",
    "steps",
    type=click.IntRange(min=0),
    multiple=True,
    help="Diffusion step to verify at; repeat it. Default: 5 %, 40 % and 80 % of the diffusion.",
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Choice of images and noise.")
@click.option("--checkpoint", help="The float model; default: the one the pipeline was made from.")
@click.option(
    "--synapses",
    type=click.Choice(SYNAPSES),
    default="conv",
    show_default=True,
    help="Form of the synapses of the unrolled Lava network; conv and sparse are stock.",
)
@click.option("--no-lava", is_flag=True, help="Leave Lava out (say, where it is not installed).")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify(
    source: str,
    images: int,
    steps: tuple[int, ...],
    seed: int,
    checkpoint: str | None,
    synapses: str,
    no_lava: bool,
    as_json: bool,
) -> None:
    """Compare every network of PIPELINE on every target, on real inputs. Exit code 1 if they differ.

    A denoiser sees images or tokens noised to several diffusion steps, an encoder images, a decoder their tokens. The
    spike generator of a decoder is compared with its look-up table.
    """
    from rich.console import Console

    from spikegen.errors import ConfigError, LoweringError

    try:
        from spikegen.lowering.parts import diffusion_steps, network_parts, on_dataset
    except ImportError as error:
        raise LoweringError(f"verifying needs PyTorch and lava-dl ({error}); pip install 'spikegen[torch]'") from error

    errors = error_console()
    pipeline = read_pipeline(source, errors.print)
    model = _float_model(pipeline, checkpoint)
    chosen = list(steps or diffusion_steps(model, _SHARES))
    try:
        parts = network_parts(on_dataset(model, pipeline.provenance.get("dataset")), chosen, images, seed)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    _check_fit(pipeline, parts)
    targets = ("SLAYER",) if no_lava else ("SLAYER", "Lava (fused)", f"Lava ({synapses})")
    with working(errors, "verifying") as say:
        found = {role: _verify(pipeline, role, parts[role], images, targets, synapses, say) for role in parts}
        generator = _verify_generator(pipeline, parts)
    equal = all(result.equal for result in found.values()) and not (generator and generator["differing"])
    if as_json:
        summary = {
            "pipeline": pipeline.name,
            "images": images,
            "diffusion_steps": chosen,
            "seed": seed,
            "targets": list(targets),
            "equal": equal,
            "networks": {role: dataclasses.asdict(result) for role, result in found.items()},
            "generator": generator,
        }
        click.echo(json.dumps(summary, indent=1, allow_nan=False))
    else:
        at = ", ".join(map(str, chosen))
        first = ", ".join(("simulator", *targets[:-1]))
        console = Console(highlight=False, markup=False)  # names may hold brackets
        for role, result in found.items():
            _print(console, role, result, targets)
        if generator is not None:
            console.print(
                f"spike generator on the chip against its look-up table: {generator['differing']:,} of "
                f"{generator['messages']:,} messages differ"
            )
        console.print(
            f"{pipeline.name}, {images} inputs for each of the diffusion steps {at}: "
            f"{first} and {targets[-1]} are {'equal' if equal else 'NOT EQUAL'} (messages, readouts and counts)"
        )
    if not equal:
        sys.exit(1)


def _float_model(pipeline: Pipeline, source: str | None) -> Checkpoint:
    """The checkpoint that ``pipeline`` was made from; another one is refused."""
    from spikegen.errors import CheckpointError
    from spikegen.models import load_checkpoint

    recorded = pipeline.provenance.get("checkpoint_digest")
    named = source or pipeline.provenance.get("checkpoint")
    if named is None:
        raise CheckpointError("the pipeline does not name the checkpoint it was made from; give it with --checkpoint")
    checkpoint = load_checkpoint(named)
    if recorded is not None and checkpoint.digest != recorded:
        raise CheckpointError(
            f"{named}: not the checkpoint that the pipeline was made from (digest {checkpoint.digest[:12]}, "
            f"recorded {recorded[:12]}); give that one with --checkpoint, or export again"
        )
    return checkpoint


def _check_fit(pipeline: Pipeline, parts: dict[str, Part]) -> None:
    """CheckpointError unless the networks of the checkpoint are those of ``pipeline``, at least by their sizes."""
    from spikegen.errors import CheckpointError

    deployed = {role: (program.input.shape, program.conditioning.steps) for role, program in pipeline.networks.items()}
    trained = {role: (part.shape, part.steps) for role, part in parts.items()}
    if deployed != trained:
        raise CheckpointError(
            f"the checkpoint does not fit {pipeline.name}: its networks (input, conditioning steps) are {trained}, "
            f"those of the pipeline {deployed}"
        )


def _verify(
    pipeline: Pipeline,
    role: str,
    part: Part,
    images: int,
    targets: tuple[str, ...],
    synapses: str,
    say: Callable[[str], None],
) -> NetworkResult:
    """One network on SLAYER's dynamics, and on Lava if it is among ``targets``."""
    from spikegen.runtime import open_target
    from spikegen.verification import SlayerTarget, verify_network

    program = pipeline.network(role)
    with contextlib.ExitStack() as stack:
        built: dict[str, Any] = {"SLAYER": SlayerTarget(program)}
        for name in targets[1:]:
            say(f"{role}: building the network {name}")
            fused = name == "Lava (fused)"
            opened = open_target(
                "lava" if fused else "lava-unrolled", program, images=images, synapses=None if fused else synapses
            )
            built[name] = stack.enter_context(contextlib.closing(opened))
        return verify_network(
            program, built, part.data.images, part.data.steps, part.model, lambda text: say(f"{role}: {text}")
        )


def _verify_generator(pipeline: Pipeline, parts: dict[str, Part]) -> dict[str, int] | None:
    """The generator of a decoder against its table, on the tokens of the images; None: no such."""
    from spikegen.errors import ConfigError
    from spikegen.program import TokenDiffusion
    from spikegen.runtime import lookup_decoder
    from spikegen.runtime.tokens import nearest
    from spikegen.verification import generator_differences

    if not isinstance(pipeline.host, TokenDiffusion):
        return None
    try:
        lookup_decoder(pipeline)
    except ConfigError:  # its decoder begins otherwise
        return None
    tokens = nearest(pipeline.host.codebook, parts["decoder"].data.images)
    messages, differing = generator_differences(pipeline, tokens)
    return {"messages": messages, "differing": differing}


def _print(console: Console, role: str, result: NetworkResult, targets: tuple[str, ...]) -> None:
    from rich.table import Table

    table = Table(title=f"{role}: messages that differ from the simulator's", title_justify="left")
    table.add_column("population", overflow="fold", min_width=19)
    for heading in ("messages", "events", *targets, "as float"):
        table.add_column(heading, justify="right")
    for row in result.nodes:
        table.add_row(
            row.node,
            f"{row.messages:,}",
            f"{row.events:,}",
            *(f"{row.differing[target]:,}" for target in targets),
            "" if row.agreement is None else f"{row.agreement:.1%}",
        )
    console.print(table)
    for step in result.steps:
        label = f" at diffusion step {step.step}" if len(result.steps) > 1 else ""
        error = "undefined (it is 0)" if step.output_error is None else f"{step.output_error:.3f}"
        console.print(f"relative error of the readout against the float model{label}: {error}")
