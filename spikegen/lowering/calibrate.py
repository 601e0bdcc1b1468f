"""Calibration data: real images noised to several diffusion steps, and the spikes they cause in the float model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from spikegen.diffusion.schedule import alphas_cumprod
from spikegen.lowering.plain import spiking_layers

if TYPE_CHECKING:
    from spikegen.training.datasets import ImageSet


# Large networks are calibrated on fewer inputs: minutes on two cores for the largest published U-Nets.
BUDGET_MACS, INPUTS_MIN = 1 << 37, 4


@dataclass(frozen=True, eq=False)
class Calibration:
    """Noised images and their diffusion steps.

    Attributes:
        images: float64 [N, C, H, W], or [N, T, C, H, W] for a streamed input.
        steps: int64 [N], the diffusion step of each image.
    """

    images: npt.NDArray[np.float64]
    steps: npt.NDArray[np.int64]


def within_budget(data: Calibration, macs: int) -> Calibration:
    """Evenly spread inputs of ``data``, as many as :data:`BUDGET_MACS` allows, at least :data:`INPUTS_MIN`.

    Args:
        data: calibration data.
        macs: multiply-accumulates of one evaluation of the network (all timesteps).
    """
    total = len(data.steps)
    kept = min(total, max(INPUTS_MIN, BUDGET_MACS // max(1, macs)))
    chosen = np.arange(kept) * total // kept
    return data if kept == total else Calibration(data.images[chosen], data.steps[chosen])


def noised(
    images: ImageSet, schedule: str, diffusion_steps: int, steps: list[int], count: int, seed: int
) -> Calibration:
    """``count`` images at each of ``steps``, as in DDPM (arXiv 2006.11239, Eq. 4).

    ``sqrt(abar) x + sqrt(1 - abar) noise`` with images drawn from ``images``.
    """
    rng = np.random.default_rng(seed)
    chosen = np.repeat(np.array(steps, dtype=np.int64), count)
    clean = images[rng.integers(len(images), size=len(chosen))].astype(np.float64)
    alpha = alphas_cumprod(schedule, diffusion_steps)[chosen][:, None, None, None]
    return Calibration(np.sqrt(alpha) * clean + np.sqrt(1 - alpha) * rng.standard_normal(clean.shape), chosen)


def record_spikes(
    model: nn.Module, data: Calibration
) -> tuple[Mapping[str, npt.NDArray[np.int32]], npt.NDArray[np.float64]]:
    """Spikes of every neuron layer of ``model`` and its output.

    Args:
        model: called with the images, and with the steps if it takes a second argument.
        data: calibration data.

    Returns:
        layer -> int32 [N, T, C, H, W], or [N, T, F] of a plain network's features; and the output float64 [N, C, H, W].
    """
    spikes: dict[str, npt.NDArray[np.int32]] = {}

    def keep(name: str, sent: Tensor) -> None:
        spikes[name] = sent.transpose(0, 1).to(torch.int32).numpy()

    output = _observed(model, data, keep)
    return spikes, output.double().numpy()


def firing_rates(model: nn.Module, data: Calibration) -> Mapping[str, float]:
    """Mean spikes per neuron and timestep of every neuron layer; unlike the spikes, they take no memory.

    Args:
        model: as of :func:`record_spikes`.
        data: calibration data.
    """
    rates: dict[str, float] = {}

    def keep(name: str, sent: Tensor) -> None:
        rates[name] = float(sent.sum(dtype=torch.float64)) / sent.numel()

    _observed(model, data, keep)
    return rates


def _observed(model: nn.Module, data: Calibration, keep: Callable[[str, Tensor], None]) -> Tensor:
    """The output of ``model``; ``keep`` gets the name of every neuron layer and its spikes (T, N, ...)."""
    handles, steps = [], {}
    for name, layer, together in spiking_layers(model):
        if getattr(layer, "step_mode", "m") == "s":  # called once for every timestep
            steps[name] = together, cast(list[Tensor], [])

            def collect(_: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor, name: str = name) -> None:
                steps[name][1].append(output)

            handles.append(layer.register_forward_hook(collect))
        else:

            def hook(
                layer: nn.Module,
                _inputs: tuple[Tensor, ...],
                output: Tensor,
                name: str = name,
                together: Callable[[list[Tensor], int], Tensor] = together,
            ) -> None:
                keep(name, together([output], int(getattr(layer, "timesteps", 0))))

            handles.append(layer.register_forward_hook(hook))
    try:
        with torch.no_grad():
            arguments = (torch.from_numpy(data.images).float(), torch.from_numpy(data.steps))
            output: Tensor = model(*arguments[: len(inspect.signature(model.forward).parameters)])
    finally:
        for handle in handles:
            handle.remove()
    for name, (together, values) in steps.items():
        keep(name, together(values, len(values)))
    return output
