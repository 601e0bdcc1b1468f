"""How tests/nir/files/spikingjelly.* were made: a NIR file by SpikingJelly's own exporter. Not run by the tests.

The exporter is in no release yet: it is `spikingjelly/activation_based/nir_exchange` of the repository
fangwei123456/spikingjelly, commit afb132264a8cbe38d0f221dcef04053e6ba134d3, which takes Python 3.11 and nir 1.0.6.

    pip install torch nir==1.0.6 scikit-learn scipy tqdm && pip install --no-deps nirtorch==2.6
    PYTHONPATH=CLONE python tests/nir/make_spikingjelly_file.py tests/nir/files

Inputs are the first digits of scikit-learn, in [0, 1], the same at each of T = 16 timesteps.
"""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.nir_exchange import export_to_nir
from torch import nn

TIMESTEPS, IMAGES, FACTOR = 16, 8, 4.0
NEURONS = ("1", "5", "7")


def network() -> nn.Sequential:
    """Multi-step layers with all three neurons that the exporter knows; resets are to 0."""
    return nn.Sequential(
        layer.Conv2d(1, 4, 3, padding=1, step_mode="m"),
        neuron.IFNode(v_reset=0.0, step_mode="m"),
        layer.AvgPool2d((2, 2), (2, 2), step_mode="m"),
        layer.Flatten(step_mode="m"),
        layer.Linear(64, 20, bias=False, step_mode="m"),
        neuron.LIFNode(tau=4.0, decay_input=False, v_reset=0.0, step_mode="m"),
        layer.Linear(20, 10, step_mode="m"),
        neuron.ParametricLIFNode(init_tau=2.0, v_reset=0.0, step_mode="m"),
    )


def main(folder: Path) -> None:
    """Write the file, the images and SpikingJelly's own spikes."""
    torch.manual_seed(0)
    images = torch.from_numpy(load_digits().images[:IMAGES, None] / 16.0).float()
    model = network().eval()
    with torch.no_grad():  # larger weights, so that all layers fire without training
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight *= FACTOR
    export_to_nir(model, images.expand(TIMESTEPS, *images.shape), folder / "spikingjelly.nir")
    functional.reset_net(model)
    spikes: dict[str, npt.NDArray[np.uint8]] = {}
    for name in NEURONS:
        model[int(name)].register_forward_hook(
            lambda _m, _i, out, name=name: spikes.update(
                {f"spikes._{name}": out.transpose(0, 1).numpy().astype(np.uint8)}
            )
        )
    with torch.no_grad():
        model(images.expand(TIMESTEPS, *images.shape))
    np.savez_compressed(folder / "spikingjelly.npz", images=images.numpy(), **spikes)
    for name, found in spikes.items():
        sys.stdout.write(f"{name}: {found.shape}, {found.mean():.3f}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
