"""The tail of SDDPM's U-Net: real-valued layers on the host, then the weighted sum over SNN time."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from spikegen.models.gain import TemporalGain
from spikegen.models.readouts import MembraneReadout


class SwishTailReadout(MembraneReadout):
    """SDDPM's tail (arXiv 2306.17046; ``model/SpikingUNet.py``), ``(T * N, C, H, W) -> (N, O, H, W)``.

    Equations, with the 0.8-weighted sum of :class:`MembraneReadout` behind them::

        q[t] = conv(swish(norm(x[t]))) ;  r[t] = swish(mix_norm(mix(q[t]))) + q[t]

    ``mix`` is the paper's K, "T_output_layer": a Conv3d whose kernel of 3x3x1 does not mix SNN steps.

    Args:
        channels: C, of the residual stream.
        outputs: O, image channels.
        timesteps: T, the number of SNN steps folded into the batch axis.
        tsm: SDM's gain per SNN step behind ``conv``.
    """

    def __init__(self, channels: int, outputs: int, timesteps: int, *, tsm: bool = False) -> None:
        super().__init__(timesteps)
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, outputs, 3, padding=1)
        self.gain = TemporalGain(timesteps) if tsm else nn.Identity()
        self.mix = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.mix_norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        q = self.gain(self.conv(functional.silu(self.norm(x))))
        return super().forward(functional.silu(self.mix_norm(self.mix(q))) + q)
