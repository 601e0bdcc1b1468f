"""From the names and shapes of other authors to ours: every tensor finds its place, or all that do not are named."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikegen.errors import CheckpointError
from spikegen.importing.files import StateFile

BATCHES = "num_batches_tracked"  # BatchNorm's count of training steps, which changes no result


@dataclass(frozen=True)
class Place:
    """Where a file holds one of our tensors.

    Attributes:
        name: its name there.
        unit_axes: trailing axes of size 1 that it has there and not here.
    """

    name: str
    unit_axes: int = 0


def shapes(network: type[nn.Module], *sizes: object) -> dict[str, Tensor]:
    """The state_dict of ``network(*sizes)`` without memory behind it."""
    with torch.device("meta"):
        state: dict[str, Tensor] = network(*sizes).state_dict()
    return state


def mapped(
    state: StateFile,
    places: Mapping[str, Place],
    expected: Mapping[str, Tensor],
    checked: Iterable[str] = (),
) -> dict[str, Tensor]:
    """The tensors of ``state`` under our names, float32, in our shapes.

    Args:
        state: the file.
        places: our name -> where the file has it, for every name in ``expected``.
        expected: our name -> a tensor of the shape it needs.
        checked: names in the file that were checked and have no place here. :data:`BATCHES` is neither read nor missed.

    Raises:
        CheckpointError: tensors that are missing, unknown, of another shape, no floating point, NaN or infinite: all
            of them.
    """
    theirs = {place.name for name, place in places.items() if not _counts_batches(name)}
    problems = [f"{name}: missing" for name in theirs - state.tensors.keys()]
    problems += [
        f"{name}: unknown" for name in state.tensors.keys() - theirs - set(checked) if not _counts_batches(name)
    ]
    result = {}
    for name, target in expected.items():
        if _counts_batches(name):
            result[name] = torch.zeros((), dtype=torch.long)
            continue
        place = places[name]
        tensor = state.tensors.get(place.name)
        if tensor is None:
            continue
        needed = (*target.shape, *[1] * place.unit_axes)
        if tuple(tensor.shape) != needed:
            problems.append(f"{place.name}: shape {tuple(tensor.shape)}, the sizes of the others need {needed}")
        elif not tensor.is_floating_point():
            problems.append(f"{place.name}: type {tensor.dtype}, a weight is a floating-point number")
        else:
            result[name] = tensor.float().reshape(target.shape)
            if not torch.isfinite(result[name]).all():
                problems.append(f"{place.name}: NaN or infinite values")
    if problems:
        raise CheckpointError(f"{state.path}: not a network of this format:\n  - " + "\n  - ".join(sorted(problems)))
    return result


def _counts_batches(name: str) -> bool:
    return name.rpartition(".")[2] == BATCHES


def channels(state: StateFile, pattern: str, what: str) -> int:
    """How many channels the layers whose names match ``pattern`` deliver: the length of most of their vectors.

    Most, so that one damaged tensor is reported as such, and not as a network of other sizes.

    Raises:
        CheckpointError: there is no such layer.
    """
    lengths = [len(t) for name, t in state.tensors.items() if t.ndim == 1 and re.fullmatch(pattern, name)]
    if not lengths:
        raise CheckpointError(f"{state.path}: not a network of this format: it has no {what}")
    return statistics.mode(lengths)


def needed(state: StateFile, name: str, dimensions: int) -> Tensor:
    """Tensor ``name``, which tells a size of the network and must have so many dimensions.

    Raises:
        CheckpointError: it is missing or has others.
    """
    tensor = state.tensors.get(name)
    if tensor is None or tensor.ndim != dimensions:
        found = "it is missing" if tensor is None else f"its shape is {tuple(tensor.shape)}"
        raise CheckpointError(
            f"{state.path}: not a network of this format: {name} must have {dimensions} dimensions, {found}"
        )
    return tensor
