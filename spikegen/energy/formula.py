"""The energy formula of SDDPM and SDM, to reproduce their tables, and what it leaves out.

SDDPM (arXiv 2306.17046) and SDM (arXiv 2408.16467) estimate one evaluation of the network, one image at one diffusion
step, from the multiply-accumulates of every layer ``l``, its firing rate and the constants of 45 nm arithmetic::

    SOP(l) = rate(l) T MAC(l)
    E = 4.6 pJ MAC(first convolution) + 0.9 pJ sum_l SOP(l)          l: the layers that spikes drive
    E(ANN) = 4.6 pJ sum_l MAC(l)                                     l: all layers

MACs are those of one SNN step, and count taps that fall on padding. The layers that neither the image nor spikes drive
(1x1 shortcuts on the real-valued stream, the tail) have no firing rate, and the formula has no term for them. They are
``4.6 pJ T MAC(l)`` each, given beside the formula.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from spikegen.energy.operations import Operations
from spikegen.program import Conv, Input, Program, Projection, Readout, Relay
from spikegen.program.ir import neurons

FP32_ADD, FP32_MAC = 0.9, 4.6  # [pJ], Horowitz 2014, 45 nm; a MAC is 3.7 + 0.9
SOURCE = "SDDPM (arXiv 2306.17046) and SDM (arXiv 2408.16467), with the constants of M. Horowitz, ISSCC 2014, 45 nm"


class Driven(Enum):
    """What a layer's inputs are."""

    IMAGE = "image"
    SPIKES = "spikes"
    REAL = "real"


@dataclass(frozen=True)
class FormulaLayer:
    """One layer of a network.

    Attributes:
        name: of the layer.
        macs: multiply-accumulates of one dense SNN step, taps on padding counted.
        driven: by what.
        rate: spikes per neuron and SNN step of the population that drives it; used if spikes do.
    """

    name: str
    macs: int
    driven: Driven
    rate: float = 0.0


@dataclass(frozen=True)
class FormulaEnergy:
    """Energy of one evaluation by the formula, and what it leaves out [pJ].

    Attributes:
        image: layers that the image drives, billed once.
        spikes: synaptic operations of the layers that spikes drive.
        real: real-valued layers, at each timestep; not in the formula.
    """

    image: float
    spikes: float
    real: float

    @property
    def formula(self) -> float:
        """What the papers' formula says."""
        return self.image + self.spikes

    @property
    def with_real(self) -> float:
        """The same with the real-valued layers."""
        return self.formula + self.real


def formula_energy(layers: Iterable[FormulaLayer], timesteps: int) -> FormulaEnergy:
    """Energy of one evaluation of T = ``timesteps`` SNN steps."""
    layers = tuple(layers)
    macs = {driven: sum(layer.macs for layer in layers if layer.driven is driven) for driven in Driven}
    operations = sum(layer.rate * timesteps * layer.macs for layer in layers if layer.driven is Driven.SPIKES)
    return FormulaEnergy(
        image=FP32_MAC * macs[Driven.IMAGE],
        spikes=FP32_ADD * operations,
        real=FP32_MAC * timesteps * macs[Driven.REAL],
    )


def formula_ann_energy(layers: Iterable[FormulaLayer]) -> float:
    """Energy of one evaluation of the ANN that has these layers [pJ]."""
    return FP32_MAC * sum(layer.macs for layer in layers)


def implied_rate(layers: Iterable[FormulaLayer], timesteps: int, energy: float) -> float:
    """The firing rate that, being the same everywhere, makes the formula give ``energy`` [pJ]."""
    layers = tuple(layers)
    image = formula_energy(layers, timesteps).image
    macs = sum(layer.macs for layer in layers if layer.driven is Driven.SPIKES)
    return (energy - image) / (FP32_ADD * timesteps * macs)


def program_layers(program: Program, operations: Operations) -> tuple[FormulaLayer, ...]:
    """The layers of ``program``, with the rates of ``operations``: its projections, and the host's tails.

    A projection that the lowering composed of several layers is one layer here.
    """
    events = {node.name: node.events for node in operations.nodes}
    chances = operations.evaluations * program.timesteps
    layers = []
    for projection in program.projections:
        source = program.nodes[projection.source]
        if isinstance(source, Relay):
            driven = Driven.REAL
        elif isinstance(source, Input) and program.message_bits(source.name):
            driven = Driven.IMAGE
        else:
            driven = Driven.SPIKES
        rate = events[source.name] / (neurons(source) * chances) if driven is Driven.SPIKES else 0.0
        layers.append(FormulaLayer(projection.name, _macs(program, projection), driven, rate))
    for node in program.nodes.values():
        if isinstance(node, Readout) and node.tail is not None:
            weights = node.tail.weight.size + node.tail.mix_weight.size
            layers.append(FormulaLayer(f"{node.name}, tail", weights * math.prod(node.shape[1:]), Driven.REAL))
    return tuple(layers)


def _macs(program: Program, projection: Projection) -> int:
    """Every weight is used once for every output pixel; a shuffle makes r x r of them at once."""
    if not isinstance(projection, Conv):
        return int(projection.weight.size)
    pixels = math.prod(program.nodes[projection.target].shape[1:])
    return int(projection.weight.size) * pixels // projection.shuffle**2
