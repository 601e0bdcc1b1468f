"""Quality of the shipped models: float model, integer pipeline, and real data as the floor.

Run `python benchmarks/quality.py` (or `make quality`). Figures of samples, all against scikit-learn's 1,797 real digits
scaled to [-1, 1]:

* Frechet distance in pixel space: ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` between Gaussians fitted to the 64
  pixels (Dowson and Landau 1982; Heusel et al. 2017, arXiv 1706.08500, Eq. 6, with pixels in place of Inception
  features).
* Confidence: mean over the samples of the largest class probability of an SVM (scikit-learn's SVC with its default
  parameters and ``probability=True``) trained on the real digits.

The floor is one random half of the real digits against the other. Of models with an encoder, also the mean squared
error of the digits that training held out, encoded and decoded. Nothing is chosen by these figures: steps, temperature
and seed are fixed in advance.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.linalg
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from spikegen.diffusion import Solver, default_solver
from spikegen.lowering import export_checkpoint
from spikegen.models import Checkpoint, ImageDenoiser, load_checkpoint
from spikegen.program import Pipeline, TokenDiffusion
from spikegen.runtime import Session, decode_tokens, encode_images, write_png
from spikegen.simulator import Simulator
from spikegen.training.datasets import load_images, split
from spikegen.training.sampling import decode_model, reconstruct_images, sample_model, sample_tokens

FloatArray = npt.NDArray[np.float64]
Figures = dict[str, float]
DDIM_STEPS = 20


def frechet_distance(a: FloatArray, b: FloatArray) -> float:
    """Frechet distance between two sets of images, pixels as features."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(covariances[0] + covariances[1] - 2 * root))


def sample_float(checkpoint: Checkpoint, solver: Solver, steps: int, images: int, seed: int) -> FloatArray:
    """Samples of the float model."""
    model = checkpoint.model
    if isinstance(model, ImageDenoiser):
        shape = (model.config.channels, model.config.image_size, model.config.image_size)
        return sample_model(model, shape, solver, steps=steps, images=images, seed=seed)
    grid = (model.config.grid, model.config.grid)
    return decode_model(model, sample_tokens(model.denoiser, solver, grid, steps=steps, images=images, seed=seed))


def sample_integer(pipeline: Pipeline, solver: Solver, steps: int, images: int, seed: int) -> FloatArray:
    """Samples of the integer pipeline on the simulator, with the same randomness."""
    with Simulator(pipeline.network("denoiser")) as target:
        sample = Session(pipeline, target, solver, steps=steps, seed=seed, images=images).run().sample
    if not isinstance(pipeline.host, TokenDiffusion):
        return np.asarray(sample)
    with Simulator(pipeline.network("decoder")) as target:
        return decode_tokens(pipeline, target, sample).images


def reconstruct_integer(pipeline: Pipeline, images: FloatArray) -> FloatArray:
    """``images`` encoded and decoded by the integer pipeline."""
    with Simulator(pipeline.network("encoder")) as target:
        tokens = encode_images(pipeline, target, images).tokens
    with Simulator(pipeline.network("decoder")) as target:
        return decode_tokens(pipeline, target, tokens).images


def digit_figures() -> Callable[..., Figures]:
    """``figures(images, reference)``: distance to ``reference``, by default all real digits, and confidence."""
    digits = load_digits()
    real = real_digits()
    svm = SVC(probability=True, random_state=0).fit(real.reshape(len(real), -1), digits.target)

    def figures(images: FloatArray, reference: FloatArray = real) -> Figures:
        confidence = svm.predict_proba(images.reshape(len(images), -1)).max(axis=1).mean()
        return {"frechet_distance": frechet_distance(images, reference), "confidence": float(confidence)}

    return figures


def real_digits() -> FloatArray:
    """Scikit-learn's digits as float64 [1797, 1, 8, 8] in [-1, 1]."""
    images: FloatArray = load_digits().images[:, None] / 8.0 - 1.0
    return images


def real_halves(figures: Callable[..., Figures]) -> Figures:
    """The floor: one random half of the real digits against the other."""
    real = real_digits()
    halves = np.array_split(np.random.default_rng(0).permutation(len(real)), 2)
    return figures(real[halves[1]], real[halves[0]])


def measure(
    name: str, images: int, seed: int, figures: Callable[[FloatArray], Figures], pictures: Path | None
) -> dict[str, Figures]:
    """Row -> figures of one model, float and integer."""
    checkpoint, pipeline = load_checkpoint(name), export_checkpoint(name)
    solver = default_solver(pipeline)
    tokens = isinstance(pipeline.host, TokenDiffusion)
    steps = len(solver.timesteps) if tokens else DDIM_STEPS
    made = {
        "float": sample_float(checkpoint, solver, steps, images, seed),
        "integer": sample_integer(pipeline, solver, steps, images, seed),
    }
    rows = {f"{name}, {kind}": figures(samples) for kind, samples in made.items()}
    if tokens:
        held_out = split(load_images(checkpoint.dataset), int(pipeline.provenance["held_out"]))[1][:]
        real = held_out.astype(np.float64)
        errors = {
            "float": reconstruct_images(checkpoint.model, held_out),
            "integer": reconstruct_integer(pipeline, real),
        }
        for kind, others in errors.items():
            rows[f"{name}, {kind}"]["reconstruction_mse"] = float(np.square(others - real).mean())
    if pictures is not None:
        write_png(pictures / f"{Path(name).name}.png", made["integer"][:64])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="*", default=["digits-unet", "digits-vq"], help="names or folders")
    parser.add_argument("-n", type=int, default=1000, help="samples per model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--pictures", type=Path, help="folder for a grid of 64 integer samples of each model")
    options = parser.parse_args()

    figures = digit_figures()
    rows = {"real half": real_halves(figures)}
    for name in options.checkpoints:
        rows |= measure(name, options.n, options.seed, figures, options.pictures)

    print(
        f"{options.n} samples, seed {options.seed}; {DDIM_STEPS} DDIM steps, or every step of tokens at temperature 1"
    )
    print(f"{'':<24}{'Frechet distance':>18}{'SVM confidence':>18}{'reconstruction MSE':>22}")
    for name, row in rows.items():
        error = f"{row['reconstruction_mse']:.4f}" if "reconstruction_mse" in row else ""
        print(f"{name:<24}{row['frechet_distance']:>18.3f}{row['confidence']:>18.3f}{error:>22}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
