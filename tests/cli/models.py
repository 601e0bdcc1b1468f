"""A small checkpoint for tests of the command line."""

from pathlib import Path

import torch

from spikegen.models import Checkpoint, SpikingUNet, UNetConfig, save_checkpoint


def small_checkpoint(folder: Path) -> Path:
    """Write an untrained U-Net of width 4 and T = 2 whose BatchNorms have seen data, and return its folder."""
    torch.manual_seed(0)
    model = SpikingUNet(UNetConfig(width=4, timesteps=2, diffusion_steps=20))
    with torch.no_grad():
        for _ in range(5):
            model(torch.randn(32, 1, 8, 8), torch.randint(20, (32,)))
    save_checkpoint(folder, Checkpoint(model.eval(), "unet", "squaredcos_cap_v2", "digits", {}))
    return folder
