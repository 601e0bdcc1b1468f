"""SDDPM and SDM at the size of the paper: does an imported checkpoint compute what the authors' network computes?

Run `python benchmarks/authors_network.py` in the folder of the repository; about two minutes a network on one core.
The authors' network (ch 128, multipliers 1-2-2-4, 2 blocks, 32x32x3, T = 4) is rebuilt on SpikingJelly with random
weights (`tests/importing`), saved, and imported as `spikegen import` does it. Compared are the predicted noise in
float32 and float64, and the spikes of all 51 populations in float64, which must be equal.

Exit code 1 if a spike differs, a population never or always fires, or the network has not the parameters of the paper.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests are not installed

from spikegen.importing import import_sddpm, import_sdm
from tests.importing.authors_sddpm import AuthorsUNet
from tests.importing.networks import randomised, recorded

PARAMETERS = 66_696_413
CONVOLUTIONS = 67  # that SDM gives a gain per SNN step: all but the 3x3x1 of the tail
TIMESTEPS, IMAGE_SIZE, STEP = 4, 32, 500


def evaluated(network: Any, x: Tensor, t: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The predicted noise, and the spikes of every population as (T * N, C, H, W)."""
    with recorded(network) as spikes:
        noise: Tensor = network(x, t)
    return noise, [s.flatten(0, 1) if s.ndim == 5 else s for s in spikes]


def compared(theirs: Any, ours: Any, x: Tensor, t: Tensor) -> dict[str, Any]:
    """How far noise and spikes are apart."""
    (expected, their_spikes), (found, our_spikes) = (evaluated(network, x, t) for network in (theirs, ours))
    rates = [float(s.mean()) for s in their_spikes]
    return {
        "largest_difference_of_noise": float((found - expected).abs().max()),
        "standard_deviation_of_noise": float(expected.std()),
        "differing_spikes": sum(int((a != b).sum()) for a, b in zip(our_spikes, their_spikes, strict=True)),
        "populations": len(rates),
        "neurons": sum(s[0].numel() for s in their_spikes),
        "spikes": sum(int(s.sum()) for s in their_spikes),
        "lowest_rate": min(rates),
        "highest_rate": max(rates),
    }


def run(source: str, seed: int) -> dict[str, Any]:
    """All figures of one network."""
    torch.manual_seed(seed)
    theirs = AuthorsUNet(timestep=TIMESTEPS, tsm=source == "sdm")
    x, t = torch.randn(1, 3, IMAGE_SIZE, IMAGE_SIZE), torch.tensor([STEP])
    randomised(theirs, lambda: theirs(x, t), seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ckpt.pt"
        torch.save({"net_model": theirs.state_dict()}, path)
        size, start = path.stat().st_size, time.perf_counter()
        ours: Any = (import_sddpm if source == "sddpm" else import_sdm)(path).model
        seconds = time.perf_counter() - start
    figures = {
        "parameters": sum(p.numel() for p in theirs.parameters()),
        "file_bytes": size,
        "import_seconds": round(seconds, 1),
        "float32": compared(theirs, ours, x, t),
    }
    theirs, ours = theirs.double(), ours.double()
    table = theirs.time_embedding.timembedding[0].weight  # rounded to float32, as ours is in float32
    ours.embedding.sinusoids = lambda step: table[step]
    return figures | {"float64": compared(theirs, ours, x.double(), t)}


def main() -> int:
    """Compare, print the figures as JSON, and say whether they are right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("sources", nargs="*", default=["sddpm", "sdm"], metavar="sddpm|sdm")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    right = True
    for source in arguments.sources:
        figures = run(source, arguments.seed)
        print(json.dumps({source: figures}, indent=1))
        exact = figures["float64"]
        gains = CONVOLUTIONS * TIMESTEPS if source == "sdm" else 0
        right &= figures["parameters"] == PARAMETERS + gains
        right &= exact["differing_spikes"] == 0 and 0.0 < exact["lowest_rate"] <= exact["highest_rate"] < 1.0
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
