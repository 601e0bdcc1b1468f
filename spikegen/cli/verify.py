"""`spikegen verify`: every target against the simulator, message by message, and the distance to the float model."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import rich_click as click

from spikegen.cli._arrays import read_inputs
from spikegen.cli._model_files import open_models, print_file, verify_models
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
    from spikegen.program import Pipeline, Program, Target
    from spikegen.verification import NetworkResult

_SHARES = (0.05, 0.4, 0.8)
_CHIP, _ONNX = "loihi2-sim", "ONNX Runtime"  # the targets that cannot hold every Program


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
@click.option("--no-slayer", is_flag=True, help="Leave SLAYER's neurons out (say, where lava-dl is not installed).")
@click.option("--no-lava", is_flag=True, help="Leave Lava out (say, where it is not installed).")
@click.option("--no-onnx", is_flag=True, help="Leave ONNX Runtime out; where it is not installed, it is.")
@click.option("--chip", is_flag=True, help="Compare the network of the chip on the CPU too, as the backend loihi2-sim.")
@click.option(
    "--onnx",
    "onnx_files",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Compare a file that export --to onnx wrote for PIPELINE, whoever kept it since; repeat it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify(
    source: str,
    images: int,
    steps: tuple[int, ...],
    seed: int,
    input_file: Path | None,
    checkpoint: str | None,
    synapses: str,
    no_slayer: bool,
    no_lava: bool,
    no_onnx: bool,
    chip: bool,
    onnx_files: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Compare every network of PIPELINE on every target, on real inputs. Exit code 1 if they differ.

    The targets are SLAYER's neurons, Lava, fused and unrolled, and ONNX Runtime; each is compared with the simulator.
    A target that is not installed, or cannot hold a network, is left out, with a line that says why.

    A model file (--onnx) is taken for hostile: it is checked, run in a process with limits of time and memory, and
    compared in every output.

    A denoiser sees images or tokens noised to several diffusion steps, an encoder images, a decoder their tokens. The
    spike generator of a decoder is compared with its look-up table. A plain network sees --input, or random inputs.
    """
    from spikegen.errors import ConfigError, LoweringError

    if chip and no_lava:
        raise click.UsageError("--chip runs on Lava; leave --no-lava out")
    try:
        import spikegen.verification  # noqa: F401 - looked up before the work starts
    except ImportError as error:
        raise LoweringError(f"verifying needs PyTorch ({error}); pip install 'spikegen[torch]'") from error

    errors = error_console()
    pipeline = read_pipeline(source, errors.print)
    models = open_models(onnx_files, pipeline)
    cases, chosen = _cases(pipeline, checkpoint, steps, images, seed, input_file)
    targets, left_out = _targets(no_slayer, no_lava, synapses, chip, no_onnx)
    if not targets and not models:
        raise click.UsageError("nothing is left to compare with the simulator")
    with working(errors, "verifying") as say:
        found = {role: _verify(pipeline, role, case, targets, left_out, say) for role, case in cases.items()}
        generator = _verify_generator(pipeline, cases)
        files = verify_models(models, {role: (case.inputs, case.steps) for role, case in cases.items()}, say)
    equal_targets = all(result.equal for result in found.values()) and not (generator and generator["differing"])
    equal = equal_targets and all(file.equal for file in files)
    compared = [name for name in targets if any(name in _compared(result) for result in found.values())]
    if not compared and not files:
        raise ConfigError("; ".join(f"{target.target}: not compared: {target.reason}" for target in left_out))
    if as_json:
        summary = {
            "pipeline": pipeline.name,
            "images": len(next(iter(cases.values())).inputs) // max(1, len(chosen)),
            "diffusion_steps": chosen,
            "seed": seed,
            "targets": compared,
            "left_out": [dataclasses.asdict(target) for target in left_out],
            "equal": equal,
            "networks": {role: dataclasses.asdict(result) for role, result in found.items()},
            "generator": generator,
            "files": [dataclasses.asdict(file) for file in files],
        }
        click.echo(json.dumps(summary, indent=1, allow_nan=False))
    else:
        at = f" for each of the diffusion steps {', '.join(map(str, chosen))}" if chosen else ""
        verdict = "equal" if equal_targets else "NOT EQUAL"
        console = output_console()
        for role, result in found.items():
            _print(console, role, result, known=cases[role].model is not None)
        if generator is not None:
            console.print(
                f"spike generator on the chip against its look-up table: {generator['differing']:,} of "
                f"{generator['messages']:,} messages differ"
            )
        for file in files:
            print_file(console, file)
        for target in left_out:
            where = "" if target.network is None else f" in the {target.network}"
            console.print(f"{target.target}: not compared{where}: {target.reason}", soft_wrap=True)
        if compared:
            first = ", ".join(("simulator", *compared[:-1]))
            console.print(
                f"{pipeline.name}, {len(next(iter(cases.values())).inputs) // max(1, len(chosen))} inputs{at}: "
                f"{first} and {compared[-1]} are {verdict} (messages, readouts and counts)"
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


class _Opener(Protocol):
    """Builds a target for ``program`` and evaluations of ``images``."""

    def __call__(self, program: Program, *, images: int) -> Target: ...


@dataclasses.dataclass(frozen=True)
class _LeftOut:
    """A target that is not compared, in one network or, with None, in all."""

    target: str
    network: str | None
    reason: str


def _targets(
    no_slayer: bool, no_lava: bool, synapses: str, chip: bool, no_onnx: bool
) -> tuple[dict[str, _Opener], list[_LeftOut]]:
    """Name -> what builds a target for a Program and a number of images; and what is not compared."""
    from spikegen.errors import BackendError
    from spikegen.runtime import open_target

    targets: dict[str, _Opener] = {}
    left_out = []
    if no_slayer:
        left_out.append(_LeftOut("SLAYER", None, "--no-slayer"))
    else:
        targets["SLAYER"] = _slayer
    if no_lava:
        left_out.append(_LeftOut("Lava", None, "--no-lava"))
    else:
        targets["Lava (fused)"] = functools.partial(open_target, "lava")
        targets[f"Lava ({synapses})"] = functools.partial(open_target, "lava-unrolled", synapses=synapses)
    if chip:
        targets[_CHIP] = functools.partial(open_target, "loihi2-sim")
    try:
        if no_onnx:
            left_out.append(_LeftOut(_ONNX, None, "--no-onnx"))
        else:
            import spikegen.exporters.onnx  # noqa: F401 - looked up before the work starts

            targets[_ONNX] = functools.partial(open_target, "onnx")
    except BackendError as error:
        left_out.append(_LeftOut(_ONNX, None, str(error)))
    return targets, left_out


def _slayer(program: Program, *, images: int) -> Target:  # noqa: ARG001
    from spikegen.verification import SlayerTarget

    return SlayerTarget(program)


def _verify(
    pipeline: Pipeline,
    role: str,
    case: _Case,
    targets: dict[str, _Opener],
    left_out: list[_LeftOut],
    say: Callable[[str], None],
) -> NetworkResult:
    """One network on ``targets``; those that cannot hold it are added to ``left_out``."""
    import numpy as np

    from spikegen.errors import ConfigError, ProgramError
    from spikegen.verification import verify_network

    program = pipeline.network(role)
    _, per_step = np.unique(case.steps, return_counts=True)
    with contextlib.ExitStack() as stack:
        built: dict[str, Target] = {}
        for name, opener in targets.items():
            say(f"{role}: building the network {name}")
            try:
                built[name] = stack.enter_context(contextlib.closing(opener(program, images=int(per_step.max()))))
            except (ConfigError, ProgramError) as error:
                if name not in (_CHIP, _ONNX):
                    raise
                first, *others = error.problems if isinstance(error, ProgramError) else [str(error)]
                more = f" (and {len(others)} more)" if others else ""
                left_out.append(_LeftOut(name, role, first + more))
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


def _compared(result: NetworkResult) -> tuple[str, ...]:
    """The targets that ``result`` is about."""
    return tuple(result.nodes[0].differing)


def _print(console: Console, role: str, result: NetworkResult, *, known: bool) -> None:
    """``known``: there is a float model to compare with."""
    from rich.table import Table

    targets = _compared(result)

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
