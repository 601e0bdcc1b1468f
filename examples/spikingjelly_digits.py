"""A SpikingJelly network, trained on scikit-learn's digits, for `spikegen export`.

    cd examples
    python spikingjelly_digits.py out     # trains half a minute; writes out/csnn.pt and the digits that were held out
    spikegen export spikingjelly_digits:csnn --input 1x8x8 -T 8 --weights out/csnn.pt --calibration out/x.npy -o csnn.h5
    spikegen run csnn.h5 --input out/x.npy -o y.npy

It has the form of the convolutional network of SpikingJelly's tutorials, in small: multi-step layers, an image that the
network repeats over time itself, and firing rates of the classes.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

TIMESTEPS, CLASSES = 8, 10


class Csnn(nn.Module):
    """Images (N, 1, 8, 8) to rates (N, 10)."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            layer.Conv2d(1, channels, 3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            _fire(),
            layer.MaxPool2d(2),
            layer.Conv2d(channels, channels, 3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            _fire(),
            layer.MaxPool2d(2),
            layer.Flatten(),
            layer.Linear(4 * channels, CLASSES, bias=False),
            _fire(),
        )
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        """The mean over time of what the last layer sends."""
        spikes: Tensor = self.layers(x.unsqueeze(0).repeat(TIMESTEPS, 1, 1, 1, 1))
        return spikes.mean(0)


def _fire() -> nn.Module:
    made: nn.Module = neuron.IFNode(surrogate_function=surrogate.ATan())
    return made


def csnn() -> nn.Module:
    """For `spikegen export spikingjelly_digits:csnn`."""
    return Csnn()


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images float32 [N, 1, 8, 8] in 0 .. 1, and labels."""
    pixels, labels = load_digits(return_X_y=True)
    return (pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8), labels


def train(model: nn.Module, x: Tensor, labels: Tensor, epochs: int, seed: int = 0) -> None:
    """Mean squared error of the rates, as in the tutorial."""
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    wanted = nn.functional.one_hot(labels, CLASSES).float()
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            loss = nn.functional.mse_loss(model(x[batch]), wanted[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            functional.reset_net(model)
    model.eval()


def main(folder: Path, epochs: int) -> None:
    """Train, and write the weights and the digits that were held out."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs, targets = digits()
    x, labels = torch.from_numpy(inputs), torch.from_numpy(targets)
    held_out = len(inputs) // 6
    torch.manual_seed(0)
    model = csnn()
    train(model, x[held_out:], labels[held_out:], epochs)
    with torch.no_grad():
        right = (model(x[:held_out]).argmax(1) == labels[:held_out]).float().mean()
    torch.save(model.state_dict(), folder / "csnn.pt")
    np.save(folder / "x.npy", inputs[:held_out])
    np.save(folder / "labels.npy", targets[:held_out])
    print(f"{right:.1%} of {held_out} held-out digits are right; wrote {folder / 'csnn.pt'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out"), int(sys.argv[2]) if len(sys.argv) > 2 else 12)
