"""Networks of SLAYER blocks in which spikes come at different times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikegen.lowering.export_module import InputSpec, export_module
from spikegen.models.neuron import import_cuba
from spikegen.program import Program
from tests.lowering.plain_cases import CUBA, T, blocks


def slayer(*made: Callable[[Any], nn.Module]) -> nn.Module:
    return blocks(*made)()


class Skip(nn.Module):
    """SLAYER blocks whose branches meet at different times, unless ``shift`` is False."""

    def __init__(self, *, shift: bool) -> None:
        super().__init__()
        import_cuba()
        from lava.lib.dl.slayer.block import cuba

        self.a, self.b, self.c = (
            cuba.Conv(CUBA, 2, 2, 3, padding=1, weight_scale=3, delay_shift=shift) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        y: Tensor = self.c(x + self.b(x))
        return y


def delayed(values: list[float], *, shift: bool = True) -> nn.Module:
    """Two Conv blocks, the first with axonal delays."""
    model = slayer(
        lambda c: c.Conv(CUBA, 2, 4, 3, weight_scale=3, delay=True, delay_shift=shift),
        lambda c: c.Conv(CUBA, 4, 2, 3, weight_scale=3),
    )
    model(torch.zeros(1, 2, 6, 6, T))
    model[0].delay.delay.data = torch.tensor(values)  # type: ignore[index]
    return model


def normed(kind: str, block: int) -> nn.Module:
    """Blocks of which one has a norm, whose statistics are not 0."""
    import_cuba()
    from lava.lib.dl.slayer.neuron import norm

    params = {**CUBA, "norm": lambda: getattr(norm, kind)(2)}
    model = slayer(
        *(
            lambda c, mine=(index == block): c.Conv(params if mine else CUBA, 2, 2, 3, padding=1, weight_scale=4)
            for index in range(2)
        )
    )
    model[block].neuron.norm.running_mean += torch.tensor([0.1, -0.2])  # type: ignore[index]
    return model


def program_of(model: nn.Module, spec: InputSpec, **options: Any) -> Program:
    return export_module(model, spec, **options).network("network")


def trains(seed: int = 3) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.random.default_rng(seed).integers(0, 2, (4, T, 2, 6, 6)).astype(np.int32)


def spikes_of(model: nn.Module, inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What a SLAYER model sends, [N, T, ...]."""
    with torch.no_grad():
        sent: Tensor = model(torch.from_numpy(inputs).float().movedim(1, -1)).movedim(-1, 1)
    found: np.ndarray[Any, Any] = sent.numpy()
    return found
