"""Handlers of flatten, reshape, view and unflatten, and of means and sums over SNN time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from spikegen.lowering.calls import FIRST, LAST, Call, refusal
from spikegen.lowering.geometry import reshaped
from spikegen.lowering.graph import InputOp, Op, ReadoutOp


def flatten_module(module: Any, inputs: Sequence[Op], call: Call) -> Op | tuple[Op, ...]:
    """nn.Flatten; that of SpikingJelly in multi-step mode counts its axes without time."""
    shift = 1 if call.time == FIRST and getattr(module, "step_mode", "s") == "m" else 0
    last = module.end_dim
    return _flattened(inputs[0], call, module.start_dim + shift, last if last < 0 else last + shift)


def flatten_call(_module: None, inputs: Sequence[Op], call: Call) -> Op | tuple[Op, ...]:
    """Tensor.flatten and torch.flatten."""
    given = dict(zip(("start_dim", "end_dim"), call.positional, strict=False)) | dict(call.arguments)
    return _flattened(inputs[0], call, int(given.get("start_dim", 0)), int(given.get("end_dim", -1)))


def _flattened(source: Op, call: Call, start: int, end: int) -> Op | tuple[Op, ...]:
    sizes = call.sizes(source)
    first, last = start % len(sizes), end % len(sizes)
    before = 2 if call.time == FIRST else 1
    behind = len(sizes) - (1 if call.time == LAST else 0) - 1
    if (first, last) != (before, behind):
        raise refusal(
            call,
            f"axes {first} to {last} of {sizes} are flattened; only channels, rows and columns together are supported, "
            f"here flatten({before}, {behind})",
        )
    return reshaped(call, source, (math.prod(source.shape),))


def slayer_flatten(module: Any, inputs: Sequence[Op], call: Call) -> Op | tuple[Op, ...]:
    """slayer.block.cuba.Flatten."""
    if module.count_log:
        raise refusal(call, "count_log=True returns two values; use count_log=False")
    return reshaped(call, inputs[0], (math.prod(inputs[0].shape),))


def view(_module: None, inputs: Sequence[Op], call: Call) -> Op | tuple[Op, ...]:
    """Tensor.view, Tensor.reshape and torch.reshape; the axes of time and batch must stay."""
    given = call.positional
    wanted = list(given[0]) if len(given) == 1 and isinstance(given[0], tuple | list) else list(given)
    source = inputs[0]
    sizes = call.sizes(source)
    before, after = (2 if call.time == FIRST else 1), (1 if call.time == LAST else 0)
    inner = wanted[before : len(wanted) - after]
    kept = [*wanted[:before], *wanted[len(wanted) - after :]]
    expected = [*sizes[:before], *sizes[len(sizes) - after :]]
    free = wanted.count(-1)
    stays = len(kept) == len(expected) and all(a in (-1, b) for a, b in zip(kept, expected, strict=True))
    if not inner or not stays or free > 1 or not all(isinstance(size, int) for size in inner):
        raise refusal(call, f"{sizes} becomes {tuple(wanted)}; time and batch must stay where they are")
    if -1 in inner:
        known = -math.prod(inner)
        inner[inner.index(-1)] = math.prod(source.shape) // max(1, known)
    return reshaped(call, source, tuple(inner))


def unflatten_module(module: Any, inputs: Sequence[Op], call: Call) -> Op | tuple[Op, ...]:
    """nn.Unflatten of the features into (C, H, W)."""
    source, shape = inputs[0], tuple(module.unflattened_size)
    if not source.flat or call.axis(module.dim, source) != 0:
        raise refusal(call, f"only the features can be unflattened, not axis {module.dim} of {call.sizes(source)}")
    return reshaped(call, source, shape)


def unsqueeze(_module: None, inputs: Sequence[Op], call: Call) -> Op:
    """Tensor.unsqueeze, where a model begins with the frame that it repeats over time."""
    given = call.positional[0] if call.positional else call.arguments.get("dim")
    if not isinstance(inputs[0], InputOp) or given != 0 or len(call.positional) > 1:
        raise refusal(call, "a new axis is supported only as that of SNN time, unsqueeze(0) of the input")
    return inputs[0]


def repeat(_module: None, inputs: Sequence[Op], call: Call) -> Op:
    """Tensor.repeat and Tensor.expand over SNN time, of the input."""
    given = call.positional[0] if len(call.positional) == 1 else call.positional
    wanted = list(given) if isinstance(given, tuple | list) else []
    sizes = call.sizes(inputs[0])
    same = [{1} if call.name.startswith("repeat") else {-1, size} for size in sizes[1:]]
    times = len(wanted) == len(sizes) and all(size in kept for size, kept in zip(wanted[1:], same, strict=True))
    if not isinstance(inputs[0], InputOp) or not times or wanted[0] != call.timesteps:
        raise refusal(
            call,
            f"{tuple(wanted)}: only the input is repeated, over SNN time, {call.timesteps} times; -T says how often",
        )
    return inputs[0]


def time_mean(_module: None, inputs: Sequence[Op], call: Call) -> Op:
    """The mean over SNN time, which the host computes."""
    return _over_time(inputs[0], call, 1.0 / call.timesteps)


def time_sum(_module: None, inputs: Sequence[Op], call: Call) -> Op:
    """The sum over SNN time, which the host computes."""
    return _over_time(inputs[0], call, 1.0)


def _over_time(source: Op, call: Call, weight: float) -> Op:
    given = call.positional[0] if call.positional else call.arguments.get("dim", call.arguments.get("axis"))
    sizes = call.sizes(source)
    time = {FIRST: 0, LAST: len(sizes) - 1}.get(call.time)
    if len(call.positional) > 1 or not isinstance(given, int) or time is None or given % len(sizes) != time:
        raise refusal(call, f"over axis {given} of {sizes}: only a mean or sum over SNN time is supported, at the end")
    return ReadoutOp(call.name, (source.name,), source.shape, np.full(call.timesteps, weight))
