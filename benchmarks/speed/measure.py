"""The rows: what is measured on which network. Each gives a dictionary of figures for the results file."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.costs import costs
from benchmarks.speed.networks import (
    NETWORKS,
    SMALL,
    Network,
    firing,
    images_of,
    macs,
    of_unet,
    predict,
)
from benchmarks.speed.peak import candidates
from benchmarks.speed.rivals import RIVALS, forward, with_neurons
from benchmarks.speed.split import split_of
from benchmarks.speed.timing import interleaved
from spikegen.exporters.lava import LavaTarget
from spikegen.exporters.lava.schedule import Schedule
from spikegen.program import Target
from spikegen.simulator import Simulator

STEP = 500
LAVA_TIMEOUT = 3600.0  # seconds


@dataclass(frozen=True)
class Settings:
    """How a run measures.

    Attributes:
        folder: where exported networks are kept.
        threads: of torch.
        rounds: how often each rival is timed, where an evaluation takes less than seconds.
        batch: images.
        quick: fewer images on Lava and smaller sizes in the scaling.
    """

    folder: Path
    threads: int
    rounds: int
    batch: int
    quick: bool


def against_floats(network: Network, settings: Settings) -> dict[str, Any]:
    """Simulator against the forward passes of SLAYER and SpikingJelly: images in, noise out."""
    program, model = network.program(settings.folder), network.checkpoint().model
    images = images_of(program, settings.batch)
    x, t = torch.from_numpy(images).float(), torch.full((settings.batch,), STEP)
    twins = {name: with_neurons(model, make) for name, make in RIVALS.items()}
    ours = forward(model, x, t)
    with Simulator(program, batch=settings.batch) as simulator:
        runs = {"simulator": lambda: predict(program, simulator, images, STEP)}
        runs |= {name: partial(forward, twin, x, t) for name, twin in twins.items()}
        timings = interleaved(runs, settings.rounds)
    return {
        **_common(program, settings.batch),
        "rate": firing(program),
        "seconds": timings.summary(),
        "ratios": {name: timings.ratio(name, "simulator") for name in twins},
        # The same network: how far the twins are from the model that was exported, relative to its noise.
        "differences": {n: float((forward(w, x, t) - ours).std() / ours.std()) for n, w in twins.items()},
    }


def against_lava(network: Network, settings: Settings) -> dict[str, Any]:
    """Simulator, fused Lava and unrolled Lava with stock `Conv`, per image; readouts and counts must be equal."""
    program = network.program(settings.folder)
    batch = 2 if settings.quick else settings.batch
    frames = program.input.quantize(images_of(program, batch))
    with ExitStack() as stack:
        targets: dict[str, Target] = {"simulator": stack.enter_context(Simulator(program, batch=batch))}
        for name, synapses in (("fused", None), ("unrolled", "conv")):
            built = LavaTarget(program, images=batch, model=name, synapses=synapses, timeout=LAVA_TIMEOUT)
            targets[name] = stack.enter_context(built)
        found = {name: target.evaluate(frames, STEP) for name, target in targets.items()}
        runs = {name: partial(target.evaluate, frames, STEP) for name, target in targets.items()}
        timings = interleaved(runs, 1 if settings.quick else 3, warm_up=0)  # the evaluation above was the warm-up
    ours = found["simulator"]
    equal = {
        name: bool(
            other.counts == ours.counts
            and all(np.array_equal(other.readouts[key], value) for key, value in ours.readouts.items())
        )
        for name, other in found.items()
    }
    return {
        **_common(program, batch),
        "lava_timesteps": Schedule.unrolled(program, batch).period,
        "seconds": timings.summary(),
        "ratios": {
            "unrolled / simulator": timings.ratio("unrolled", "simulator"),
            "unrolled / fused": timings.ratio("unrolled", "fused"),
            "fused / simulator": timings.ratio("fused", "simulator"),
        },
        "equal": equal,
    }


def rate(network: Network, settings: Settings) -> dict[str, Any]:
    """Multiply-accumulates per second of the simulator, of its layers, and of the machine's best int8 product."""
    program = network.program(settings.folder)
    images = images_of(program, settings.batch)
    total = macs(program) * settings.batch
    products = candidates()
    with Simulator(program, batch=settings.batch) as simulator:
        runs: dict[str, Callable[[], object]] = {"simulator": lambda: predict(program, simulator, images, STEP)}
        runs |= {name: call for name, (_, call) in products.items()}
        timings = interleaved(runs, settings.rounds)
    rates = {name: count / timings.median(name) / 1e9 for name, (count, _) in products.items()}
    best = max(rates, key=lambda name: rates[name])
    ours = total / timings.median("simulator") / 1e9
    split = split_of(program, lambda s: predict(program, s, images, STEP), max(2, settings.rounds // 3))
    for layer in split["layers"]:
        layer["share_of_best"] = layer["gmacs"] / rates[best]
    busy = sum(layer["seconds"] for layer in split["layers"])
    return {
        **_common(program, settings.batch),
        "seconds": {"simulator": timings.summary()["simulator"]},
        "gmacs": ours,
        "best": {"name": best, "gmacs": rates[best]},
        "products": rates,
        "ratio": ours / rates[best],
        "layers_gmacs": total / busy / 1e9 if busy else None,
        "split": split,
    }


def cost(network: Network, settings: Settings) -> dict[str, Any]:
    """Peak memory of the simulator and cost of the export, in processes of their own."""
    program = network.program(settings.folder)
    return {**_common(program, settings.batch), **costs(network, settings.folder, settings.batch)}


def _scaled(points: Mapping[str, tuple[Network, int]], settings: Settings) -> dict[str, Any]:
    """The simulator on (network, batch) pairs: seconds by multiply-accumulates, each against the one before it."""
    with ExitStack() as stack:
        runs: dict[str, Callable[[], object]] = {}
        sizes: dict[str, int] = {}
        for name, (network, batch) in points.items():
            program = network.program(settings.folder)
            simulator = stack.enter_context(Simulator(program, batch=batch))
            runs[name] = partial(predict, program, simulator, images_of(program, batch), STEP)
            sizes[name] = macs(program) * batch
        timings = interleaved(runs, settings.rounds)
    names = list(points)
    steps = [
        {
            "from": a,
            "to": b,
            "macs": sizes[b] / sizes[a],
            "seconds": timings.median(b) / timings.median(a),
            "excess": timings.median(b) / timings.median(a) / (sizes[b] / sizes[a]),
        }
        for a, b in itertools.pairwise(names)
    ]
    return {"macs": sizes, "seconds": timings.summary(), "steps": steps}


def scaling(axis: str, settings: Settings) -> dict[str, Any]:
    """Width, resolution, T or batch doubled again and again from the smallest, the others as in unet-32.

    "sddpm" is the width of the architecture of SDDPM.
    """
    quick = settings.quick
    if axis == "sddpm":
        widths = (32, 64) if quick else (32, 64, 128)
        points = {f"SDDPM, width {width}": (NETWORKS[f"sddpm-{width}"], settings.batch) for width in widths}
        return {**_scaled(points, settings), "batch": settings.batch}
    if axis == "batch":
        network = NETWORKS["unet-32"]
        sizes = (4, 8, 16) if quick else (4, 8, 16, 32, 64)
        return _scaled({f"batch {n}": (network, n) for n in sizes}, settings)
    field, values = {
        "width": ("width", (16, 32, 64) if quick else (16, 32, 64, 128)),
        "resolution": ("image_size", (8, 16, 32)),
        "timesteps": ("timesteps", (2, 4, 8) if quick else (2, 4, 8, 16)),
    }[axis]
    configs = [replace(SMALL, **{field: value}) for value in values]
    points = {
        f"{axis} {value}": (of_unet(config), settings.batch) for value, config in zip(values, configs, strict=True)
    }
    return {**_scaled(points, settings), "batch": settings.batch}


def _common(program: Any, batch: int) -> dict[str, Any]:
    return {
        "timesteps": program.timesteps,
        "batch": batch,
        "macs_per_image": macs(program),
        "float_macs_per_image": program.ann_macs * program.timesteps,
    }


ROWS: Mapping[str, tuple[Callable[[Network, Settings], dict[str, Any]], tuple[str, ...]]] = {
    "forward": (against_floats, ("digits-unet", "unet-32", "sddpm-32", "sddpm-128")),
    "lava": (against_lava, ("digits-unet", "unet-32")),
    "rate": (rate, ("digits-unet", "unet-32", "sddpm-32", "sddpm-128")),
    "cost": (cost, ("digits-unet", "unet-32", "sddpm-32", "sddpm-128")),
}
AXES = ("width", "resolution", "timesteps", "batch", "sddpm")


def units(only: tuple[str, ...], quick: bool) -> dict[str, Callable[[Settings], dict[str, Any]]]:
    """Every row of every network by name, "row/network"; the largest network is left out of a quick run."""
    found: dict[str, Callable[[Settings], dict[str, Any]]] = {}
    for row, (function, names) in ROWS.items():
        for name in names:
            if not (quick and name == "sddpm-128"):
                found[f"{row}/{name}"] = partial(function, NETWORKS[name])
    for axis in AXES:
        found[f"scaling/{axis}"] = partial(scaling, axis)
    return {name: unit for name, unit in found.items() if not only or name.partition("/")[0] in only or name in only}
