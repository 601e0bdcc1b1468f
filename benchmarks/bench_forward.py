"""Speed of one network evaluation against named rivals, in one run (`make bench`): read the ratios, not the times.

* the integer simulator against SLAYER: the float model's own forward pass (lava-dl's CUBA neurons, torch convolutions);
* Lava's processes with each form of the synapses, stock Lava being `conv`: the same Program, the same spikes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from spikegen.lowering.export import export_model
from spikegen.models import Checkpoint
from spikegen.program import Program
from spikegen.runtime import open_target
from spikegen.runtime.backends import SYNAPSES
from spikegen.simulator import Simulator
from spikegen.training import RECIPES, untrained

IMAGES, STEP = 16, 400


@cache
def model() -> Checkpoint:
    """The U-Net on SLAYER neurons with random weights."""
    return untrained(RECIPES["digits-slayer"])


@cache
def program() -> Program:
    return export_model(model(), "digits-slayer").network("denoiser")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(before)


def images() -> Any:
    return np.random.default_rng(0).standard_normal((IMAGES, *program().input.shape))


@pytest.mark.benchmark(group="evaluation of 16 images on the host")
def test_simulator(benchmark: Any) -> None:
    frames = program().input.quantize(images())
    simulator = Simulator(program())
    benchmark(lambda: simulator.evaluate(frames, STEP))


@pytest.mark.benchmark(group="evaluation of 16 images on the host")
def test_slayer_forward(benchmark: Any) -> None:
    network = model().model
    x, t = torch.from_numpy(images()).float(), torch.full((IMAGES,), STEP)
    with torch.no_grad():
        benchmark(lambda: network(x, t))


@pytest.mark.parametrize("synapses", SYNAPSES)
@pytest.mark.benchmark(group="evaluation of 16 images on Lava processes")
def test_lava(benchmark: Any, synapses: str) -> None:
    frames = program().input.quantize(images())
    with open_target("lava-unrolled", program(), images=IMAGES, synapses=synapses) as target:
        benchmark.pedantic(lambda: target.evaluate(frames, STEP), rounds=3, warmup_rounds=1)
