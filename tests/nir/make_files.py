"""How tests/nir/files were made: NIR files by other frameworks, with their spikes. Not run by the tests.

    pip install --no-deps nirtorch==2.6          # beside torch 2.3.1, snntorch 1.0.0, nir 1.0.8
    pip download --no-deps norse==1.1.0          # its sources on PYTHONPATH; nothing of it needs to be compiled here
    python tests/nir/make_files.py tests/nir/files

Inputs are the first digits of scikit-learn, in [0, 1], the same at each of T = 16 timesteps.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nir
import norse.torch as norse
import numpy as np
import snntorch as snn
import torch
from norse.torch.utils.export_nir import to_nir
from sklearn.datasets import load_digits
from snntorch import utils
from snntorch.export_nir import export_to_nir
from torch import Tensor, nn

TIMESTEPS, IMAGES = 16, 8


def snntorch_network() -> nn.Sequential:
    """A convolution, a pool, a dense layer, a synapse with a current of its own. The reset is to zero, at once."""

    def common(shape: tuple[int, ...]) -> dict[str, Any]:
        return {
            "threshold": torch.ones(shape),
            "init_hidden": True,
            "reset_mechanism": "zero",
            "reset_delay": False,
        }

    def leaky(shape: tuple[int, ...], beta: float) -> snn.Leaky:
        return snn.Leaky(beta=torch.full(shape, beta), **common(shape))

    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        leaky((6, 8, 8), 0.9),
        nn.AvgPool2d((2, 2), (2, 2)),
        nn.Flatten(),
        nn.Linear(96, 20, bias=False),
        snn.Synaptic(alpha=torch.full((20,), 0.5), beta=torch.full((20,), 0.75), **common((20,))),
        nn.Linear(20, 10),
        leaky((10,), 0.75),
    )


def norse_network() -> norse.SequentialState:
    """Dense layers and leaky neurons that step with dt = 0.001."""

    def leaky(size: int, tau_inverse: float) -> norse.LIFBoxCell:
        zeros = torch.zeros(size)
        return norse.LIFBoxCell(
            norse.LIFBoxParameters(
                tau_mem_inv=torch.full((size,), tau_inverse),
                v_th=torch.full((size,), 0.25),
                v_leak=zeros,
                v_reset=zeros,
            )
        )

    return norse.SequentialState(nn.Linear(64, 32), leaky(32, 200.0), nn.Linear(32, 10), leaky(10, 400.0))


def _livelier(network: nn.Module, factor: float) -> None:
    """Larger weights, so that all layers fire without training."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight *= factor


def main(folder: Path) -> None:
    torch.manual_seed(0)
    images = torch.from_numpy(load_digits().images[:IMAGES] / 16.0).float()
    network = snntorch_network()
    _livelier(network, 3.0)
    graph = export_to_nir(network, images[:1, None], ignore_dims=[0])
    nir.write(folder / "snntorch.nir", graph)
    utils.reset(network)  # what the export left in the membranes
    spikes: dict[str, list[Tensor]] = {"1": [], "5": [], "7": []}
    for name, found in spikes.items():
        network[int(name)].register_forward_hook(lambda _m, _i, out, found=found: found.append(out.detach()))
    with torch.no_grad():
        for _ in range(TIMESTEPS):
            network(images[:, None])
    _save(folder / "snntorch.npz", images[:, None], {name: torch.stack(s, 1) for name, s in spikes.items()})

    network = norse_network()
    _livelier(network, 3.0)
    nir.write(folder / "norse.nir", to_nir(network, images[0].flatten(), dt=1.0))  # tau becomes dt tau
    layers = list(network.children())
    fired: dict[str, list[Tensor]] = {"1": [], "3": []}
    states: list[Any] = [None] * len(layers)
    with torch.no_grad():
        for _ in range(TIMESTEPS):
            value = images.flatten(1)
            for index, layer in enumerate(layers):
                if isinstance(layer, norse.LIFBoxCell):
                    value, states[index] = layer(value, states[index])
                    fired[str(index)].append(value)
                else:
                    value = layer(value)
    _save(folder / "norse.npz", images.flatten(1), {name: torch.stack(s, 1) for name, s in fired.items()})


def _save(path: Path, images: Tensor, spikes: dict[str, Tensor]) -> None:
    arrays = {f"spikes.{name}": found.numpy().astype(np.uint8) for name, found in spikes.items()}
    np.savez_compressed(path, images=images.numpy(), **arrays)
    for name, found in spikes.items():
        sys.stdout.write(f"{path.name} {name}: {tuple(found.shape)}, {float(found.float().mean()):.3f}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
