"""`spikegen verify`: simulator, SLAYER dynamics and Lava message by message, and the distance to the float model."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

import rich_click as click

from spikegen.cli._program import read_program

if TYPE_CHECKING:
    from spikegen.models import Checkpoint
    from spikegen.program import Program


@click.command()
@click.argument("source", metavar="PROGRAM")
@click.option("-n", "--images", type=click.IntRange(min=1), default=4, show_default=True, help="Images per step.")
@click.option(
    "--at",
    "steps",
    type=click.IntRange(min=0),
    multiple=True,
    help="Diffusion step to verify at; repeat it. Default: 5 %, 40 % and 80 % of the diffusion.",
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Choice of images and noise.")
@click.option("--checkpoint", help="The float model; default: the one the Program was made from.")
@click.option(
    "--synapses",
    type=click.Choice(("conv", "sparse")),
    default="conv",
    show_default=True,
    help="Form of Lava's synapses.",
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
    """Compare PROGRAM on every target, on real images noised to several diffusion steps. Exit code 1 if they differ."""
    from rich.console import Console

    errors = Console(stderr=True, highlight=False)
    program = read_program(source, errors.print)
    total = program.conditioning.steps
    chosen = steps or tuple(int(share * total) for share in (0.05, 0.4, 0.8))
    if max(chosen) >= total:
        raise click.UsageError(f"--at {max(chosen)}: the Program has diffusion steps 0..{total - 1}")
    model = _float_model(program, checkpoint)
    with errors.status("verifying") as status:
        result = _verify(program, model, images, chosen, seed, None if no_lava else synapses, status.update)
    if as_json:
        click.echo(json.dumps(result, indent=1, allow_nan=False))
    else:
        _print(result)
    if not result["equal"]:
        sys.exit(1)


def _float_model(program: Program, source: str | None) -> Checkpoint:
    """The checkpoint that ``program`` was made from; another one is refused."""
    from spikegen.errors import CheckpointError
    from spikegen.models import load_checkpoint

    recorded = program.provenance.get("checkpoint_digest")
    named = source or program.provenance.get("checkpoint")
    if named is None:
        raise CheckpointError("the Program does not name the checkpoint it was made from; give it with --checkpoint")
    checkpoint = load_checkpoint(named)
    if recorded is not None and checkpoint.digest != recorded:
        raise CheckpointError(
            f"{named}: not the checkpoint that the Program was made from (digest {checkpoint.digest[:12]}, "
            f"recorded {recorded[:12]}); give that one with --checkpoint, or export again"
        )
    return checkpoint


def _verify(
    program: Program,
    checkpoint: Checkpoint,
    images: int,
    steps: tuple[int, ...],
    seed: int,
    synapses: str | None,
    say: Any,
) -> dict[str, Any]:
    import numpy as np

    from spikegen.lowering.calibrate import noised
    from spikegen.program.numerics import quantize_input
    from spikegen.runtime import open_target
    from spikegen.simulator import Simulator
    from spikegen.training import load_images
    from spikegen.verification import SlayerTarget, differences, fidelity

    clean = load_images(checkpoint.dataset)
    data = noised(clean, checkpoint.beta_schedule, program.conditioning.steps, list(steps), images, seed)
    rows: dict[str, dict[str, Any]] = {
        name: {"population": name, "messages": 0, "events": 0, "slayer": 0, "lava": None if synapses is None else 0}
        for name in program.nodes
    }
    agreements: dict[str, list[float]] = {}
    per_step = []
    with contextlib.ExitStack() as stack:
        others: dict[str, Any] = {"slayer": SlayerTarget(program)}
        if synapses is not None:
            say("building the Lava network")
            others["lava"] = stack.enter_context(
                contextlib.closing(open_target("lava", program, images=images, synapses=synapses))
            )
        simulator = Simulator(program)
        for step in steps:
            noisy = data.images[data.steps == step][:images]
            frames = quantize_input(noisy, program.input.scale, program.input.bits)
            reference = simulator.evaluate(frames, step, record=True)
            step_row: dict[str, Any] = {"step": step}
            for name, target in others.items():
                say(f"diffusion step {step}: {name}")
                evaluation = target.evaluate(frames, step, record=True)
                found = differences(program, reference, evaluation)
                for difference in found:
                    rows[difference.node][name] += difference.differing
                step_row[f"differing_{name}"] = sum(difference.differing for difference in found)
                step_row[f"equal_counts_{name}"] = evaluation.counts == reference.counts
            for difference in found:
                rows[difference.node]["messages"] += difference.messages
                rows[difference.node]["events"] += difference.events
            close = fidelity(program, reference, checkpoint.model, noisy, step)
            for name, agreement in close.agreement.items():
                agreements.setdefault(name, []).append(agreement)
            per_step.append({**step_row, "noise_error": close.noise_error})
    for name, row in rows.items():
        row["agreement_with_float"] = float(np.mean(agreements[name])) if name in agreements else None
    equal = all(row[f"differing_{name}"] == 0 and row[f"equal_counts_{name}"] for row in per_step for name in others)
    return {
        "program": program.name,
        "images": images,
        "seed": seed,
        "synapses": synapses,
        "equal": equal,
        "populations": list(rows.values()),
        "steps": per_step,
    }


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    lava = result["synapses"]
    steps = ", ".join(str(row["step"]) for row in result["steps"])
    table = Table(
        title=f"{result['program']}: differing messages against the simulator, "
        f"{result['images']} images at diffusion steps {steps}",
        title_justify="left",
    )
    table.add_column("population", overflow="fold", min_width=19)
    for heading in ("messages", "events", "SLAYER", f"Lava ({lava})" if lava else "Lava", "equal to float"):
        table.add_column(heading, justify="right")
    for row in result["populations"]:
        agreement = row["agreement_with_float"]
        table.add_row(
            row["population"].replace("[", "\\["),
            f"{row['messages']:,}",
            f"{row['events']:,}",
            f"{row['slayer']:,}",
            "not run" if row["lava"] is None else f"{row['lava']:,}",
            "" if agreement is None else f"{agreement:.1%}",
        )
    console.print(table)
    for row in result["steps"]:
        console.print(f"diffusion step {row['step']}: relative error of the predicted noise {row['noise_error']:.3f}")
    targets = "simulator and SLAYER" if lava is None else "simulator, SLAYER and Lava"
    console.print(f"{targets}: {'equal' if result['equal'] else 'NOT EQUAL'} (messages, readouts and counts)")
