"""`spikegen verify`: simulator, SLAYER dynamics and Lava message by message, and the distance to the float model."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from spikegen.cli._arrays import read_inputs
from spikegen.cli._options import SYNAPSES
from spikegen.cli._output import error_console, output_console, working
from spikegen.cli._pipeline import read_pipeline

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from rich.console import Console
    from torch import nn

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
@click.option(
    "--input",
    "input_file",
    type=click.Path(path_type=Path),
    help="Inputs of a plain network, .npy [N, C, H, W] or [N, T, C, H, W]; default: random ones in its range.",
)
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
    input_file: Path | None,
    checkpoint: str | None,
    synapses: str,
    no_lava: bool,
    as_json: bool,
) -> None:
    """Compare every network of PIPELINE on every target, on real inputs. Exit code 1 if they differ.

    A denoiser sees images or tokens noised to several diffusion steps, an encoder images, a decoder their tokens. The
    spike generator of a decoder is compared with its look-up table. A plain network sees --input, or random inputs.
    """
    from spikegen.errors import LoweringError

    try:
        import spikegen.verification  # noqa: F401 - looked up before the work starts
    except ImportError as error:
        raise LoweringError(f"verifying needs PyTorch ({error}); pip install 'spikegen[torch]'") from error

    errors = error_console()
    pipeline = read_pipeline(source, errors.print)
    cases, chosen = _cases(pipeline, checkpoint, steps, images, seed, input_file)
    targets = ("SLAYER",) if no_lava else ("SLAYER", "Lava (fused)", f"Lava ({synapses})")
    with working(errors, "verifying") as say:
        found = {role: _verify(pipeline, role, case, targets, synapses, say) for role, case in cases.items()}
        generator = _verify_generator(pipeline, cases)
    equal = all(result.equal for result in found.values()) and not (generator and generator["differing"])
    if as_json:
        summary = {
            "pipeline": pipeline.name,
            "images": len(next(iter(cases.values())).inputs) // max(1, len(chosen)),
            "diffusion_steps": chosen,
            "seed": seed,
            "targets": list(targets),
            "equal": equal,
            "networks": {role: dataclasses.asdict(result) for role, result in found.items()},
            "generator": generator,
        }
        click.echo(json.dumps(summary, indent=1, allow_nan=False))
    else:
        at = f" for each of the diffusion steps {', '.join(map(str, chosen))}" if chosen else ""
        first = ", ".join(("simulator", *targets[:-1]))
        console = output_console()
        for role, result in found.items():
            _print(console, role, result, targets, known=cases[role].model is not None)
        if generator is not None:
            console.print(
                f"spike generator on the chip against its look-up table: {generator['differing']:,} of "
                f"{generator['messages']:,} messages differ"
            )
        console.print(
            f"{pipeline.name}, {len(next(iter(cases.values())).inputs) // max(1, len(chosen))} inputs{at}: "
            f"{first} and {targets[-1]} are {'equal' if equal else 'NOT EQUAL'} (messages, readouts and counts)"
        )
    if not equal:
        sys.exit(1)


@dataclasses.dataclass(frozen=True, eq=False)
class _Case:
    """Inputs of one network, the conditioning step of each, and the float model if there is one."""

    inputs: npt.NDArray[np.float64]
    steps: npt.NDArray[np.int64]
    model: nn.Module | None = None


def _cases(
    pipeline: Pipeline,
    checkpoint: str | None,
    steps: tuple[int, ...],
    images: int,
    seed: int,
    input_file: Path | None,
) -> tuple[dict[str, _Case], list[int]]:
    """Role -> what the network is verified on, and the diffusion steps, none for a network without a loop."""
    from spikegen.errors import ConfigError
    from spikegen.program import Standalone

    if isinstance(pipeline.host, Standalone):
        if steps or checkpoint:
            raise click.UsageError("--at and --checkpoint are of generative models; this is a plain network")
        return {"network": _plain_case(pipeline, images, seed, input_file)}, []
    if input_file is not None:
        raise click.UsageError("--input is of plain networks; a generative model sees images of its data set")
    from spikegen.lowering.parts import diffusion_steps, network_parts, on_dataset

    model = _float_model(pipeline, checkpoint)
    chosen = list(steps or diffusion_steps(model, _SHARES))
    try:
        parts = network_parts(on_dataset(model, pipeline.provenance.get("dataset")), chosen, images, seed)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    _check_fit(pipeline, parts)
    return {role: _Case(part.data.images, part.data.steps, part.model) for role, part in parts.items()}, chosen


def _plain_case(pipeline: Pipeline, images: int, seed: int, input_file: Path | None) -> _Case:
    import numpy as np

    from spikegen.runtime.standalone import input_shape, random_inputs

    program = pipeline.network("network")
    if input_file is None:
        inputs = random_inputs(program, images, seed)
    else:
        inputs = read_inputs(input_file, input_shape(program), images)
    return _Case(inputs, np.zeros(len(inputs), dtype=np.int64))


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
    case: _Case,
    targets: tuple[str, ...],
    synapses: str,
    say: Callable[[str], None],
) -> NetworkResult:
    """One network on SLAYER's dynamics, and on Lava if it is among ``targets``."""
    import numpy as np

    from spikegen.runtime import open_target
    from spikegen.verification import SlayerTarget, verify_network

    program = pipeline.network(role)
    _, per_step = np.unique(case.steps, return_counts=True)
    with contextlib.ExitStack() as stack:
        built: dict[str, Any] = {"SLAYER": SlayerTarget(program)}
        for name in targets[1:]:
            say(f"{role}: building the network {name}")
            fused = name == "Lava (fused)"
            opened = open_target(
                "lava" if fused else "lava-unrolled",
                program,
                images=int(per_step.max()),
                synapses=None if fused else synapses,
            )
            built[name] = stack.enter_context(contextlib.closing(opened))
        return verify_network(program, built, case.inputs, case.steps, case.model, lambda text: say(f"{role}: {text}"))


def _verify_generator(pipeline: Pipeline, cases: dict[str, _Case]) -> dict[str, int] | None:
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
    tokens = nearest(pipeline.host.codebook, cases["decoder"].inputs)
    messages, differing = generator_differences(pipeline, tokens)
    return {"messages": messages, "differing": differing}


def _print(console: Console, role: str, result: NetworkResult, targets: tuple[str, ...], *, known: bool) -> None:
    """``known``: there is a float model to compare with."""
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
    for step in result.steps if known else ():
        label = f" at diffusion step {step.step}" if len(result.steps) > 1 else ""
        error = "undefined (it is 0)" if step.output_error is None else f"{step.output_error:.3f}"
        console.print(f"relative error of the readout against the float model{label}: {error}")
