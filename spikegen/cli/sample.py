"""`spikegen sample`: generate images with a pipeline on a backend."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from spikegen.cli._decode import Place, check_generator, choose_place, decode, decoder_counts
from spikegen.cli._options import IMAGE_STEPS, backend_options, check_backend, sampling_options
from spikegen.cli._output import check_outputs, counted, error_console, print_summary, progress_bar, write_array
from spikegen.cli._pipeline import read_pipeline
from spikegen.cli._profile import check_profile, watching, write_profile
from spikegen.cli._solver import choose_solver

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from spikegen.diffusion import Solver
    from spikegen.program import Pipeline
    from spikegen.runtime import SampleResult
    from spikegen.runtime.counts import StepCounts


@dataclass(frozen=True, eq=False)
class _Images:
    """What a run made: images float64 [N, C, H, W], counts by role, and the seconds of this very process."""

    images: npt.NDArray[np.float64]
    networks: Mapping[str, tuple[StepCounts, ...]]
    result: SampleResult
    seconds: float
    evaluations: int


@click.command()
@click.argument("source", metavar="PIPELINE")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="PNG file for the grid of images.")
@sampling_options
@backend_options
@click.option("--npy", type=click.Path(path_type=Path), help="Write the images as float64 [N, C, H, W] in [-1, 1].")
@click.option(
    "--tokens", type=click.Path(path_type=Path), help="Write the tokens after every step, int64 [steps, N, h, w]."
)
@click.option("--counts", type=click.Path(path_type=Path), help="Write the counts for `spikegen report`, JSON.")
@click.option(
    "--profile",
    "profile_folder",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Measure time and power of each network on the chip, in runs of their own, for `spikegen report --measured`.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="Save the run here after every step, go on from it if it exists, remove it at the end.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--quiet", is_flag=True, help="No progress bar and no summary.")
def sample(
    source: str,
    output: Path,
    images: int,
    steps: int | None,
    solver: str | None,
    eta: float | None,
    variance: str | None,
    spacing: str | None,
    threshold_scale: float,
    temperature: float | None,
    generator: str | None,
    seed: int,
    backend: str,
    synapses: str | None,
    device: str | None,
    batch: int | None,
    npy: Path | None,
    tokens: Path | None,
    counts: Path | None,
    profile_folder: Path | None,
    state: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Generate images with PIPELINE: a file that `spikegen export` wrote, or a shipped model (digits-unet, digits-vq).

    A pipeline of tokens samples the tokens with its denoiser and turns them into images with its decoder, both on the
    backend.
    """
    from spikegen.program import TokenDiffusion
    from spikegen.program.threshold import guided
    from spikegen.runtime import write_counts, write_png
    from spikegen.runtime.images import check_channels

    check_backend(backend, synapses, device)
    files = {"--output": output, "--npy": npy, "--tokens": tokens, "--counts": counts, "--state": state}
    check_outputs(source, files)
    check_profile(profile_folder, backend)
    errors = error_console()
    pipeline = guided(read_pipeline(source, None if quiet else errors.print), threshold_scale)
    of_tokens = isinstance(pipeline.host, TokenDiffusion)
    options = {"eta": eta, "variance": variance, "spacing": spacing, "temperature": temperature}
    chosen = choose_solver(pipeline, solver, steps, None if of_tokens else IMAGE_STEPS, options)
    for option, value in (("--generator", generator), ("--tokens", tokens)):
        if value is not None and not of_tokens:
            raise click.UsageError(f"{option} is an option of pipelines of tokens; {pipeline.name} samples images")
    check_channels(next(pipeline.network("decoder" if of_tokens else "denoiser").readouts()).output_shape[0])
    generator = check_generator(pipeline, generator) if of_tokens else None
    place = choose_place(backend, synapses, device, batch, images)
    watched = None if profile_folder is None else watching(place)
    made = _run(pipeline, chosen, watched or place, seed, images, state, generator, None if quiet else errors)
    write_png(output, made.images)
    write_array(npy, made.images)
    if made.result.trajectory is not None:
        write_array(tokens, made.result.trajectory)
    if counts is not None:
        run = {"solver": chosen.identity()["solver"].lower(), "seed": str(seed)}
        write_counts(counts, pipeline, made.networks, generator, run)
    if state is not None:  # of no more use
        state.unlink(missing_ok=True)
    if profile_folder is not None and watched is not None:  # last, when the images are safe: it takes a while
        write_profile(profile_folder, pipeline, watched, errors.print)
    if quiet:
        return
    settings = {
        "backend": backend,
        "solver": chosen.identity()["solver"].lower(),
        "steps": len(chosen.timesteps),
        "seed": seed,
        "images": images,
        "generator": generator,
    }
    written = {option[2:]: path for option, path in files.items() if option != "--state"}
    _summarise(pipeline, settings, made, written, as_json)


def _run(
    pipeline: Pipeline,
    solver: Solver,
    place: Place,
    seed: int,
    images: int,
    state: Path | None,
    generator: str | None,
    console: Any,
) -> _Images:
    """Walk the solver's steps with the denoiser, then decode if the sample is tokens."""
    from spikegen.runtime import Session

    started = time.perf_counter()
    denoiser = pipeline.network("denoiser")
    steps = len(solver.timesteps)
    opened = place.open(denoiser)
    with contextlib.closing(opened) as target:
        session = Session(
            pipeline, target, solver, steps=steps, seed=seed, images=images, batch=place.batch, state_file=state
        )
        before = session.completed
        with progress_bar(console, "sampling", steps * images, before * images) as progress:
            result = session.run(progress)
    networks = {"denoiser": result.counts}
    evaluations = (steps - before) * images
    if generator is None:
        return _Images(result.sample, networks, result, time.perf_counter() - started, evaluations)
    decoded = decode(pipeline, result.sample, place, generator)
    networks["decoder"] = decoder_counts(decoded)
    return _Images(decoded.images, networks, result, time.perf_counter() - started, evaluations + images)


def _summarise(
    pipeline: Pipeline,
    settings: Mapping[str, Any],
    made: _Images,
    files: Mapping[str, Path | None],
    as_json: bool,
) -> None:
    from spikegen.program.storage import digest

    networks = counted(made.networks)
    each = made.seconds / made.evaluations if made.evaluations else None
    if as_json:
        summary = {
            **settings,
            "pipeline": pipeline.name,
            "digest": digest(pipeline),
            "timesteps": [step for step, _ in made.result.counts],
            "seconds": made.seconds,
            "seconds_per_evaluation": each,
            "networks": networks,
            **{name: None if path is None else str(path) for name, path in files.items()},
        }
        click.echo(json.dumps(summary, indent=1, allow_nan=False))
        return
    solver = f"{settings['solver']}, seed {settings['seed']}"
    rows = {
        "images x steps": f"{settings['images']} x {settings['steps']} ({solver})",
        "seconds": f"{made.seconds:.2f}",
        "seconds per evaluation": "" if each is None else f"{each:.4f}",
    }
    if settings["generator"] is not None:
        rows["spike generator"] = "on the chip" if settings["generator"] == "chip" else "look-up table"
    print_summary(f"{pipeline.name} on {settings['backend']}", rows, networks, list(files.values()))
