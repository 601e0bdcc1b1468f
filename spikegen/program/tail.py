"""The host's last layers behind a readout, for networks that do not end in a weighted sum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spikegen.program.arrays import frozen


@dataclass(frozen=True, eq=False)
class SwishTail:
    """The real-valued tail of SDDPM (arXiv 2306.17046; ``model/SpikingUNet.py``), computed by the host.

    It is applied to the real value ``x[t]`` (C, H, W) of a readout at every timestep; with ``*`` a correlation with
    stride 1 and zero padding of half the (odd) kernel, and ``swish(z) = z / (1 + exp(-z))``::

        q[t] = gains[t] (weight * swish(norm_scale x[t] + norm_shift) + bias)
        r[t] = swish(mix_weight * q[t] + mix_bias) + q[t]

    Attributes:
        norm_scale, norm_shift: float64 [C], the first BatchNorm.
        weight, bias: float64 [O, C, kh, kw] and [O], the convolution to the image channels.
        gains: float64 [T], TSM's gain of that convolution at each timestep (SDM, arXiv 2408.16467); 1 without TSM.
        mix_weight, mix_bias: float64 [O, O, kh, kw] and [O], the second convolution with its BatchNorm folded in.
    """

    norm_scale: npt.NDArray[np.float64]
    norm_shift: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    gains: npt.NDArray[np.float64]
    mix_weight: npt.NDArray[np.float64]
    mix_bias: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in ("norm_scale", "norm_shift", "weight", "bias", "gains", "mix_weight", "mix_bias"):
            object.__setattr__(self, name, frozen(getattr(self, name), np.float64))
