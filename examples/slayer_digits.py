"""A network of plain SLAYER blocks, trained on scikit-learn's digits, for `spikegen export`.

    cd examples
    python slayer_digits.py out      # trains about a minute; writes out/chain.pt, out/skip.pt, and digits as spikes
    spikegen export slayer_digits:chain --input 64 -T 16 --weights out/chain.pt --calibration out/x.npy -o chain.h5
    spikegen export slayer_digits:skip --input 1x8x8 -T 16 --weights out/skip.pt --calibration out/pixels.npy -o skip.h5
    spikegen run chain.h5 --input out/x.npy -o y.npy

`chain` has the form of lava-dl's N-MNIST tutorial, weight norm, dropout and axonal delays included; netx loads it too.
`skip` has a pool, a transposed convolution and a skip, which netx refuses.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch
from lava.lib.dl.slayer.block import cuba
from lava.lib.dl.slayer.neuron import Dropout
from sklearn.datasets import load_digits
from torch import Tensor, nn

TIMESTEPS, CLASSES, DELAY = 16, 10, 3.0
# Those of lava-dl's N-MNIST tutorial.
NEURON = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03, "tau_grad": 0.03, "scale_grad": 3}


class Chain(nn.Module):
    """Dense blocks with delays that are learnt; the spikes are (N, 64, T)."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        neuron = {**NEURON, "dropout": Dropout(p=0.05)}
        self.blocks = nn.ModuleList(
            [
                cuba.Dense(neuron, 64, hidden, weight_norm=True, weight_scale=2, delay=True),
                cuba.Dense(neuron, hidden, hidden, weight_norm=True, weight_scale=2, delay=True),
                cuba.Dense(NEURON, hidden, CLASSES, weight_norm=True, weight_scale=2),
            ]
        )
        for block in self.blocks[:2]:  # SLAYER draws them from 0 to 1 at the first call, where few become a timestep
            block.delay.delay.data, block.delay.init = DELAY * torch.rand(hidden), True

    def forward(self, x: Tensor) -> Tensor:
        """Spikes of the classes, (N, 10, T)."""
        for block in self.blocks:
            x = block(x)
        return x

    def export_hdf5(self, path: Path) -> None:
        """The file that netx loads."""
        with h5py.File(path, "w") as file:
            for index, block in enumerate(self.blocks):
                block.export_hdf5(file.create_group(f"layer/{index}"))


class Skip(nn.Module):
    """A pool, a transposed convolution, and a skip around both; the spikes are (N, 1, 8, 8, T).

    Without ``delay_shift``: with it the two branches would meet three timesteps apart.
    """

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        plain = {"weight_norm": True, "weight_scale": 2, "delay_shift": False}
        self.first = cuba.Conv(NEURON, 1, channels, 3, padding=1, **plain)
        self.pool = cuba.Pool(NEURON, 2, delay_shift=False)
        self.up = cuba.ConvT(NEURON, channels, channels, 2, stride=2, **plain)
        self.flatten = cuba.Flatten()
        self.last = cuba.Dense(NEURON, 2 * channels * 64, CLASSES, **plain)

    def forward(self, x: Tensor) -> Tensor:
        """Spikes of the classes, (N, 10, T)."""
        skip = self.first(x)
        y: Tensor = self.last(self.flatten(torch.cat([skip, self.up(self.pool(skip))], dim=1)))
        return y


def chain() -> nn.Module:
    """For `spikegen export slayer_digits:chain`."""
    return Chain()


def skip() -> nn.Module:
    """For `spikegen export slayer_digits:skip`."""
    return Skip()


def spike_trains(timesteps: int = TIMESTEPS) -> tuple[np.ndarray, np.ndarray]:
    """Pixels as rates: float32 [N, T, 1, 8, 8] of 0 and 1, as many spikes as the pixel is of 16; and the labels."""
    pixels, labels = load_digits(return_X_y=True)
    steps = np.arange(timesteps + 1)[:, None] * pixels[:, None] / 16
    return np.diff(np.floor(steps), axis=1).astype(np.float32).reshape(-1, timesteps, 1, 8, 8), labels


def train(model: nn.Module, x: Tensor, labels: Tensor, epochs: int, seed: int = 0) -> None:
    """Cross entropy of the rates of the classes; ``x`` has time last."""
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            loss = nn.functional.cross_entropy(8 * model(x[batch]).mean(-1), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()


def main(folder: Path, epochs: int) -> None:
    """Train both networks, and write their weights and the inputs that were held out."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs, targets = spike_trains()
    labels = torch.from_numpy(targets)
    held_out = len(inputs) // 6
    builders: dict[str, Callable[[], nn.Module]] = {"chain": chain, "skip": skip}
    for name, build in builders.items():
        torch.manual_seed(0)
        model = build()
        x = torch.from_numpy(inputs).movedim(1, -1)
        x = x.flatten(1, 3) if name == "chain" else x
        train(model, x[held_out:], labels[held_out:], epochs)
        with torch.no_grad():
            right = (model(x[:held_out]).mean(-1).argmax(1) == labels[:held_out]).float().mean()
        torch.save(model.state_dict(), folder / f"{name}.pt")
        print(f"{name}: {right:.1%} of {held_out} held-out digits are right; wrote {folder / name}.pt")
    np.save(folder / "pixels.npy", inputs[:held_out])
    np.save(folder / "x.npy", inputs[:held_out].reshape(held_out, TIMESTEPS, 64))
    np.save(folder / "labels.npy", targets[:held_out])


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out"), int(sys.argv[2]) if len(sys.argv) > 2 else 8)
