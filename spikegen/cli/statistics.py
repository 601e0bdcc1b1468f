"""`spikegen statistics`: measure what the solver analytic needs to know of a network."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from spikegen.cli._decode import choose_place
from spikegen.cli._options import SEED, backend_options, check_backend
from spikegen.cli._output import check_outputs, error_console, print_summary, progress_bar
from spikegen.cli._pipeline import read_pipeline
from spikegen.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from spikegen.program import Pipeline


@click.command()
@click.argument("source", metavar="PIPELINE")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Pipeline file to write.")
@click.option(
    "-n", "--images", type=click.IntRange(min=1), default=100, show_default=True, help="Real images per step."
)
@click.option(
    "--every",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Measure every so many diffusion steps, and the last; those between are interpolated linearly.",
)
@click.option("--dataset", help="Data set of the images; default: the one that the pipeline was made from.")
@click.option("--seed", type=SEED, metavar="INTEGER", default=0, show_default=True, help="Choice of images and noise.")
@backend_options
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="Save what is measured here after every step, go on from it if it exists, remove it at the end.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--quiet", is_flag=True, help="No progress bar and no summary.")
def statistics(
    source: str,
    output: Path,
    images: int,
    every: int,
    dataset: str | None,
    seed: int,
    backend: str,
    synapses: str | None,
    device: str | None,
    batch: int | None,
    state: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure the power of the noise that the network of PIPELINE predicts, and write PIPELINE with it to a new file.

    `spikegen sample --solver analytic` needs it. The integer network itself is measured, on real images with the noise
    of each diffusion step.
    """
    from spikegen.program import digest, save
    from spikegen.runtime import NoisePower, with_noise_power
    from spikegen.runtime.statistics import check_pipeline

    check_backend(backend, synapses, device)
    check_outputs(source, {"--output": output, "--state": state})
    errors = error_console()
    pipeline = read_pipeline(source, None if quiet else errors.print)
    check_pipeline(pipeline)
    name, data = _real_images(pipeline, dataset, images, seed)
    place = choose_place(backend, synapses, device, batch, len(data))
    started = time.perf_counter()
    denoiser = pipeline.network("denoiser")
    opened = place.open(denoiser)
    with contextlib.closing(opened) as target:
        measurement = NoisePower(pipeline, target, data, every=every, seed=seed, batch=place.batch, state_file=state)
        steps, before = len(measurement.grid), measurement.completed
        with progress_bar(None if quiet else errors, "measuring", steps * len(data), before * len(data)) as progress:
            power = measurement.run(progress)
    seconds = time.perf_counter() - started
    how = f"{len(data)} images of {name}, every {every} steps, seed {seed}"
    made = with_noise_power(pipeline, power, how)
    save(made, output)
    if state is not None:  # of no more use
        state.unlink(missing_ok=True)
    if quiet:
        return
    if as_json:
        summary = {
            "output": str(output),
            "pipeline": pipeline.name,
            "digest": digest(made),
            "measured_digest": digest(pipeline),
            "backend": backend,
            "dataset": name,
            "images": len(data),
            "every": every,
            "seed": seed,
            "seconds": seconds,
            "timesteps": measurement.grid.tolist(),
            "noise_power": power[measurement.grid].tolist(),
        }
        click.echo(json.dumps(summary, indent=1, allow_nan=False))
        return
    last = len(power) - 1
    rows = {
        "images per step": f"{len(data)} of {name}",
        "diffusion steps measured": f"{steps} of {len(power)}",
        **{f"power of the predicted noise at {t}": f"{power[t]:.4f}" for t in (0, last // 10, last // 2, last)},
        "seconds": f"{seconds:.2f}",
    }
    print_summary(f"{pipeline.name} on {backend}", rows, {}, [output])


def _real_images(pipeline: Pipeline, dataset: str | None, most: int, seed: int) -> tuple[str, npt.NDArray[np.float32]]:
    """The name of the data set, and a random choice of at most ``most`` of the images that were trained on.

    Analytic-DPM (arXiv 2201.06503), appendix F.3: all are from the training data.
    """
    import numpy as np

    trained_on = pipeline.provenance.get("dataset")
    name = dataset or trained_on
    if name is None:
        raise ConfigError(f"{pipeline.name} does not say which data set it was made from; name one with --dataset")
    try:
        from spikegen.training.datasets import load_fitting, split
    except ImportError as error:
        raise ConfigError(
            f"the data set {name} needs PyTorch and scikit-learn ({error}); pip install 'spikegen[torch]'"
        ) from error
    channels, height, width = pipeline.network("denoiser").input.shape
    found = load_fitting(name, (channels, height, width))
    held_out = pipeline.provenance.get("held_out", "0")
    if name == trained_on and held_out.isdecimal() and len(held_out) < 10:
        found, _ = split(found, int(held_out))
    chosen = np.random.default_rng(seed).permutation(len(found))[:most]
    return name, found[chosen]
