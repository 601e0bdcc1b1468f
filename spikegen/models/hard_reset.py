"""The neuron of the published models, in floating point: SpikingJelly's IFNode and LIFNode with a hard reset to 0."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class _Fire(Function):
    """All T steps of :class:`HardResetNeuron` on ``x`` (T, ...), and their gradient through time.

    Surrogate gradient: ArcTan with alpha = 2, ``ds/dv = 1 / (1 + (pi (v - threshold))^2)`` (SpikingJelly
    ``activation_based/surrogate.py``). The reset is not detached, as in SDDPM.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: float, decay: float, decay_input: bool) -> Tensor:
        membranes, spikes = torch.empty_like(x), torch.empty_like(x)
        membrane = torch.zeros_like(x[0])
        for t, current in enumerate(x):
            if decay_input:
                charged = torch.add(membrane, current - membrane, alpha=decay)
            elif decay:
                charged = torch.add(current, membrane, alpha=1.0 - decay)
            else:
                charged = membrane + current
            membranes[t] = charged
            fired = charged >= threshold
            spikes[t] = fired
            membrane = charged.masked_fill(fired, 0.0)
        ctx.save_for_backward(membranes)
        ctx.constants = (threshold, decay, decay_input)
        return spikes

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (membranes,) = ctx.saved_tensors
        threshold, decay, decay_input = ctx.constants
        result = torch.empty_like(membranes)
        carried = torch.zeros_like(membranes[0])  # the gradient of the membrane after the reset
        for t in reversed(range(len(membranes))):
            charged = membranes[t]
            slope = (charged - threshold).mul_(math.pi).square_().add_(1.0).reciprocal_()
            # The membrane after the reset is charged * (1 - s).
            inner = torch.addcmul(
                carried.masked_fill(charged >= threshold, 0.0), gradient[t] - carried * charged, slope
            )
            result[t] = inner * decay if decay_input else inner
            carried = inner * (1.0 - decay) if decay else inner
        return result, None, None, None


class HardResetNeuron(nn.Module):
    """A population of float neurons applied to a tensor whose SNN time is folded into the batch.

    Equations (SpikingJelly ``activation_based/neuron.py``; state starts at zero in every call)::

        v[t] = (1 - voltage_decay) v[t-1] + x[t]            or, with ``decay_input``,
        v[t] = v[t-1] + voltage_decay (x[t] - v[t-1])
        s[t] = 1 if v[t] >= threshold else 0 ;  v[t] = 0 where s[t] = 1

    ``voltage_decay=0`` is the IF neuron of SDDPM (arXiv 2306.17046), 0.2 that of FSDDIM (arXiv 2312.01742), 1/tau with
    ``decay_input`` the ``LIFNode(tau)`` of Spiking-Diffusion (arXiv 2308.10187). Nothing is rounded but to float32
    (float64 for inputs of float64).

    Args:
        timesteps: T, the number of SNN steps folded into the batch axis.
        threshold: firing threshold, > 0.
        voltage_decay: fraction of the membrane lost per SNN step, in [0, 1].
        decay_input: the input is scaled by ``voltage_decay`` too.

    Shapes:
        input and output are ``(T * N, C, H, W)`` with the SNN step as the slowest axis; the output holds 0.0 and 1.0.
    """

    def __init__(
        self, timesteps: int, threshold: float = 1.0, voltage_decay: float = 0.0, *, decay_input: bool = False
    ) -> None:
        super().__init__()
        self.timesteps = timesteps
        self.threshold = threshold
        self.voltage_decay = voltage_decay
        self.decay_input = decay_input

    def forward(self, x: Tensor) -> Tensor:
        precise = x.to(torch.promote_types(x.dtype, torch.float32))  # a sum over time needs more than bfloat16
        steps = precise.unflatten(0, (self.timesteps, -1))
        spikes: Tensor = _Fire.apply(steps, self.threshold, self.voltage_decay, self.decay_input)  # type: ignore[no-untyped-call]
        return spikes.flatten(0, 1)
