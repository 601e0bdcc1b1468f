"""Quality of `digits-unet`: float model, integer Program, and real data as the floor.

Run `python benchmarks/quality.py` (or `make quality`). Two figures, both against scikit-learn's 1,797 real digits
scaled to [-1, 1]:

* Frechet distance in pixel space: ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` between Gaussians fitted to the 64
  pixels (Dowson and Landau 1982; Heusel et al. 2017, arXiv 1706.08500, Eq. 6, with pixels in place of Inception
  features).
* Confidence: mean over the samples of the largest class probability of an SVM (scikit-learn's SVC with its default
  parameters and ``probability=True``) trained on the real digits.

The floor is one random half of the real digits against the other.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.linalg
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from spikegen.diffusion import make_solver
from spikegen.lowering import export_checkpoint
from spikegen.models import load_checkpoint
from spikegen.runtime import Session
from spikegen.simulator import Simulator
from spikegen.training.sampling import sample_model

FloatArray = npt.NDArray[np.float64]


def frechet_distance(a: FloatArray, b: FloatArray) -> float:
    """Frechet distance between two sets of images, pixels as features."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(covariances[0] + covariances[1] - 2 * root))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="digits-unet", help="checkpoint name or folder")
    parser.add_argument("-n", type=int, default=1000, help="samples per model")
    parser.add_argument("--steps", type=int, default=20, help="DDIM steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()

    digits = load_digits()
    real = digits.images / 8.0 - 1.0
    svm = SVC(probability=True, random_state=0).fit(real.reshape(len(real), -1), digits.target)
    halves = np.array_split(np.random.default_rng(0).permutation(len(real)), 2)

    def figures(images: FloatArray, reference: FloatArray) -> dict[str, float]:
        confidence = svm.predict_proba(images.reshape(len(images), -1)).max(axis=1).mean()
        return {"frechet_distance": frechet_distance(images, reference), "confidence": float(confidence)}

    rows = {"real half": figures(real[halves[1]], real[halves[0]])}
    checkpoint = load_checkpoint(options.checkpoint)
    config = checkpoint.model.config
    shape = (config.channels, config.image_size, config.image_size)
    solver = make_solver("ddim", checkpoint.beta_schedule, config.diffusion_steps)
    floats = sample_model(checkpoint.model, shape, solver, steps=options.steps, images=options.n, seed=options.seed)
    rows["float model"] = figures(floats, real)
    program = export_checkpoint(options.checkpoint)
    with Simulator(program) as target:
        session = Session(program, target, solver, steps=options.steps, seed=options.seed, images=options.n)
        rows["integer Program"] = figures(session.run().images, real)

    print(f"{options.n} samples, {options.steps} DDIM steps, seed {options.seed}")
    print(f"{'':<18}{'Frechet distance':>18}{'SVM confidence':>18}")
    for name, row in rows.items():
        print(f"{name:<18}{row['frechet_distance']:>18.3f}{row['confidence']:>18.3f}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
