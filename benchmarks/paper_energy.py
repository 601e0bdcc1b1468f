"""The energy table of SDDPM and SDM: what their formula says of their network, and what it leaves out.

Run `python benchmarks/paper_energy.py` (or `make paper-energy`); seconds on one core. The network is SDDPM's at the
size of the paper (ch 128, multipliers 1-2-2-4, two blocks, 32x32x3); its weights are random, because the formula asks
for the multiply-accumulates of its layers and one firing rate only. The rate is what the published figure implies.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from spikegen.energy import Driven, formula_ann_energy, formula_energy, implied_rate
from spikegen.lowering.formula_layers import formula_layers
from spikegen.lowering.trace import trace
from spikegen.models import UNetConfig, build_model

SDDPM = UNetConfig(
    image_size=32,
    channels=3,
    width=128,
    multipliers=(1, 2, 2, 4),
    blocks=2,
    middle_blocks=2,
    timesteps=1,  # layers are counted per SNN step
    neuron="hard-reset",
    tail="swish",
)
# SDM (arXiv 2408.16467), its energy table of CIFAR-10, per evaluation [mJ]
PUBLISHED_ANN, PUBLISHED = 29.23, {4: 10.97, 8: 22.96}
MJ, GIGA = 1e9, 1e9  # [pJ]; MACs


def measure() -> dict[str, Any]:
    """All figures, per evaluation [mJ]."""
    size = SDDPM.image_size
    layers = formula_layers(trace(build_model(SDDPM), (SDDPM.channels, size, size), 1, 1), rate=1.0)
    ann = formula_ann_energy(layers)
    rows = {}
    for timesteps, published in PUBLISHED.items():
        rate = round(implied_rate(layers, timesteps, published * MJ), 3)
        full = formula_energy(layers, timesteps)  # of rate 1
        formula = full.image + rate * full.spikes
        rows[timesteps] = {
            "published": published,
            "rate": rate,
            "formula": formula / MJ,
            "real": full.real / MJ,
            "with_real": (formula + full.real) / MJ,
            "share_of_ann": (formula + full.real) / ann,
        }
    macs = {driven.value: sum(layer.macs for layer in layers if layer.driven is driven) for driven in Driven}
    return {"macs": macs, "ann": ann / MJ, "ann_published": PUBLISHED_ANN, "spiking": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000, help="solver steps of one sample")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    found, steps = measure(), options.steps
    print("MACs of one SNN step, driven by", ", ".join(f"{k} {v / GIGA:.4f} G" for k, v in found["macs"].items()))
    row = "{:<8}{:>12}{:>12}{:>12}{:>14}{:>14}{:>12}{:>22}"
    sample = f"per sample (x {steps})"
    print(row.format("[mJ]", "published", "rate", "formula", "real-valued", "formula + it", "of the ANN", sample))
    ann = (f"{found['ann']:.2f}", "", f"{found['ann']:.2f}", f"{100:.1f} %", f"{found['ann'] * steps / 1000:.1f} J")
    print(row.format("ANN", f"{PUBLISHED_ANN:.2f}", "", *ann))
    for timesteps, figures in found["spiking"].items():
        energies = [f"{figures[key]:.2f}" for key in ("formula", "real", "with_real")]
        whole = f"{figures['with_real'] * steps / 1000:.1f} J"
        rest = (f"{figures['rate']:.3f}", *energies, f"{figures['share_of_ann']:.1%}", whole)
        print(row.format(f"T = {timesteps}", f"{figures['published']:.2f}", *rest))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
