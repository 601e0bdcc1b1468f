"""Spiking-Diffusion at the sizes of the paper (28x28 images, 7x7 tokens, K = 128, T = 16): does it deploy exactly?

Run `python benchmarks/paper_size.py` (or `make paper-size`); minutes on one core. The weights are random, the
BatchNorm statistics and the code vectors those of data (the digits enlarged to 28x28). What is run:

* `spikegen export`, `spikegen inspect`;
* `spikegen verify --no-lava`: every message of encoder, denoiser and decoder on the simulator against SLAYER's
  dynamics, one image at each of the 49 diffusion steps, and the spike generator against its look-up table;
* one evaluation of each network on Lava, unrolled into stock Conv and LIF processes, against the simulator.

Exit code 1 if a message differs, a population never or always fires, overflow is possible, or the neurons are not
those of the paper.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from command import spikegen
from script import main, say

from spikegen.exporters.lava import LavaTarget
from spikegen.lowering.parts import network_parts
from spikegen.models import load_checkpoint, save_checkpoint
from spikegen.models.spiking_diffusion import PAPER
from spikegen.program import load
from spikegen.training import Recipe, untrained
from spikegen.training.recipes import Stage
from spikegen.verification import verify_network

NEURONS = {"encoder": 10_192, "denoiser": 59_584, "decoder": 38_416}
MASK_LEVEL = 25  # diffusion step of the evaluation on Lava: about half of the sites are masked
LAVA_TIMEOUT = 3600.0  # seconds


def run_on_lava(file: Path, checkpoint: Path, seed: int) -> dict[str, dict[str, Any]]:
    """Role -> nodes, seconds and whether one evaluation on Lava equals the simulator's."""
    pipeline = load(file)
    parts = network_parts(load_checkpoint(checkpoint), [MASK_LEVEL], 1, seed)
    found = {}
    for role, part in parts.items():
        start = time.perf_counter()
        with LavaTarget(
            pipeline.network(role), images=1, model="unrolled", synapses="conv", timeout=LAVA_TIMEOUT
        ) as target:
            built = time.perf_counter() - start
            result = verify_network(pipeline.network(role), {"Lava": target}, part.data.images, part.data.steps)
        found[role] = {
            "equal": result.equal,
            "messages": sum(node.messages for node in result.nodes),
            "differing": sum(node.differing["Lava"] for node in result.nodes),
            "build_seconds": built,
            "seconds": time.perf_counter() - start,
        }
    return found


def sizes(network: dict[str, Any]) -> dict[str, int]:
    """Sizes of one network, from what `spikegen inspect` says of it."""
    firing = [node for node in network["populations"] if node["type"] == "Lif"]
    stored = {p["name"]: math.prod(p["weight"]) for p in network["projections"]}
    return {
        "populations": len(firing),
        "neurons": sum(node["neurons"] for node in firing),
        "weights": sum(stored.values()),
        "zero_weights": sum(round(p["zero_weights"] * stored[p["name"]]) for p in network["projections"]),
        "synapses": sum(p["synapses"] for p in network["projections"]),
    }


def measure(folder: Path, seed: int) -> dict[str, Any]:
    """Everything, with checkpoint and pipeline in ``folder``."""
    checkpoint, file = folder / "checkpoint", folder / "paper_size.h5"
    stages = (Stage("autoencoder", batch_size=16), Stage("denoiser", batch_size=16))
    recipe = Recipe(PAPER, stages, dataset="digits@28", beta_schedule="absorbing", seed=seed)
    say("building the model")
    save_checkpoint(checkpoint, untrained(recipe))
    say("spikegen export")
    _, export = spikegen("export", checkpoint, "-o", file, "--seed", seed)
    inspected = json.loads(spikegen("inspect", file, "--json")[0])["networks"]
    steps = [word for step in range(1, PAPER.diffusion_steps + 1) for word in ("--at", step)]
    say("spikegen verify --no-lava")
    text, cost = spikegen("verify", file, "--no-lava", "--json", "-n", 1, "--seed", seed, *steps)
    verified = json.loads(text)
    say("one evaluation of each network on Lava")
    lava = run_on_lava(file, checkpoint, seed)
    networks = {}
    for role, network in inspected.items():
        nodes = verified["networks"][role]["nodes"]
        networks[role] = {
            **sizes(network),
            "overflow_risks": network["overflow_risks"],
            "slayer": {
                "messages": sum(node["messages"] for node in nodes),
                "differing": sum(node["differing"]["SLAYER"] for node in nodes),
            },
            "lava": lava[role],
            "rates": {
                node["node"]: node["events"] / node["messages"]
                for node, population in zip(nodes, network["populations"], strict=True)
                if population["type"] == "Lif"
            },
        }
    return {
        "seed": seed,
        "export": export,
        "verify": {**cost, "equal": verified["equal"]},
        "generator": verified["generator"],
        "networks": networks,
    }


def problems(found: dict[str, Any]) -> list[str]:
    """What is not as it must be."""
    broken = [] if found["verify"]["equal"] else ["simulator, SLAYER and look-up table differ"]
    if found["generator"] is None:
        broken.append("the decoder has no generator that a table could replace")
    for role, network in found["networks"].items():
        if not network["lava"]["equal"]:
            broken.append(f"{role}: Lava and the simulator differ")
        if network["overflow_risks"]:
            broken.append(f"{role}: overflow is possible")
        if network["neurons"] != NEURONS[role]:
            broken.append(f"{role}: {network['neurons']:,} neurons, the paper has {NEURONS[role]:,}")
        broken += [f"{role}: {name} fires at {rate:.0%}" for name, rate in network["rates"].items() if not 0 < rate < 1]
    return broken


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    row = "{:<10}{:>12}{:>10}{:>12}{:>12}{:>14}{:>14}{:>12}{:>14}{:>12}{:>9}"
    against = ("vs SLAYER", "differing", "vs Lava", "differing", "s")
    print(row.format("", "populations", "neurons", "weights", "of them 0", "synapses", *against))
    for role, network in found["networks"].items():
        slayer, lava = network["slayer"], network["lava"]
        numbers = [network[key] for key in ("populations", "neurons", "weights", "zero_weights", "synapses")]
        numbers += [slayer["messages"], slayer["differing"], lava["messages"], lava["differing"]]
        print(row.format(role, *(f"{number:,}" for number in numbers), f"{lava['seconds']:.1f}"))
    for role, network in found["networks"].items():
        rates = ", ".join(f"{name} {rate:.1%}" for name, rate in network["rates"].items())
        print(f"{role}, share of (neuron, timestep) pairs that fire: {rates}")
    if found["generator"]:
        generator = found["generator"]
        print(f"generator against its table: {generator['differing']:,} of {generator['messages']:,} messages differ")
    for name in ("export", "verify"):
        cost = found[name]
        print(f"spikegen {name}: {cost['seconds']:.0f} s, peak {cost['peak_bytes'] / 2**30:.1f} GiB")


if __name__ == "__main__":
    main(__doc__, measure, show, problems)
