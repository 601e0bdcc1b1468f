"""A model that is not of this package: called with the input of a Program, whatever library it is of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from spikegen.errors import LoweringError
from spikegen.lowering.calls import FIRST, FOLDED, LAST, STEP
from spikegen.lowering.form import READOUTS, Form
from spikegen.lowering.layers import CONTAINERS, layer_key
from spikegen.models.hard_reset import HardResetNeuron
from spikegen.models.neuron import SpikingNeuron

_SLAYER, _JELLY = "lava.lib.dl.slayer.", "spikingjelly.activation_based."


def time_of(module: nn.Module) -> str:
    """Where ``module`` has SNN time, by the libraries of its layers.

    Raises:
        LoweringError: by some of its layers here, by others there.
    """
    found: dict[str, str] = {}
    for name, layer in module.named_modules():
        origin = type(layer).__module__
        if isinstance(layer, SpikingNeuron | HardResetNeuron):
            found.setdefault(FOLDED, name)
        elif origin.startswith(_SLAYER) and not _inside(module, name):
            found.setdefault(LAST, name)
        elif layer_key(type(layer)) in CONTAINERS or getattr(layer, "step_mode", None) == "m":
            found.setdefault(FIRST, name)
        elif origin.startswith(_JELLY) and hasattr(layer, "step_mode"):
            found.setdefault(STEP, name)
    if FIRST in found:
        found.pop(STEP, None)  # the layers of a container are single-step; a wrong one is refused where it is called
    if len(found) > 1:
        where = ", ".join(f"{time} by {name or 'the model'}" for time, name in found.items())
        raise LoweringError(f"where the model has time is not clear: {where}; use the layers of one library")
    return next(iter(found), STEP)


def _inside(module: nn.Module, name: str) -> bool:
    """Whether layer ``name`` is a part of a SpikingNeuron."""
    path = name.split(".")
    return any(isinstance(module.get_submodule(".".join(path[:end])), SpikingNeuron) for end in range(len(path)))


class PlainNetwork(nn.Module):
    """``module`` as a function of the input of a Program: (N, C, H, W), or (N, T, C, H, W) where it is streamed.

    Args:
        module: the network.
        timesteps: T.
        form: where it has SNN time, and what is read out.
        streamed: every timestep has a frame of its own; else the same frame is given to it T times.
        lags: neuron layer -> timesteps by which its input comes after its frame.
        reads_out: the model ends with a readout of its own.
    """

    def __init__(
        self,
        module: nn.Module,
        timesteps: int,
        form: Form,
        *,
        streamed: bool,
        lags: Mapping[str, int],
        reads_out: bool,
    ) -> None:
        super().__init__()
        self.module = module
        self.timesteps, self.form, self.streamed = timesteps, form, streamed
        self.lags, self.reads_out = lags, reads_out

    def forward(self, x: Tensor) -> Tensor:
        """The readout, (N, ...)."""
        frames = x if self.streamed else x[:, None].expand(-1, self.timesteps, *x.shape[1:])
        if self.form.flat:
            frames = frames.flatten(2)
        self._reset()
        try:
            y = self._called(frames)
        finally:
            self._reset()
        if self.reads_out:
            return y
        weights = torch.from_numpy(READOUTS[self.form.readout or "mean"](self.timesteps)).to(y)
        read: Tensor = torch.tensordot(weights, y, dims=1)
        return read

    def _called(self, frames: Tensor) -> Tensor:
        """The value of ``module`` for frames (N, T, ...): (T, N, ...), or (N, ...) if it reads out by itself."""
        y: Tensor
        if self.form.time == STEP:
            return torch.stack([self.module(frames[:, t]) for t in range(self.timesteps)])
        if self.form.time == FIRST:
            y = self.module(frames[:, 0] if self.form.repeats else frames.transpose(0, 1))
            return y
        if self.form.time == LAST:
            y = self.module(frames.movedim(1, -1).contiguous())
            return y if self.reads_out else y.movedim(-1, 0)
        y = self.module(frames.transpose(0, 1).flatten(0, 1))
        return y if self.reads_out else y.unflatten(0, (self.timesteps, -1))

    def _reset(self) -> None:
        """Let the neurons start from zero, as at every evaluation; SLAYER's do by themselves."""
        for layer in self.module.modules():
            if type(layer).__module__.startswith(_JELLY) and hasattr(layer, "reset"):
                layer.reset()


def spiking_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module, Callable[[list[Tensor], int], Tensor]]]:
    """Name, module and what makes (T, N, ...) of the values that it gave in one evaluation, of every neuron layer."""
    if not isinstance(model, PlainNetwork):
        yield from (
            (name, layer, _of_folded)
            for name, layer in model.named_modules()
            if isinstance(layer, SpikingNeuron | HardResetNeuron)
        )
        return
    for name, layer in model.module.named_modules():
        key = str(layer_key(type(layer)))
        if isinstance(layer, SpikingNeuron | HardResetNeuron):
            yield name, layer, _of_folded
        elif key == f"{_SLAYER}neuron.cuba.Neuron" and not _inside(model.module, name):
            yield name, layer, _of_last
        elif key.startswith(f"{_JELLY}neuron."):
            yield name, layer, _of_first if getattr(layer, "step_mode", "s") == "m" else _of_steps


def _of_folded(values: list[Tensor], timesteps: int) -> Tensor:
    together: Tensor = values[0].unflatten(0, (timesteps, -1))
    return together


def _of_last(values: list[Tensor], _timesteps: int) -> Tensor:
    return values[0].movedim(-1, 0)


def _of_first(values: list[Tensor], _timesteps: int) -> Tensor:
    return values[0]


def _of_steps(values: list[Tensor], _timesteps: int) -> Tensor:
    return torch.stack(values)
