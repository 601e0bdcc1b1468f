"""Quality of the variants of the digits U-Net, float and integer, and of the solvers.

Run `python benchmarks/variants.py` (or `make variants`). What the run folder does not hold yet is made first: the
networks are trained, fine-tuned, exported and tuned on the integer grid, which takes hours on two cores and goes on
where it was interrupted; the repository holds them. Then each network makes samples:

* `sddpm`: the U-Net of SDDPM (arXiv 2306.17046), IF neurons, residual stream, the paper's tail on the host;
* `tsm`: the same, fine-tuned with a gain per SNN step (SDM, arXiv 2408.16467);
* `fsddim`: spikes only (in the style of FSDDIM, arXiv 2312.01742), as wide as makes its synapses as many as those of
  `sddpm`; it is the shipped `digits-unet`;
* `ann`: the ANN twin of `sddpm`, Swish in place of the neurons.

`+ TG` is threshold guidance: all thresholds times 0.997, or, where the integer thresholds are too coarse for that,
times the nearest scale below that they can express. `float` is the trained network, `integer` its export, `tuned` the
export after quantisation-aware fine-tuning with the float network as its teacher. The figures are those of
`quality.py`; synaptic operations are counted, per evaluation. Steps, factor and
seeds are fixed in advance; the settings of tuning were chosen by these figures of other seeds (100 to 105, 300 to 305).
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from quality import Figures, FloatArray, digit_figures, real_digits, real_halves, sample_float

from spikegen.atomic import write_atomically
from spikegen.diffusion import default_solver, make_solver
from spikegen.errors import ConfigError
from spikegen.lowering.export import export_model
from spikegen.models import Checkpoint, HardResetNeuron, load_checkpoint
from spikegen.models.checkpoint import WEIGHTS_FILE
from spikegen.program import Pipeline, Program, load, save
from spikegen.program.threshold import guided, nearest_scales
from spikegen.runtime import Session, write_png
from spikegen.runtime.statistics import NoisePower, with_noise_power
from spikegen.simulator import Simulator
from spikegen.training import RECIPES, Progress, Trainer, fine_tuning
from spikegen.training.datasets import load_images
from spikegen.training.program_network import ProgramNetwork
from spikegen.training.tasks import NoisePrediction
from spikegen.training.tuning import Tuner, Tuning

TITLES = {"sddpm": "SDDPM", "tsm": "SDDPM + TSM", "fsddim": "FSDDIM", "ann": "ANN twin"}
SHIPPED = "fsddim"  # as digits-unet
GUIDED = ("sddpm", "tsm")
GUIDANCE = 0.997
STEPS, PART, BATCH, NOISE_BATCHES, DIFFUSION_STEPS = 20, 1000, 100, 20, 1000
SOLVERS = (
    *(("ddpm", steps) for steps in (10, 20, 50)),
    *(("ddim", steps) for steps in (10, 20, 50)),
    *(("analytic", steps) for steps in (10, 20, 50)),
    *(("dpm-solver++", steps) for steps in (10, 20)),
)
TUNING = Tuning()
STATISTICS_IMAGES, STATISTICS_EVERY = 64, 20


@dataclass(frozen=True, eq=False)
class Variant:
    """One network: its name, the checkpoint, and its pipelines after export and after tuning (None for an ANN)."""

    name: str
    checkpoint: Checkpoint
    integer: Pipeline | None
    tuned: Pipeline | None


def trained(runs: Path, name: str) -> Checkpoint:
    """The checkpoint of ``name``: the shipped one, or that of the folder, trained if it is not there."""
    if name == SHIPPED:
        return load_checkpoint("digits-unet")
    folder = runs / name
    if not (folder / WEIGHTS_FILE).exists():
        start = trained(runs, "sddpm") if name == "tsm" else None
        recipe = RECIPES[f"digits-{name}"] if start is None else fine_tuning(start, tsm=True)
        Trainer(recipe, folder, start).run(on_progress=progress(f"training {name}"))
    return load_checkpoint(folder)


def progress(what: str) -> Callable[[Progress], None]:
    """Prints every hundredth iteration."""

    def show(done: Progress) -> None:
        if done.iteration % 100 == 0:
            print(f"{what}: iteration {done.iteration} of {done.iterations}, loss {done.loss:.4f}", flush=True)

    return show


def variants(runs: Path) -> Iterator[Variant]:
    """All networks, made as far as they are missing."""
    for name in TITLES:
        checkpoint = trained(runs, name)
        if name == "ann":
            yield Variant(name, checkpoint, None, None)
            continue
        exported = runs / f"{name}.h5"
        if not exported.exists():
            save(export_model(checkpoint, name), exported)
        tuned = runs / f"{name}-tuned.h5"
        if not tuned.exists():
            tuner = Tuner(load(exported), runs / f"{name}-tuning", TUNING, checkpoint)
            save(tuner.run(on_progress=progress(f"tuning {name}")).pipeline, tuned)
        yield Variant(name, checkpoint, load(exported), load(tuned))


def guided_float(checkpoint: Checkpoint, factor: float) -> Checkpoint:
    """``checkpoint`` with the threshold of every neuron times ``factor``."""
    model = copy.deepcopy(checkpoint.model)
    for module in model.modules():
        if isinstance(module, HardResetNeuron):
            module.threshold *= factor
    return dataclasses.replace(checkpoint, model=model)


def possible_scale(pipeline: Pipeline) -> float:
    """:data:`GUIDANCE`, or the nearest scale below it that the thresholds can express."""
    try:
        guided(pipeline, GUIDANCE)
    except ConfigError:
        return min(nearest_scales(pipeline.network("denoiser"), GUIDANCE))
    return GUIDANCE


def check_network(program: Program, seed: int) -> None:
    """SystemExit unless the network that is tuned and the simulator agree on every message and current."""
    rng = np.random.default_rng(seed)
    frames = program.input.quantize(rng.standard_normal((4, *program.input.shape)))
    network = ProgramNetwork(program).eval()
    for step in (0, program.conditioning.steps // 2):
        found = Simulator(program).evaluate(frames, step, record=True)
        with torch.no_grad():
            learnt = network.messages(torch.from_numpy(frames).float()[None], torch.full((len(frames),), step))
        for name, value in (*found.messages.items(), *found.readouts.items()):
            if not np.array_equal(learnt[name].transpose(0, 1).expand(value.shape).numpy(), value):
                raise SystemExit(f"{program.name}: {name} differs at diffusion step {step}")


class Bench:
    """Samples in parts of :data:`PART`, each with a seed of its own; parts that exist are read from the run folder."""

    def __init__(self, runs: Path, images: int, seed: int) -> None:
        self.runs, self.images, self.seed = runs, images, seed
        self.figures = digit_figures()

    def row(self, key: str, model: Checkpoint | Pipeline, solver: str, steps: int) -> Figures:
        """Figures of samples of ``model``, with its synaptic operations per evaluation if it is a pipeline."""
        folder = self.runs / "figures"
        folder.mkdir(exist_ok=True)
        if isinstance(model, Pipeline):
            check_network(model.network("denoiser"), self.seed)
        parts = []
        for seed in range(self.seed, self.seed + self.images // PART):
            path = folder / f"{key}-{solver}-{steps}-{seed}.npz"
            if not path.exists():
                started = time.monotonic()
                sample = self._sample if isinstance(model, Checkpoint) else self._sample_integer
                images, operations = sample(model, solver, steps, seed)  # type: ignore[operator]
                buffer = io.BytesIO()
                np.savez(buffer, images=images.astype(np.float32), operations=operations)
                write_atomically(path, buffer.getvalue())
                print(f"{path.stem} ({time.monotonic() - started:.0f} s)", flush=True)
            with np.load(path, allow_pickle=False) as found:
                parts.append((found["images"].astype(np.float64), float(found["operations"])))
        images = np.concatenate([images for images, _ in parts])
        write_png(folder / f"{key}-{solver}-{steps}.png", images[:64])
        operations = sum(operations for _, operations in parts) / len(parts)
        return {**self.figures(images), **({"operations": operations} if operations else {})}

    def _sample(self, model: Checkpoint, solver: str, steps: int, seed: int) -> tuple[FloatArray, float]:
        chosen = make_solver(solver, model.beta_schedule, model.model.config.diffusion_steps)
        return sample_float(model, chosen, steps, PART, seed), 0.0

    def _sample_integer(self, model: Pipeline, solver: str, steps: int, seed: int) -> tuple[FloatArray, float]:
        with Simulator(model.network("denoiser"), batch=BATCH) as target:
            session = Session(
                model, target, default_solver(model, solver), steps=steps, seed=seed, images=PART, batch=BATCH
            )
            result = session.run()
        operations = sum(sum(counts.effective.values()) for _, counts in result.counts)
        return np.asarray(result.sample), operations / (steps * PART)

    def noise_error(self, key: str, model: Checkpoint | Pipeline) -> float:
        """Mean squared error of the predicted noise, the loss of training, on the same noised digits for all models."""
        path = self.runs / "figures" / f"{key}-noise-{self.seed}.json"
        if not path.exists():
            network: torch.nn.Module
            if isinstance(model, Checkpoint):
                network, schedule = model.model.eval(), model.beta_schedule
            else:
                network, schedule = ProgramNetwork(model.network("denoiser")).eval(), model.host.beta_schedule
            task = NoisePrediction(load_images("digits"), schedule, DIFFUSION_STEPS, BATCH)
            generator = torch.Generator().manual_seed(self.seed)
            losses = []
            with torch.no_grad():
                for noisy, t, noise in (task.batch(generator) for _ in range(NOISE_BATCHES)):
                    losses.append(float(torch.nn.functional.mse_loss(network(noisy, t).float(), noise)))
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(float(np.mean(losses))))
        return float(json.loads(path.read_text()))


def quality_rows(bench: Bench, variant: Variant) -> Iterator[tuple[str, Figures]]:
    """Rows of one network: float, integer and tuned, without and with threshold guidance."""
    title, name = TITLES[variant.name], variant.name
    models = {"float": variant.checkpoint, "integer": variant.integer, "tuned": variant.tuned}
    for kind, model in models.items():
        if model is None:
            continue
        row = bench.row(f"{name}-{kind}", model, "ddim", STEPS)
        yield f"{title}, {kind}", {**row, "noise_error": bench.noise_error(f"{name}-{kind}", model)}
        if name not in GUIDED:
            continue
        factor = possible_scale(model) if isinstance(model, Pipeline) else GUIDANCE
        scaled = guided(model, factor) if isinstance(model, Pipeline) else guided_float(model, factor)
        yield f"{title} + TG {factor:.4f}, {kind}", bench.row(f"{name}-guided-{kind}", scaled, "ddim", STEPS)


def with_statistics(runs: Path, pipeline: Pipeline, seed: int) -> Pipeline:
    """``pipeline`` with the measured power of its predicted noise, for the solver analytic."""
    chosen = np.random.default_rng(seed).permutation(len(real_digits()))[:STATISTICS_IMAGES]
    with Simulator(pipeline.network("denoiser")) as target:
        state = runs / f"{pipeline.name}-statistics.json"
        power = NoisePower(
            pipeline, target, real_digits()[chosen], every=STATISTICS_EVERY, seed=seed, state_file=state
        ).run()
    return with_noise_power(pipeline, power, f"{STATISTICS_IMAGES} images at every {STATISTICS_EVERY}th step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    runs = Path(__file__).parent / "runs"
    parser.add_argument("--runs", type=Path, default=runs, help="folder of networks and figures (%(default)s)")
    parser.add_argument("--solvers-of", default=SHIPPED, choices=[name for name in TITLES if name != "ann"])
    parser.add_argument("-n", type=int, default=6000, help=f"samples per row, a multiple of {PART} (%(default)s)")
    parser.add_argument("--solver-images", type=int, default=2000, help="the same for the solvers (%(default)s)")
    parser.add_argument("--seed", type=int, default=200, help="of the first part; the others follow (%(default)s)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()

    bench = Bench(options.runs, options.n, options.seed)
    rows = {"real half": real_halves(bench.figures)}
    for variant in variants(options.runs):
        rows |= quality_rows(bench, variant)
        if variant.name == options.solvers_of and variant.tuned is not None:
            solved = with_statistics(options.runs, variant.tuned, options.seed)
            solvers = Bench(options.runs, options.solver_images, options.seed)
            for solver, steps in SOLVERS:
                title = f"{TITLES[variant.name]}, tuned, {solver} {steps}"
                rows[title] = solvers.row(f"{variant.name}-tuned", solved, solver, steps)

    print(f"{options.n} samples ({options.solver_images} of the solvers), seed {options.seed}, DDIM with {STEPS} steps")
    print(f"{'':<36}{'Frechet distance':>18}{'SVM confidence':>18}{'synaptic operations':>22}{'error of noise':>18}")
    for name, row in rows.items():
        operations = f"{row['operations']:,.0f}" if "operations" in row else ""
        noise = f"{row['noise_error']:.4f}" if "noise_error" in row else ""
        print(f"{name:<36}{row['frechet_distance']:>18.3f}{row['confidence']:>18.3f}{operations:>22}{noise:>18}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
