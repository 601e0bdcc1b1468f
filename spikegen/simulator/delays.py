"""Axonal delays on torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def late(spikes: Tensor, delays: npt.NDArray[np.int32], time: int) -> Tensor:
    """Messages of neurons with axonal delays: :func:`spikegen.program.numerics.delayed`, integer for integer.

    Args:
        spikes: (N, T, ...) or (T, N, ...), any dtype.
        delays: timesteps [...], at least 0; empty for none.
        time: the axis of T, 0 or 1.
    """
    if not delays.size:
        return spikes
    given = torch.from_numpy(delays.astype(np.int64)).to(spikes.device)
    source = torch.arange(spikes.shape[time], device=spikes.device).view(-1, *[1] * given.dim()) - given
    source = source.unsqueeze(1 - time)
    return spikes.gather(time, source.clamp(min=0).expand(spikes.shape)) * source.ge(0)
