"""SDDPM at the size of the paper (ch 128, multipliers 1-2-2-4, 2 blocks, 32x32x3, T = 4): what does an export cost?

Run `python benchmarks/sddpm_size.py` (or `make paper-size`); minutes on two cores. The weights are random, the
BatchNorm statistics those of noise, which is also what the export is calibrated on: sizes, time and memory are the
subject. What is run:

* the counts of the paper on the layers: parameters, multiply-accumulates of one SNN step;
* `spikegen export`, `spikegen inspect`;
* one evaluation of the integer Program on the simulator;
* `spikegen sample`, 20 steps of DDIM for 4 images on the simulator, once whole, once interrupted and resumed.

Exit code 1 if a count is not the paper's, the export takes more than 10 minutes or 12 GiB, sampling more than 8 GiB, or
the resumed run ends with another picture.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from command import spikegen
from resumed import sampled
from script import main, say

from spikegen.lowering.fold_batchnorm import fold_batchnorm
from spikegen.lowering.graph import ConvOp, LayerGraph, NeuronOp, UpsampleOp
from spikegen.lowering.trace import trace
from spikegen.models import UNetConfig, save_checkpoint
from spikegen.program import load
from spikegen.simulator import Simulator
from spikegen.training import Recipe, untrained
from spikegen.training.recipes import Stage

CONFIG = UNetConfig(
    image_size=32,
    channels=3,
    width=128,
    multipliers=(1, 2, 2, 4),
    blocks=2,
    middle_blocks=2,
    timesteps=4,
    neuron="hard-reset",
    tail="swish",
)
EMBEDDING = CONFIG.diffusion_steps * CONFIG.width  # entries of the authors' frozen table, which we compute
PARAMETERS, SPIKING_LAYERS = 66_696_413, 51
# Multiply-accumulates of one SNN step, taps on padding counted: driven by spikes, and by real numbers.
SPIKE_MACS, REAL_MACS = 6.20e9, 0.280e9
SECONDS_MAX, BYTES_MAX = 600, 12 << 30  # of the export
IMAGES, STEPS, SAMPLE_BYTES_MAX = 4, 20, 8 << 30


def driven_by_spikes(graph: LayerGraph) -> list[ConvOp]:
    """The convolutions that read the spikes of a neuron, upsampled or not."""
    ops = {op.name: op for op in graph.ops}

    def spikes(name: str) -> bool:
        op = ops[name]
        return isinstance(op, NeuronOp) or (isinstance(op, UpsampleOp) and spikes(op.inputs[0]))

    return [op for op in graph.ops if isinstance(op, ConvOp) and spikes(op.inputs[0])]


def counts(checkpoint: Any) -> dict[str, int]:
    """What the paper counts, on the layers."""
    shape = (CONFIG.channels, CONFIG.image_size, CONFIG.image_size)
    graph = fold_batchnorm(trace(checkpoint.model, shape, CONFIG.timesteps, CONFIG.diffusion_steps))
    total = graph.macs(padded=True)
    convs = driven_by_spikes(graph)
    spiking = sum(int(np.prod(op.shape)) * op.weight[0].size for op in convs)
    return {
        "parameters": sum(p.numel() for p in checkpoint.model.parameters()) + EMBEDDING,
        "neuron_layers": sum(isinstance(op, NeuronOp) for op in graph.ops),
        "neurons": sum(int(np.prod(op.shape)) for op in graph.ops if isinstance(op, NeuronOp)),
        "spike_driven_convs": len(convs),
        "macs": total,
        "spike_macs": spiking,
        "real_macs": total - spiking,
    }


def simulate(file: Path, seed: int) -> dict[str, Any]:
    """One evaluation of the Program: seconds, and how much the populations fire."""
    program = load(file).network("denoiser")
    start = time.perf_counter()
    rng = np.random.default_rng(seed)
    frames = program.input.quantize(rng.standard_normal((1, *program.input.shape)))
    found = Simulator(program).evaluate(frames, CONFIG.diffusion_steps // 2, record=True)
    rates = {
        name: float(np.mean(sent != 0)) for name, sent in found.messages.items() if program.message_bits(name) == 0
    }
    return {
        "seconds": time.perf_counter() - start,
        "mean_rate": float(np.mean(list(rates.values()))),
        "silent": sorted(name for name, rate in rates.items() if rate == 0),
        "events": sum(found.counts.events.values()),
        "synaptic_operations": sum(found.counts.stored.values()),
    }


def measure(folder: Path, seed: int) -> dict[str, Any]:
    """Everything, with checkpoint and pipeline in ``folder``."""
    checkpoint, file = folder / "checkpoint", folder / "sddpm.h5"
    say("building the model")
    model = untrained(Recipe(CONFIG, (Stage(batch_size=4),), dataset="noise:3x32x32", seed=seed), batches=1)
    save_checkpoint(checkpoint, model)
    counted = counts(model)
    del model
    say("spikegen export")
    text, export = spikegen("export", checkpoint, "-o", file, "--seed", seed, "--json")
    exported = json.loads(text)["networks"]["denoiser"]
    say("spikegen inspect")
    text, inspect = spikegen("inspect", file, "--json")
    network = json.loads(text)["networks"]["denoiser"]
    say("one evaluation on the simulator")
    simulated = simulate(file, seed)
    say("spikegen sample, whole, interrupted and resumed")
    sample = sampled(file, IMAGES, STEPS, seed)
    errors = {node["name"]: node["relative_error"] for node in network["populations"] if node["relative_error"]}
    kept = ("spiking_layers", "spiking_populations", "spiking_neurons", "relays", "depth", "overflow_risks", "streams")
    return {
        "seed": seed,
        "counts": counted,
        "export": {**export, "file_bytes": file.stat().st_size, "weights": exported["weights"]},
        "inspect": {**inspect, **{key: network[key] for key in kept}, "projections": len(network["projections"])},
        "errors": errors,
        "simulator": simulated,
        "sample": sample,
    }


def problems(found: dict[str, Any]) -> list[str]:
    """What is not as it must be."""
    counted, export, broken = found["counts"], found["export"], []
    if counted["parameters"] != PARAMETERS:
        broken.append(f"{counted['parameters']:,} parameters, the paper has {PARAMETERS:,}")
    for name, expected in (("spike_macs", SPIKE_MACS), ("real_macs", REAL_MACS)):
        if abs(counted[name] / expected - 1) > 0.01:  # the published figures have three digits
            broken.append(f"{name} is {counted[name]:,}, the paper has {expected:,.0f}")
    layers = {counted["neuron_layers"], counted["spike_driven_convs"], found["inspect"]["spiking_layers"]}
    if layers != {SPIKING_LAYERS}:
        broken.append(f"{sorted(layers)} spiking layers, the paper has {SPIKING_LAYERS}")
    if export["seconds"] > SECONDS_MAX or export["peak_bytes"] > BYTES_MAX:
        broken.append(f"the export took {export['seconds']:.0f} s and {export['peak_bytes'] / 2**30:.1f} GiB")
    sample = found["sample"]
    if sample["peak_bytes"] > SAMPLE_BYTES_MAX:
        broken.append(f"sampling took {sample['peak_bytes'] / 2**30:.1f} GiB")
    if not (sample["state_left"] and STEPS // 2 <= sample["interrupted_after"] < STEPS):
        broken.append(f"the run was interrupted after {sample['interrupted_after']} of {STEPS} steps")
    if not (sample["equal"] and sample["state_removed"]):
        broken.append("the resumed run ended with another picture, or left its state")
    return broken


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    counted, inspect, simulator = found["counts"], found["inspect"], found["simulator"]
    print(
        f"{counted['parameters']:,} parameters with the embedding table; {counted['neuron_layers']} neuron layers of "
        f"{counted['neurons']:,} neurons"
    )
    print(
        f"{counted['macs']:,} multiply-accumulates in one SNN step: {counted['spike_macs']:,} in "
        f"{counted['spike_driven_convs']} convolutions of spikes, {counted['real_macs']:,} in the others"
    )
    print(
        f"Program: {inspect['spiking_layers']} spiking layers in {inspect['spiking_populations']} populations of "
        f"{inspect['spiking_neurons']:,} neurons, {inspect['relays']} relays, {inspect['projections']} projections, "
        f"{found['export']['weights']:,} weights, depth {inspect['depth']}; "
        f"file {found['export']['file_bytes'] / 2**20:.0f} MiB"
    )
    worst = sorted(found["errors"].items(), key=lambda item: -item[1])[:5]
    print("largest relative errors of a current: " + ", ".join(f"{name} {error:.1%}" for name, error in worst))
    for risk in inspect["overflow_risks"]:
        print(f"overflow is possible: {risk}")
    print(
        f"one evaluation on the simulator: {simulator['seconds']:.1f} s, mean rate {simulator['mean_rate']:.1%}, "
        f"{simulator['events']:,} events, {simulator['synaptic_operations']:,} synaptic operations; "
        f"silent: {', '.join(simulator['silent']) or 'none'}"
    )
    sample = found["sample"]
    print(
        f"spikegen sample, {sample['images']} images, {sample['steps']} steps of DDIM: {sample['seconds']:.0f} s, "
        f"{sample['seconds_per_evaluation']:.2f} s for each image and step, peak {sample['peak_bytes'] / 2**30:.1f} GiB"
    )
    print(
        f"interrupted after {sample['interrupted_after']} steps and resumed: "
        f"{'the same picture' if sample['equal'] else 'ANOTHER PICTURE'}"
    )
    for name in ("export", "inspect"):
        cost = found[name]
        print(f"spikegen {name}: {cost['seconds']:.0f} s, peak {cost['peak_bytes'] / 2**30:.1f} GiB")


if __name__ == "__main__":
    main(__doc__, measure, show, problems)
