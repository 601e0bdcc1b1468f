"""Networks of lava-dl's own blocks, whose ``export_hdf5`` writes the files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

NEURON = {"threshold": 0.6, "current_decay": 0.4, "voltage_decay": 0.1}


def block(kind: str, *arguments: Any, **options: Any) -> nn.Module:
    """A block of ``slayer.block.cuba`` without the shift of one timestep, which a Program does not have."""
    from lava.lib.dl.slayer.block import cuba

    if kind == "Flatten":
        made: nn.Module = cuba.Flatten()
    else:
        neuron = {**NEURON, **options.pop("neuron", {})}
        made = getattr(cuba, kind)(neuron, *arguments, delay_shift=False, **options)
    return made


def spikes(blocks: Sequence[nn.Module], inputs: npt.NDArray[Any], seed: int = 3) -> npt.NDArray[np.float32]:
    """What SLAYER itself gives for [N, T, ...]; axonal delays are drawn first."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _ in range(2):  # shapes and delays are made by the first run
            x = torch.from_numpy(inputs.astype(np.float32)).movedim(1, -1)
            for made in blocks:
                x = made(x)
                delay = getattr(made, "delay", None)
                if delay is not None:
                    drawn = torch.randint(0, 4, delay.delay.shape, generator=generator)
                    delay.delay.copy_(drawn + 0.5)
            generator.manual_seed(seed)
    found: npt.NDArray[np.float32] = x.movedim(-1, 1).numpy()
    return found


def written(blocks: Sequence[nn.Module], path: Path) -> Path:
    """The file that the blocks write, as lava-dl's tutorials do it."""
    with h5py.File(path, "w") as file:
        place = file.create_group("layer")
        for index, made in enumerate(blocks):
            made.export_hdf5(place.create_group(str(index)))
    return path
