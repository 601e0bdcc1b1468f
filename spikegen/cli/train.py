"""`spikegen train`: train a model by a named recipe."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from spikegen.cli._loss_bar import loss_bar
from spikegen.errors import LoweringError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from spikegen.models import ImageDenoiser, Model, SpikingDiffusion
    from spikegen.training import Recipe

_RECIPES = ("digits-unet", "digits-sddpm", "digits-slayer", "digits-ann", "digits-vq")
GRID_IMAGES, GRID_STEPS = 64, 20


@click.command()
@click.argument("recipe", type=click.Choice(_RECIPES), required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Output folder.")
@click.option("--from", "source", metavar="CKPT", help="Fine-tune this checkpoint (a shipped name or a folder).")
@click.option("--tsm", is_flag=True, help="With --from: add SDM's gain per SNN step behind every convolution.")
@click.option(
    "--dataset",
    help="Train on this data set. The model of RECIPE takes its size and channels from it; with --from it must fit.",
)
@click.option("--iterations", type=click.IntRange(min=1), help="Optimiser steps of each stage; default: the recipe's.")
@click.option("--batch-size", type=click.IntRange(min=2), help="Images per step; default: the recipe's.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed; default: the recipe's.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; default: torch's choice.")
@click.option(
    "--sample-every",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    help="Iterations between sample grids.",
)
@click.option(
    "--save-every", type=click.IntRange(min=1), default=100, show_default=True, help="Iterations between saved states."
)
@click.option("--quiet", is_flag=True, help="No progress bar.")
def train(
    recipe: str | None,
    output: Path,
    source: str | None,
    tsm: bool,
    dataset: str | None,
    iterations: int | None,
    batch_size: int | None,
    seed: int | None,
    threads: int | None,
    sample_every: int,
    save_every: int,
    quiet: bool,
) -> None:
    """Train RECIPE, or fine-tune a checkpoint, into a folder: checkpoint, log, grids.

    The same command goes on where a killed run stopped. With `--from` the sizes and the noise schedule are those of
    the checkpoint, and the data set too unless `--dataset` names another.
    """
    if (recipe is None) == (source is None):
        raise click.UsageError("give the name of a recipe, or --from with a checkpoint to fine-tune, not both")
    if tsm and source is None:
        raise click.UsageError("--tsm adds gains to a trained network: give it with --from")
    try:
        import torch

        from spikegen.models import load_checkpoint
        from spikegen.training import RECIPES, Trainer, fine_tuning, on_dataset
    except ImportError as error:
        raise LoweringError(f"training needs PyTorch ({error}); pip install 'spikegen[torch]'") from error

    if threads is not None:
        torch.set_num_threads(threads)
    start = None if source is None else load_checkpoint(source)
    named = RECIPES[recipe or ""] if start is None else fine_tuning(start, tsm=tsm)
    if dataset is not None:
        named = on_dataset(named, dataset) if start is None else dataclasses.replace(named, dataset=dataset)
    stages = tuple(
        dataclasses.replace(
            stage,
            iterations=stage.iterations if iterations is None else iterations,
            batch_size=stage.batch_size if batch_size is None else batch_size,
        )
        for stage in named.stages
    )
    chosen = dataclasses.replace(
        named,
        stages=stages,
        seed=named.seed if seed is None else seed,
    )
    trainer = Trainer(chosen, output, start)
    with loss_bar("training", trainer.iteration, chosen.iterations, quiet) as on_progress:
        checkpoint = trainer.run(
            on_progress=on_progress,
            on_sample=lambda iteration, network, model: _write_grid(
                chosen, network, model, output / "samples" / f"{iteration:06d}.png"
            ),
            sample_every=sample_every,
            save_every=save_every,
        )
    click.echo(f"Wrote {output}: loss {checkpoint.training['loss']:.4f} after {trainer.iteration} iterations")


def _write_grid(recipe: Recipe, network: str, model: Model, path: Path) -> None:
    """A picture of what the model can do so far: reconstructions of an autoencoder, else samples."""
    from spikegen.models import ImageDenoiser
    from spikegen.runtime import write_png

    if isinstance(model, ImageDenoiser):
        images = _sampled(recipe, model)
    elif network == "autoencoder":
        images = _reconstructed(recipe, model)
    else:
        images = _sampled_tokens(recipe, model)
    path.parent.mkdir(exist_ok=True)
    write_png(path, images)


def _sampled(recipe: Recipe, model: ImageDenoiser) -> npt.NDArray[np.float64]:
    from spikegen.diffusion import make_solver
    from spikegen.training.sampling import sample_model

    size = model.config
    solver = make_solver("ddim", recipe.beta_schedule, size.diffusion_steps)
    shape = (size.channels, size.image_size, size.image_size)
    steps = min(GRID_STEPS, size.diffusion_steps)
    return sample_model(model, shape, solver, steps=steps, images=GRID_IMAGES, seed=recipe.seed)


def _reconstructed(recipe: Recipe, model: SpikingDiffusion) -> npt.NDArray[np.float64]:
    from spikegen.training.datasets import load_images, split
    from spikegen.training.sampling import reconstruct_images

    trained, held_out = split(load_images(recipe.dataset), recipe.held_out)
    return reconstruct_images(model, (held_out if len(held_out) else trained)[:GRID_IMAGES])


def _sampled_tokens(recipe: Recipe, model: SpikingDiffusion) -> npt.NDArray[np.float64]:
    from spikegen.diffusion import Absorbing
    from spikegen.training.sampling import decode_model, sample_tokens

    size = model.config
    solver = Absorbing(size.codes, size.diffusion_steps)
    tokens = sample_tokens(
        model.denoiser, solver, (size.grid, size.grid), steps=size.diffusion_steps, images=GRID_IMAGES, seed=recipe.seed
    )
    return decode_model(model, tokens)
