"""Files of netx, written by hand as ``export_hdf5`` lays them out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

CUBA = {"type": "CUBA", "iDecay": 1024, "vDecay": 128, "vThMant": 80, "refDelay": 1, "gradedSpike": False}
IF = {**CUBA, "iDecay": 4096, "vDecay": 0}
Layer = dict[str, Any]


def write(path: Path, *layers: Layer) -> Path:
    """The file of ``layers``; a value that is a dict becomes a group."""
    with h5py.File(path, "w") as file:
        for index, layer in enumerate(layers):
            group = file.create_group(f"layer/{index}")
            for key, value in layer.items():
                if key == "type":
                    group.create_dataset("type", (1,), "S10", [value.encode()])
                elif isinstance(value, dict):
                    for name, part in value.items():
                        group.create_dataset(f"{key}/{name}", data=part)
                else:
                    group.create_dataset(key, data=value)
    return path


def weights(*shape: int, seed: int = 0) -> Any:
    """Even numbers as floats, as SLAYER writes them."""
    return np.random.default_rng(seed).integers(-60, 61, shape) * 2.0


def input_layer(*shape: int, **more: Any) -> Layer:
    return {"type": "input", "shape": shape, **more}


def conv(**changes: Any) -> Layer:
    """3 of 2 channels, of 2x4x4."""
    geometry = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    channels = {"inChannels": 2, "outChannels": 3, "kernelSize": (3, 3)}
    return {
        "type": "conv",
        "shape": (3, 4, 4),
        "weight": weights(3, 2, 3, 3),
        **geometry,
        **channels,
        "neuron": CUBA,
        **changes,
    }


def dense(out: int = 5, inputs: int = 48, **changes: Any) -> Layer:
    features = {"inFeatures": inputs, "outFeatures": out}
    return {"type": "dense", "shape": (out,), "weight": weights(out, inputs), **features, "neuron": CUBA, **changes}


FLATTEN: Layer = {"type": "flatten", "shape": (48, 1, 1)}


def network() -> list[Layer]:
    return [input_layer(2, 4, 4), conv(), FLATTEN, dense()]
