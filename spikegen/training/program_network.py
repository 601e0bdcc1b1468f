"""A Program as a torch module that learns: exact integers forward, straight-through gradients back.

Every integer is held in floating point whose mantissa provably has room for it, so the messages of every node equal
those of the :class:`~spikegen.simulator.Simulator`. What learns are the int8 weight mantissas and the bias mantissas,
as *shadow* parameters whose rounded values are what computes; the gradient passes the rounding unchanged
(straight-through, Bengio et al. 2013, arXiv 1308.3432).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from spikegen.program import Conv, Input, Lif, Program, Projection, Relay, overflow_risks, validate
from spikegen.program.numerics import (
    BIAS_MANT_MAX,
    BIAS_MANT_MIN,
    STATE_SHIFT,
    WEIGHT_MAX,
    WEIGHT_MIN,
)
from spikegen.simulator.delays import late
from spikegen.training.host_readout import HostReadout
from spikegen.training.integer_neuron import LifConstants, fire

_EXACT_FLOAT32 = 1 << 24  # every integer up to it is a float32


class Shadow(nn.Module):
    """Integers that learn: ``mantissas = clamp(round_half_even(unit * values), low, high)``.

    ``values`` is of the order of 1, so that one learning rate fits every tensor; ``unit`` is a power of two, so the
    start is exact. Mantissas that are 0 at the start stay 0 where ``sparse``: no synapse is added.

    Args:
        start: the integers at the start.
        unit: integers per unit of ``values``, a power of two.
        low, high: range, broadcastable to ``start``.
        sparse: keep zeros.
        fixed: do not learn.
    """

    def __init__(
        self,
        start: npt.NDArray[np.integer[Any]],
        unit: float,
        low: Tensor,
        high: Tensor,
        *,
        sparse: bool = False,
        fixed: bool = False,
    ) -> None:
        super().__init__()
        integers = torch.from_numpy(start.astype(np.float32))
        self.unit = unit
        self.values = nn.Parameter(integers / unit, requires_grad=not fixed)
        self.register_buffer("low", low.float(), persistent=False)
        self.register_buffer("high", high.float(), persistent=False)
        self.register_buffer("kept", (integers != 0).float() if sparse else torch.ones(()), persistent=False)
        self.low: Tensor
        self.high: Tensor
        self.kept: Tensor

    def forward(self) -> Tensor:
        """The integers, float32; their gradient is that of ``unit * values``, 0 for what stays 0."""
        rounded: Tensor = _Rounded.apply(self.values, self.unit, self.low, self.high)  # type: ignore[no-untyped-call]
        return rounded * self.kept if self.kept.ndim else rounded

    @torch.no_grad()
    def clamp_(self) -> None:
        """Bring the values back into the range, beyond which they would have to return before anything changes."""
        self.values.copy_(torch.minimum(torch.maximum(self.values, self.low / self.unit), self.high / self.unit))

    def integers(self) -> npt.NDArray[np.int64]:
        """The integers as numbers."""
        found: npt.NDArray[np.int64] = self().detach().numpy().astype(np.int64)
        return found


class _Rounded(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, unit: float, low: Tensor, high: Tensor) -> Tensor:
        ctx.unit = unit
        return torch.minimum(torch.maximum((values * unit).round_(), low), high)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return gradient * ctx.unit, None, None, None


class _Geometry(NamedTuple):
    """What projections must share to be one convolution; ``only`` is the name of one that shares nothing."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    kernel: tuple[int, int]
    dtype: torch.dtype
    only: str


class ProgramNetwork(nn.Module):
    """The network of ``program`` with weights and biases that learn; everything else is fixed.

    So do the real numbers of the host's part of the readout (:class:`HostReadout`). Fixed are thresholds, decays,
    delays, exponents, LSBs, gains, conditioning tables, the copies of a relayed stream (depthwise 1x1 projections of
    equal weights), and which weights are 0.

    Args:
        program: a valid Program.

    Raises:
        ProgramError: the Program breaks a rule.
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        validate(program)
        self.program = program
        self.risky = frozenset(line.split(": ")[0] for line in overflow_risks(program))
        self.indices = {p.name: index for index, p in enumerate(program.projections)}
        self.weights = nn.ModuleList(_weight_shadow(p) for p in program.projections)
        self.lifs = {p.name: i for i, p in enumerate(q for q in program.populations if isinstance(q, Lif))}
        self.biases = nn.ModuleList(
            _bias_shadow(p, program.conditioning.tables.get(p.name)) for p in program.populations if isinstance(p, Lif)
        )
        for name, table in program.conditioning.tables.items():
            self.register_buffer(
                f"table{self.lifs[name]}", torch.from_numpy(table.astype(np.float32)), persistent=False
            )
        self.host = HostReadout(next(program.readouts()))
        self._plan = {name: self._bundles(name) for name in program.nodes}
        self._dtypes = {p.name: self._sum_dtype(p.name) for p in program.populations}

    def weight(self, projection: str) -> Shadow:
        """The weight mantissas of ``projection``."""
        return cast(Shadow, self.weights[self.indices[projection]])

    def bias(self, population: str) -> Shadow:
        """The bias mantissas of the Lif ``population``."""
        return cast(Shadow, self.biases[self.lifs[population]])

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        """What the host reads.

        Args:
            x: real inputs (N, C, H, W), or (N, T, C, H, W) where the input is streamed.
            steps: int64 (N,), the row of the conditioning tables for each of them.

        Returns:
            float64 (N, O, H, W) of the first readout; without a tail equal, bit for bit, to what the runtime computes.
        """
        currents = self.messages(self.quantize(x), steps)[self.host.readout.name]
        value: Tensor = self.host(currents)
        return value

    def quantize(self, x: Tensor) -> Tensor:
        """Messages of the input, float32 (1, N, C, H, W), or (T, N, C, H, W) where it is streamed."""
        port = self.program.input
        low, high = (torch.from_numpy(end.astype(np.float64))[:, None, None] for end in (port.low, port.high))
        messages = torch.minimum(torch.maximum((x.double() / port.scale).round_(), low), high).float()
        return messages.transpose(0, 1).contiguous() if port.streamed else messages[None]

    def messages(self, frames: Tensor, steps: Tensor) -> dict[str, Tensor]:
        """Messages of every node, and the currents of the readouts, as integers in floating point.

        Args:
            frames: messages of the input as :meth:`quantize` makes them.
            steps: int64 (N,).

        Returns:
            node -> (T, N, C, H, W); (1, N, C, H, W) where all timesteps are equal.
        """
        program = self.program
        sent = {program.input.name: frames}
        totals: dict[str, Tensor] = {}
        self._deliver(program.input.name, frames, totals)
        for population in program.populations:
            silence = frames.new_zeros((1, frames.shape[1], *population.shape))
            current = totals.pop(population.name, silence)  # a clock hears nothing
            if isinstance(population, Lif):
                constants = LifConstants.of(population, bounded=population.name not in self.risky)
                spikes = fire(current, self._bias(population, steps), constants, program.timesteps)
                sent[population.name] = late(spikes, population.delays, time=0)
            else:
                sent[population.name] = current
            self._deliver(population.name, sent[population.name], totals)
        return sent

    def clamp_(self) -> None:
        """Bring all values back into their ranges; call it after every optimiser step."""
        for shadow in (*self.weights, *self.biases):
            cast(Shadow, shadow).clamp_()

    def to_program(self) -> Program:
        """The Program of the rounded weights and biases; what it computes is what this module computes."""
        program = self.program
        projections = tuple(
            dataclasses.replace(p, weight=self.weight(p.name).integers().astype(np.int8)) for p in program.projections
        )
        populations = tuple(
            dataclasses.replace(p, bias_mant=self.bias(p.name).integers().astype(np.int16)) if isinstance(p, Lif) else p
            for p in program.populations
        )
        populations = tuple(self.host.to_readout() if p.name == self.host.readout.name else p for p in populations)
        return dataclasses.replace(program, populations=populations, projections=projections)

    def _bias(self, population: Lif, steps: Tensor) -> Tensor:
        bias: Tensor = self.bias(population.name)()
        if population.name in self.program.conditioning.tables:
            rows: Tensor = getattr(self, f"table{self.lifs[population.name]}")[steps]
            bias = bias + rows
        else:
            bias = bias.expand(len(steps), -1)
        return bias * float(1 << population.bias_exp)

    def _deliver(self, source: str, messages: Tensor, totals: dict[str, Tensor]) -> None:
        """Add the currents of all projections out of ``source`` to the totals of their targets."""
        for geometry, bundle in self._plan[source].items():
            weights = [self.weight(p.name)() * float(1 << p.exponent) for p in bundle]
            given = messages.to(geometry.dtype)
            if isinstance(bundle[0], Conv) and bundle[0].is_copy:
                currents = [given * weights[0].to(geometry.dtype)[:, 0]]
            elif isinstance(bundle[0], Conv):
                kernel = (torch.cat(weights) if len(weights) > 1 else weights[0]).to(geometry.dtype)
                whole = functional.conv2d(
                    given.flatten(0, 1),
                    kernel,
                    stride=geometry.stride,
                    padding=geometry.padding,
                    dilation=geometry.dilation,
                    groups=bundle[0].groups,
                ).unflatten(0, messages.shape[:2])
                currents = list(whole.split([len(w) for w in weights], dim=2))
            else:
                currents = [given.flatten(2) @ weights[0].to(geometry.dtype).T]
            for projection, current in zip(bundle, currents, strict=True):
                self._add(projection, current, totals)

    def _add(self, projection: Projection, current: Tensor, totals: dict[str, Tensor]) -> None:
        shape = self.program.nodes[projection.target].shape
        if isinstance(projection, Conv) and projection.shuffle > 1:
            current = functional.pixel_shuffle(current, projection.shuffle)
        current = current.reshape(*current.shape[:2], *shape).to(self._dtypes[projection.target])
        if projection.gains.size:
            current = current * current.new_tensor(projection.gains.tolist())[:, None, None, None, None]
        total = totals.get(projection.target)
        totals[projection.target] = current if total is None else total + current

    def _bundles(self, source: str) -> Mapping[_Geometry, list[Projection]]:
        """The projections out of ``source`` that one convolution computes."""
        bundles: dict[_Geometry, list[Projection]] = {}
        for p in self.program.out_of(source):
            dtype = torch.float32 if self._largest(p) < _EXACT_FLOAT32 else torch.float64
            if isinstance(p, Conv):
                height, width = p.weight.shape[2:]
                only = p.name if p.groups > 1 or p.is_copy else ""
                geometry = _Geometry(p.stride, p.padding, p.dilation, (height, width), dtype, only)
            else:
                geometry = _Geometry((0, 0), (0, 0), (0, 0), (0, 0), dtype, p.name)
            bundles.setdefault(geometry, []).append(p)
        return bundles

    def _largest(self, projection: Projection) -> int:
        """What no sum of products of ``projection``, in mantissas and without gains, can exceed, whatever it learns."""
        source = self.program.nodes[projection.source]
        if isinstance(source, Input):
            message = max(1, -int(source.low.min()), int(source.high.max()))
        else:
            message = (1 << source.bits) - 1 if isinstance(source, Relay) else 1
        synapses = int((projection.weight != 0).reshape(len(projection.weight), -1).sum(axis=1).max())
        return synapses * -WEIGHT_MIN * message

    def _sum_dtype(self, target: str) -> torch.dtype:
        """A type that holds every sum of currents into ``target``, which all are multiples of the smallest weight."""
        into = self.program.into(target)
        reach = 0
        for p in into:
            gain = int(np.abs(p.gains.astype(np.int64)).max(initial=1)) if p.gains.size else 1
            reach += self._largest(p) * gain << p.exponent
        smallest = min((p.exponent for p in into), default=0)
        return torch.float32 if reach >> smallest < _EXACT_FLOAT32 else torch.float64


def _power_of_two(x: float) -> float:
    return 2.0 ** round(math.log2(x)) if x > 0 else 1.0


def _weight_shadow(projection: Projection) -> Shadow:
    """In units of the root mean square of the weights that are not 0."""
    weight = projection.weight
    used = weight[weight != 0].astype(np.float64)
    unit = _power_of_two(float(np.sqrt(np.mean(used**2))) if used.size else 1.0)
    low, high = torch.tensor(float(WEIGHT_MIN)), torch.tensor(float(WEIGHT_MAX))
    return Shadow(weight, unit, low, high, sparse=True, fixed=isinstance(projection, Conv) and projection.is_copy)


def _bias_shadow(population: Lif, table: npt.NDArray[np.int16] | None) -> Shadow:
    """In units of the threshold; the range leaves room for the conditioning."""
    unit = _power_of_two(float((max(population.vth, 1) << STATE_SHIFT) >> population.bias_exp))
    sums = np.zeros((1, len(population.bias_mant))) if table is None else table.astype(np.float64)
    low = torch.from_numpy(BIAS_MANT_MIN - np.minimum(sums.min(axis=0), 0.0))
    high = torch.from_numpy(BIAS_MANT_MAX - np.maximum(sums.max(axis=0), 0.0))
    return Shadow(population.bias_mant, unit, low, high)
