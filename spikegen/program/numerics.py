"""The one integer arithmetic. Every target reproduces these functions bit for bit.

Sources: Lava 0.10.0, ``lava/proc/lif/models.py`` (``AbstractPyLifModelFixed``, ``PyLifModelBitAcc``), whose widths are
Loihi's.
All arrays are int64; an argument outside the documented range is not checked here (``validate`` proves the ranges).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

STATE_LIMIT = 1 << 23  # u and v are 24 bit with sign (`uv_bitwidth`)
DECAY_UNITY = 1 << 12  # decays are 12 bit (`decay_shift`)
STATE_SHIFT = 6  # currents and thresholds are aligned to the state by 6 bits (`act_shift`, `vth_shift`)
VTH_MAX = (1 << 17) - 1
DECAY_MAX = (1 << 12) - 1
BIAS_MANT_MIN, BIAS_MANT_MAX = -(1 << 12), (1 << 12) - 1
BIAS_EXP_MAX = 7
WEIGHT_MIN, WEIGHT_MAX = -(1 << 7), (1 << 7) - 1
GRADED_BITS_MAX = 23
CURRENT_LIMIT = 1 << 18  # one wrap brings u + (a << 6) back into 24 bits while |a| is below it
WEIGHT_EXP_MAX = 15


def wrap24(x: IntArray) -> IntArray:
    """Current overflow: 2^24 is subtracted once above 2^23, added once at or below -2^23 (Lava's ``wrapped_curr``).

    The result lies in (-2^23, 2^23] for ``|x| < 3 * 2^23``.
    """
    x = np.where(x > STATE_LIMIT, x - 2 * STATE_LIMIT, x)
    return np.where(x <= -STATE_LIMIT, x + 2 * STATE_LIMIT, x)


def clip23(x: IntArray) -> IntArray:
    """Membrane saturation to -(2^23 - 1) .. 2^23 - 1 (Lava's ``neg_voltage_limit`` and ``pos_voltage_limit``)."""
    clipped: IntArray = np.clip(x, 1 - STATE_LIMIT, STATE_LIMIT - 1)
    return clipped


def decay(x: IntArray, amount: int) -> IntArray:
    """``trunc(x * (4096 - amount) / 4096)``, rounding toward zero; ``amount`` in 0..4096."""
    scaled = x * (DECAY_UNITY - amount)
    decayed: IntArray = np.sign(scaled) * (np.abs(scaled) >> 12)
    return decayed


def delayed(spikes: npt.NDArray[Any], delays: npt.NDArray[np.int32]) -> npt.NDArray[Any]:
    """Messages of neurons with axonal delays.

    Args:
        spikes: [N, T, C, H, W], any dtype.
        delays: [C, H, W] timesteps, at least 0; empty for none.

    Returns:
        ``spikes[:, t - delays]`` at timestep t, 0 where that is before the first one; same shape and dtype.
    """
    if not delays.size:
        return spikes
    source = np.arange(spikes.shape[1])[:, None, None, None] - delays  # [T, C, H, W]
    moved: npt.NDArray[Any] = np.take_along_axis(spikes, np.maximum(source, 0)[None], axis=1)
    moved[:, source < 0] = 0
    return moved


def lif_step(
    u: IntArray, v: IntArray, a: IntArray, *, vth: int, du: int, dv: int, bias: IntArray | int
) -> tuple[IntArray, IntArray, npt.NDArray[np.bool_]]:
    """One timestep of :class:`~spikegen.program.Lif`.

    Args:
        u: current state, int64, any shape.
        v: membrane state, same shape.
        a: summed synaptic input, same shape, ``|a| < 2^18`` (one wrap then suffices; see ``wrap24``).
        vth: threshold mantissa, 0..131071.
        du: current decay, 0..4095.
        dv: membrane decay, 0..4095.
        bias: ``bias_mant << bias_exp``, broadcastable to the state.

    Returns:
        new u, new v, spikes (bool).
    """
    u = wrap24(decay(u, du + 1) + (a << STATE_SHIFT))
    v = clip23(decay(v, dv) + u + bias)
    spikes = v > (vth << STATE_SHIFT)
    return u, np.where(spikes, 0, v), spikes
