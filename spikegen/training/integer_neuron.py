"""The Lif population of a Program as a differentiable function: exact integers forward, a surrogate gradient back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from spikegen.program import Lif
from spikegen.program.numerics import DECAY_MAX, DECAY_UNITY, STATE_LIMIT, STATE_SHIFT

_UNIT = float(1 << STATE_SHIFT)  # of the state, in one unit of current


@dataclass(frozen=True)
class LifConstants:
    """What a Lif population does not learn.

    Attributes:
        threshold: ``vth << 6``.
        du, dv: decays as in :class:`~spikegen.program.Lif`.
        bounded: whether interval bounds prove that no state leaves 23 bits; float32 then holds every sum, and nothing
            ever wraps or clips. Otherwise the state is float64.
    """

    threshold: int
    du: int
    dv: int
    bounded: bool

    @staticmethod
    def of(population: Lif, *, bounded: bool) -> LifConstants:
        """The constants of ``population``."""
        return LifConstants(population.vth << STATE_SHIFT, population.du, population.dv, bounded)


def fire(current: Tensor, bias: Tensor, constants: LifConstants, timesteps: int) -> Tensor:
    """Spikes of a Lif population over all timesteps.

    Forward: :func:`spikegen.program.numerics.lif_step`, integer for integer. Backward: rounding, wrapping and clipping
    are passed over, the derivative of a spike is the ArcTan surrogate with alpha = 2 (SpikingJelly
    ``activation_based/surrogate.py``) on the membrane divided by its threshold, and the reset is not detached, as in
    :class:`~spikegen.models.hard_reset.HardResetNeuron`.

    Args:
        current: integers in floating point, (T, N, C, H, W), or (1, N, C, H, W) for every timestep alike; below 2^17
            in magnitude where ``constants.bounded``, else below 2^18.
        bias: ``bias_mant << bias_exp``, (N, C).
        constants: of the population.
        timesteps: T.

    Returns:
        0.0 and 1.0, float32 (T, N, C, H, W).
    """
    spikes: Tensor = _Fire.apply(current, bias, constants, timesteps)  # type: ignore[no-untyped-call]
    return spikes


class _Fire(Function):
    @staticmethod
    def forward(ctx: Any, current: Tensor, bias: Tensor, constants: LifConstants, timesteps: int) -> Tensor:
        dtype = torch.float32 if constants.bounded else torch.float64
        current, bias = current.to(dtype), bias.to(dtype)[:, :, None, None]
        membranes = current.new_empty((timesteps, *current.shape[1:]))
        spikes = torch.empty_like(membranes, dtype=torch.float32)
        u, v = None, None
        for t in range(timesteps):
            a = current[t if len(current) > 1 else 0]
            if constants.du == DECAY_MAX:  # nothing of the current is left
                charged = torch.add(bias, a, alpha=_UNIT) if constants.bounded else _wrap24(a * _UNIT) + bias
            else:
                u = a * _UNIT if u is None else _decay(u, constants.du + 1).add_(a, alpha=_UNIT)
                u = u if constants.bounded else _wrap24(u)
                charged = u + bias
            if v is not None:
                charged += _decay(v, constants.dv) if constants.dv else v
            if not constants.bounded:
                charged = charged.clamp_(1 - STATE_LIMIT, STATE_LIMIT - 1)
            membranes[t] = charged
            spikes[t] = charged > constants.threshold
            v = charged.addcmul_(charged, spikes[t].to(dtype), value=-1.0)  # the reset
        ctx.save_for_backward(membranes, spikes)
        ctx.constants, ctx.steady = constants, len(current) == 1
        return spikes

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        membranes, spikes = ctx.saved_tensors
        constants: LifConstants = ctx.constants
        threshold = float(max(constants.threshold, 1 << STATE_SHIFT))  # a threshold of 0 has no scale of its own
        kept_u = (DECAY_MAX - constants.du) / DECAY_UNITY
        kept_v = 1.0 - constants.dv / DECAY_UNITY
        result = torch.empty_like(membranes, dtype=torch.float32)
        bias = torch.zeros(membranes.shape[1:3])
        carried = torch.zeros_like(result[0])  # the gradient of the membrane after the reset
        carried_u = torch.zeros_like(carried) if kept_u else None
        for t in reversed(range(len(membranes))):
            charged = membranes[t].float()
            slope = (charged - constants.threshold).mul_(math.pi / threshold).square_().add_(1.0)
            slope = slope.reciprocal_().mul_(1.0 / threshold)
            # The membrane after the reset is charged * (1 - s).
            inner = torch.addcmul(carried, carried, spikes[t], value=-1.0)
            inner.addcmul_(torch.addcmul(gradient[t], carried, charged, value=-1.0), slope)
            bias += inner.sum(dim=(2, 3))
            carried = inner * kept_v if constants.dv else inner
            if carried_u is not None:
                inner = inner + carried_u
                carried_u = inner * kept_u
            torch.mul(inner, _UNIT, out=result[t])
        return (result.sum(0, keepdim=True) if ctx.steady else result), bias, None, None


def _decay(state: Tensor, amount: int) -> Tensor:
    """``trunc(state * (4096 - amount) / 4096)``: the product has up to 35 bits, which float64 holds."""
    return (state.double() * ((DECAY_UNITY - amount) / DECAY_UNITY)).trunc_().to(state.dtype)


def _wrap24(x: Tensor) -> Tensor:
    x = torch.where(x > STATE_LIMIT, x - 2 * STATE_LIMIT, x)
    return torch.where(x <= -STATE_LIMIT, x + 2 * STATE_LIMIT, x)
