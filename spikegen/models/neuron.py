"""The SLAYER CUBA neuron in the layout of the spiking networks here."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import torch
from torch import Tensor, nn

from spikegen.errors import MissingPackageError
from spikegen.requirements import how_to_get_lava

# lava-dl `slayer/neuron/cuba.py` multiplies tau_grad by TAU_RHO_MULT = 100 and scale_grad by SCALE_RHO_MULT = 0.1.
# These two values make the surrogate gradient exp(-2 |v - threshold|), peak 1: as steep as the ArcTan surrogate (alpha
# = 2) that SDDPM trains with.
TAU_GRAD = 0.005
SCALE_GRAD = 10.0


def import_cuba() -> Any:
    """The module ``lava.lib.dl.slayer.neuron.cuba`` of lava-dl, imported where the first neuron is made.

    Raises:
        MissingPackageError: lava-dl is not installed.
    """
    try:
        # lava-dl's SLAYER and torch print about CUDA when they are imported; a library must stay silent.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            from lava.lib.dl.slayer.neuron import cuba
    except ImportError as error:
        raise MissingPackageError(
            f"SLAYER's neurons need lava-dl 0.6.0 ({error}); {how_to_get_lava('torch')}"
        ) from error
    return cuba


class SpikingNeuron(nn.Module):
    """A population of SLAYER CUBA neurons applied to a tensor whose SNN time is folded into the batch.

    Equations (lava-dl ``slayer/neuron/cuba.py``; state starts at zero in every call)::

        u[t] = (1 - current_decay) u[t-1] + gain x[t]
        v[t] = (1 - voltage_decay) v[t-1] + u[t]
        s[t] = 1 if v[t] > threshold else 0 ;  v[t] = 0 where s[t] = 1

    ``current_decay=1, voltage_decay=0`` is the IF neuron of SDDPM (arXiv 2306.17046); with ``voltage_decay=1/tau,
    gain=1/tau`` it is the LIF neuron with input decay of Spiking-Diffusion (arXiv 2308.10187; SpikingJelly's
    ``LIFNode(tau, decay_input=True)``): ``v[t] = v[t-1] + (x[t] - v[t-1]) / tau``.

    Args:
        timesteps: T, the number of SNN steps folded into the batch axis.
        threshold: firing threshold, rounded down by SLAYER to a multiple of 1/64.
        current_decay: fraction of the current lost per SNN step, in [0, 1].
        voltage_decay: fraction of the membrane lost per SNN step, in [0, 1].
        gain: factor of the input, > 0.

    Shapes:
        input and output are ``(T * N, C, H, W)`` with the SNN step as the slowest axis; the output holds 0.0 and 1.0.

    Raises:
        MissingPackageError: lava-dl is not installed.
    """

    def __init__(
        self,
        timesteps: int,
        threshold: float = 1.0,
        current_decay: float = 1.0,
        voltage_decay: float = 0.0,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.timesteps = timesteps
        self.gain = gain
        self.neuron = import_cuba().Neuron(
            threshold=threshold,
            current_decay=current_decay,
            voltage_decay=voltage_decay,
            tau_grad=TAU_GRAD,
            scale_grad=SCALE_GRAD,
        )

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.bfloat16:  # SLAYER counts the state in steps of 2^-18, which bfloat16 cannot hold
            x = x.float()
        if self.gain != 1.0:
            x = x * self.gain
        # A view: SLAYER wants time last, and its kernels keep the memory order of what they are given.
        time_last = x.unflatten(0, (self.timesteps, -1)).permute(1, 2, 3, 4, 0)
        self.neuron.shape = time_last.shape[1:-1]
        spikes: Tensor = self.neuron(time_last)
        return spikes.permute(4, 0, 1, 2, 3).flatten(0, 1)
