"""What `make demo` does, through the Python API: export, sample on Lava's processes, draw, report.

Run: python examples/sample_digits.py [folder] [images] [DDIM steps]
"""

import sys
from pathlib import Path

from spikegen.diffusion import default_solver
from spikegen.energy import MODELS, build_report
from spikegen.lowering import export_checkpoint
from spikegen.program import save
from spikegen.runtime import Session, open_target, write_png


def main(folder: Path, images: int, steps: int) -> None:
    """Export, sample, draw, report."""
    folder.mkdir(parents=True, exist_ok=True)

    # The trained spiking U-Net becomes one integer Program in a pipeline: 8-bit weights, one scale per population.
    pipeline = export_checkpoint("digits-unet")
    save(pipeline, folder / "digits.h5")

    # The host walks the solver's steps; at each one all images stream through the network on Lava processes.
    program, solver = pipeline.network("denoiser"), default_solver(pipeline)
    with open_target("lava", program, images=images) as target:
        session = Session(pipeline, target, solver, steps=steps, seed=0, images=images)
        result = session.run(progress=lambda done, total: print(f"\r{done}/{total} evaluations", end="", flush=True))
    write_png(folder / "digits.png", result.sample)

    # Counts are exact; energy is an estimate under a model that names its source.
    report = build_report(program, result.counts)
    print(f"\n{report.per_evaluation()['binary_synops']:,.0f} binary synaptic operations per evaluation")
    print(f"energy models: {', '.join(MODELS)}; wrote {folder / 'digits.png'}")


if __name__ == "__main__":  # Lava starts processes, so a script needs this guard
    folder, images, steps = (sys.argv[1:] + ["demo", "16", "20"][len(sys.argv) - 1 :])[:3]
    main(Path(folder), int(images), int(steps))
