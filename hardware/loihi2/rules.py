"""Design rules: named functions in a table, each of which finds every violation of its kind in one network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from spikegen.hardware.loihi2.boards import Board, smallest_board
from spikegen.hardware.loihi2.layout import Layout
from spikegen.hardware.loihi2.limits import LIMITS
from spikegen.hardware.loihi2.network import Form
from spikegen.hardware.loihi2.placement import smallest_words
from spikegen.program import Conv, Input, Lif, Program, Projection, Relay
from spikegen.program.ir import neurons

WORST = 4  # populations named when cores run out


@dataclass(frozen=True)
class Violation:
    """One broken rule.

    Attributes:
        rule: name in :data:`RULES`.
        where: population or projection, "" for the whole network.
        resource: what is used.
        used: how much.
        limit: how much is allowed (at least, where ``used`` is below it).
        hint: what to do.
    """

    rule: str
    where: str
    resource: str
    used: int
    limit: int
    hint: str


@dataclass(frozen=True)
class Subject:
    """What is checked: a Program, its cores and the board it is to run on."""

    program: Program
    layout: Layout
    board: Board


Rule = Callable[[Subject], Iterator[Violation]]


def _within(
    rule: str, where: str, resource: str, values: tuple[int, int], names: tuple[str, str], hint: str
) -> Iterator[Violation]:
    """The least and greatest value against a lower and an upper limit ("" for 0)."""
    low, high = (LIMITS[name].value if name else 0 for name in names)
    if values[0] < low:
        yield Violation(rule, where, resource, values[0], low, hint)
    if values[1] > high:
        yield Violation(rule, where, resource, values[1], high, hint)


def weight_range(subject: Subject) -> Iterator[Violation]:
    """Weights are 8 bit, -256..254 in steps of 2 or of one sign 0..255 in steps of 1, times at most 2^7.

    An int8 mantissa is always on one of the two grids, twice itself on the first; the exponent can be too large.
    """
    for projection in subject.program.projections:
        exponent = _weight_exponent(projection)
        hint = "use a smaller exponent: a larger LSB (threshold) of the target, or smaller weights"
        ends = ("", "weight_exp")
        yield from _within("weight_range", projection.name, "weight exponent", (0, exponent), ends, hint)


def _weight_exponent(projection: Projection) -> int:
    """The least exponent, from 0, with which the chip's 8-bit weights reach those of ``projection``."""
    low, high = int(projection.weight.min(initial=0)), int(projection.weight.max(initial=0))
    exponent = 0
    if low < 0 < high:
        while high << projection.exponent > LIMITS["weight_max"].value << exponent:
            exponent += 1
        while low << projection.exponent < LIMITS["weight_min"].value << exponent:
            exponent += 1
        return exponent
    while max(high, -low) << projection.exponent > LIMITS["weight_positive_max"].value << exponent:
        exponent += 1
    return exponent


def threshold_bits(subject: Subject) -> Iterator[Violation]:
    """Thresholds have 17 bits."""
    hint = "use a larger LSB: thresholds shrink with it"
    for population in subject.program.populations:
        if isinstance(population, Lif):
            vth = population.vth
            yield from _within("threshold_bits", population.name, "threshold", (vth, vth), ("", "vth"), hint)


def decay_bits(subject: Subject) -> Iterator[Violation]:
    """Decays have 12 bits."""
    for population in subject.program.populations:
        if isinstance(population, Lif):
            for name, decay in (("du", population.du), ("dv", population.dv)):
                hint = "a decay is 0..4095, of 4096"
                yield from _within("decay_bits", population.name, name, (decay, decay), ("", "decay"), hint)


def bias_range(subject: Subject) -> Iterator[Violation]:
    """Bias mantissas have 13 bits with sign, their exponents 3, at every diffusion step."""
    program = subject.program
    for population in program.populations:
        if not isinstance(population, Lif):
            continue
        name, exponent = population.name, population.bias_exp
        yield from _within("bias_range", name, "bias exponent", (exponent, exponent), ("", "bias_exp"), "use at most 7")
        mantissas = population.bias_mant.astype(np.int64)
        table = program.conditioning.tables.get(name)
        reached = mantissas if table is None else mantissas + table
        ends = (int(reached.min(initial=0)), int(reached.max(initial=0)))
        hint = "use a larger bias exponent or a larger LSB"
        yield from _within("bias_range", name, "bias mantissa", ends, ("bias_min", "bias_max"), hint)


def payload_bits(subject: Subject) -> Iterator[Violation]:
    """Graded messages have 24 bits with sign."""
    program = subject.program
    hint = "declare fewer bits, with a larger LSB"
    for node in program.nodes.values():
        if isinstance(node, Input | Relay):
            yield from _within(
                "payload_bits", node.name, "message bits", (node.bits, node.bits), ("", "payload_bits"), hint
            )
    for projection in program.projections:
        if projection.gains.size:
            bits = program.payload_bits(projection)
            yield from _within("payload_bits", projection.name, "payload bits", (0, bits), ("", "payload_bits"), hint)


def delay(subject: Subject) -> Iterator[Violation]:
    """Delays are at most 62 timesteps."""
    for projection in subject.program.projections:
        steps = projection.delay
        hint = "pass the messages on through a relay half-way, or shorten the network behind the skip connection"
        yield from _within("delay", projection.name, "delay", (steps, steps), ("", "delay"), hint)


def reset_period(subject: Subject) -> Iterator[Violation]:
    """Neurons reset every T timesteps, which must be a power of two (reset_interval of LIFReset on the chip)."""
    steps = subject.program.timesteps
    if steps & (steps - 1):
        below = 1 << (steps.bit_length() - 1)
        hint = f"train and export with T = {below} or T = {2 * below}"
        yield Violation("reset_period", "", "timesteps, a power of two", steps, below, hint)


def constant_gains(subject: Subject) -> Iterator[Violation]:
    """Gains that depend on the timestep have no stock process on the chip."""
    for projection in subject.program.projections:
        found = len(np.unique(projection.gains))
        if found > 1:
            hint = "train without temporal gains (SDDPM in place of SDM's TSM), or use neurons of your own microcode"
            yield Violation("constant_gains", projection.name, "gains over the timesteps", found, 1, hint)


def axonal_delays(subject: Subject) -> Iterator[Violation]:
    """Axonal delays have no stock process on the chip that forgets late spikes at the end of an image."""
    for node in subject.program.populations:
        longest = int(node.delays.max(initial=0)) if isinstance(node, Lif) else 0
        if longest:
            hint = (
                "train without axonal delays (delay=False in SLAYER's blocks), or with one for all neurons of a block"
            )
            yield Violation("axonal_delays", node.name, "axonal delay", longest, 0, hint)


def conv_input(subject: Subject) -> Iterator[Violation]:
    """Convolutions of more than 57 pixels a side have hung on the chip (lava issue 826)."""
    program = subject.program
    for projection in program.projections:
        if isinstance(projection, Conv):
            side = max(program.nodes[projection.source].shape[1:])
            hint = "use smaller images, or make sure on the chip that this size runs: CPU runs do not show it"
            yield from _within(
                "conv_input", projection.name, "pixels of a side", (side, side), ("", "conv_input"), hint
            )


def host_io(subject: Subject) -> Iterator[Violation]:
    """No more values per timestep from and to the host than have been shown to run."""
    program = subject.program
    hint = "it may run, but nothing of this size is known to have: use smaller images"
    given = neurons(program.input)
    yield from _within("host_io", program.input.name, "values in per timestep", (given, given), ("", "inputs"), hint)
    taken = {readout.name: neurons(readout) for readout in program.readouts()}
    total = sum(taken.values())
    largest = max(taken, key=lambda name: taken[name], default="")
    hint = "read fewer channels: keep the last layers (a tail) on the chip, or send sums over time"
    yield from _within("host_io", largest, "values out per timestep", (total, total), ("", "outputs"), hint)


def fan_in(subject: Subject) -> Iterator[Violation]:
    """A core must hold all synapses of at least one channel."""
    layout = subject.layout
    for layer in layout.oversized:
        words = smallest_words(layout.original, layer)
        hint = (
            f"sum the {len(layout.original.into(layer.name))} projections in parts: export with relays in place of "
            "composed kernels, or a narrower network"
        )
        if words > layout.budget.synapse_words:
            resource = "64-bit synapse words of one channel"
            yield Violation("fan_in", layer.name, resource, words, layout.budget.synapse_words, hint)
            continue
        axons = sum(link.inputs for link in layout.original.into(layer.name) if link.form is Form.DENSE)
        yield Violation("fan_in", layer.name, "input axons", axons, layout.budget.axon_in, hint)


def core_resources(subject: Subject) -> Iterator[Violation]:
    """Every core keeps its limits."""
    for placement in subject.layout.placements:
        if not placement.fits:
            name = placement.bottleneck
            used = placement.used.get(name, round(100 * placement.shares[name]))
            limit = getattr(subject.layout.budget, name)
            hint = "it sends to too many cores: fewer readers, or fewer channels in them"
            yield Violation("core_resources", placement.layer.name, name, used, limit, hint)


def board_cores(subject: Subject) -> Iterator[Violation]:
    """The board has enough cores, and so enough chips."""
    layout, board = subject.layout, subject.board
    available = board.chips * layout.budget.cores_per_chip
    if layout.cores <= available:
        return
    enough = smallest_board(layout.chips)
    cure = f"{enough.title} ({enough.chips} chips) has enough" if enough else "no board has so many"
    worst = sorted(layout.cores_by_population().items(), key=lambda item: -item[1])[:WORST]
    named = "; ".join(f"{name} {cores} ({_bottlenecks(layout, name)})" for name, cores in worst)
    hint = f"{layout.chips} chips of {layout.budget.cores_per_chip} cores, {cure}. Most cores: {named}"
    yield Violation("board_cores", "", "cores", layout.cores, available, hint)


def _bottlenecks(layout: Layout, population: str) -> str:
    """What fills the cores of a population, in words."""
    found = [p for p in layout.placements if p.layer.population == population]
    parts = []
    for role in dict.fromkeys(p.layer.role for p in found):
        same = [p for p in found if p.layer.role is role]
        filled = max(same, key=lambda p: p.cores).bottleneck.replace("_", " ")
        parts.append(f"{role.value} {sum(p.cores for p in same)}, most used: {filled}")
    return ", ".join(parts)


def one_chip_ports(subject: Subject) -> Iterator[Violation]:
    """What goes to the host lies on one chip (lava-nc, magma/compiler/mapper.py: no port splitting)."""
    layout = subject.layout
    for placement in layout.placements:
        if placement.layer.readout and len(layout.chips_of(placement)) > 1:
            hint = "Lava's compiler does not split a port over chips: read fewer channels"
            yield Violation("one_chip_ports", placement.layer.name, "chips", len(layout.chips_of(placement)), 1, hint)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        rule.__name__: rule
        for rule in (
            weight_range,
            threshold_bits,
            decay_bits,
            bias_range,
            payload_bits,
            delay,
            reset_period,
            constant_gains,
            axonal_delays,
            conv_input,
            host_io,
            fan_in,
            core_resources,
            board_cores,
            one_chip_ports,
        )
    }
)
