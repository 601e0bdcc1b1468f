"""What the table of layers is made of: rows, and the calls that their handlers are given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from spikegen.errors import LoweringError
from spikegen.lowering.graph import FloatArray, Op

# Where a model has SNN time. The tensors that a layer reads are:
FOLDED = "folded"  # (T * N, ...), time is the slower: the models of this package
STEP = "step"  # (N, ...), the model is called once for every timestep
FIRST = "first"  # (T, N, ...), SpikingJelly's step_mode "m"
LAST = "last"  # (N, ..., T), SLAYER
TIMES = (FOLDED, STEP, FIRST, LAST)
ONE_AXIS = (FOLDED, STEP)  # one axis before the channels, as torch.nn wants it


@dataclass(frozen=True)
class Call:
    """One call in the traced graph.

    Attributes:
        name: dotted name.
        arguments: keyword arguments.
        positional: positional arguments that are no values of the model: numbers, and sizes by their names.
        time: where the values that it reads have SNN time, one of :data:`TIMES`.
        timesteps: T.
    """

    name: str
    arguments: Mapping[str, Any]
    positional: tuple[Any, ...] = ()
    time: str = FOLDED
    timesteps: int = 1

    def sizes(self, op: Op) -> tuple[Any, ...]:
        """Shape of the tensor that the model sees for ``op``; N is "N", T * N is "TN"."""
        inner = (math.prod(op.shape),) if op.flat else op.shape
        before: Mapping[str, tuple[Any, ...]] = {FOLDED: ("TN",), FIRST: (self.timesteps, "N")}
        after = (self.timesteps,) if self.time == LAST else ()
        return (*before.get(self.time, ("N",)), *inner, *after)

    def axis(self, dim: int, op: Op) -> int | None:
        """Axis ``dim`` of the tensor of ``op`` as an axis of its own shape: 0 channels, 1 rows, 2 columns; or None."""
        sizes = self.sizes(op)
        inner = dim % len(sizes) - (2 if self.time == FIRST else 1)
        return inner if 0 <= inner < (1 if op.flat else 3) else None


Handler: TypeAlias = Callable[[Any, Sequence[Op], Call], "Op | tuple[Op, ...]"]


@dataclass(frozen=True)
class Layer:
    """One row of the support matrix.

    Attributes:
        handler: makes the operation, or several, the last of which is the value of the call. An operation with the
            name of an input is another view of it. Its ``lag`` is what the call adds.
        becomes: what the layer is in a Program.
        arguments: keyword arguments that ``handler`` knows.
        positional: whether it knows positional arguments.
        times: where it may have SNN time.
        flat: whether it takes features, and gives features for them.
    """

    handler: Handler
    becomes: str
    arguments: tuple[str, ...] = ()
    positional: bool = False
    times: tuple[str, ...] = ONE_AXIS
    flat: bool = False


def refusal(call: Call, what: str) -> LoweringError:
    """The error that ``call`` cannot be lowered."""
    return LoweringError(f"{call.name}: {what}")


def array(tensor: torch.Tensor) -> FloatArray:
    """float64 of the same shape."""
    found: FloatArray = tensor.detach().cpu().double().numpy()
    return found


def pair(value: Any) -> tuple[int, int]:
    """(vertical, horizontal) of one number or two."""
    return (int(value[0]), int(value[1])) if isinstance(value, tuple | list) else (int(value), int(value))
