"""The mapping of a network: which cores and chips hold what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from spikegen.hardware.loihi2.axons import axon_tables, chip_traffic
from spikegen.hardware.loihi2.limits import Budget
from spikegen.hardware.loihi2.network import Layer, Network, Role, network_of, with_delays
from spikegen.hardware.loihi2.partial import oversized, with_partial_sums
from spikegen.hardware.loihi2.placement import Placement, cut, needs
from spikegen.program import Program
from spikegen.program.ir import Shape

TIGHTENINGS = 12  # how often a tile is halved because its axon tables overflow


@dataclass(frozen=True)
class Layout:
    """A network on cores. Cores are numbered through; a chip takes ``budget.cores_per_chip`` of them in this order.

    Attributes:
        original: the network before.
        network: what is placed, with partial sums and delays.
        placements: one per layer, in topological order.
        budget: what a core and a chip hold.
        oversized: layers that fit no core and were broken into partial sums.
    """

    original: Network
    network: Network
    placements: tuple[Placement, ...]
    budget: Budget
    oversized: tuple[Layer, ...]

    @property
    def cores(self) -> int:
        """Number of cores."""
        return sum(placement.cores for placement in self.placements)

    @property
    def chips(self) -> int:
        """Number of chips."""
        return -(-self.cores // self.budget.cores_per_chip)

    def cores_by_role(self) -> dict[Role, int]:
        """Cores of populations, of delays and of partial sums."""
        found = dict.fromkeys(Role, 0)
        for placement in self.placements:
            found[placement.layer.role] += placement.cores
        return found

    def cores_by_population(self) -> dict[str, int]:
        """Cores of each population (or input) with its delays and partial sums."""
        found: Counter[str] = Counter()
        for placement in self.placements:
            found[placement.layer.population] += placement.cores
        return dict(found)

    def chips_of(self, placement: Placement) -> range:
        """The chips on which a layer is."""
        per_chip = self.budget.cores_per_chip
        return range(placement.first // per_chip, (placement.first + placement.cores - 1) // per_chip + 1)

    @cached_property
    def by_name(self) -> Mapping[str, Placement]:
        """Layer -> its placement."""
        return {placement.layer.name: placement for placement in self.placements}

    def traffic(self) -> dict[tuple[int, int], int]:
        """(chip, other chip) -> messages per timestep if every neuron sends one, an upper estimate.

        A message counts once for every core on another chip that hears it. Real traffic is this times the firing rate.
        """
        found: Counter[tuple[int, int]] = Counter()
        for link in self.network.links:
            if link.source in self.by_name:
                ends = self.by_name[link.source], self.by_name[link.target]
                found.update(chip_traffic(link, *ends, self.budget.cores_per_chip))
        return dict(sorted(found.items()))


def place(program: Program, budget: Budget | None = None) -> Layout:
    """The cores of a valid ``program``, delays included.

    Raises:
        ProgramError: a population or projection of a type that has no place on the chip.
    """
    return place_network(network_of(program), budget)


def place_network(network: Network, budget: Budget | None = None) -> Layout:
    """The cores of ``network``; layers that fit no core are broken into partial sums first, then delays are laid."""
    budget = budget or Budget()
    original, large = network, oversized(network, budget)
    if large:
        network = with_partial_sums(network, budget)
    network = with_delays(network)
    cuts = {layer.name: cut(network, layer, budget) for layer in network.layers}
    for _ in range(TIGHTENINGS):
        placements = _placements(network, cuts, budget)
        tight = [p for p in placements if not p.fits and p.tile[1] * p.tile[2] > 1]
        if not tight:
            break
        for placement in tight:  # fewer pixels in a core have fewer entries in its axon tables
            pixels = placement.tile[1] * placement.tile[2] // 2
            layer = network.by_name[placement.layer.name]
            cuts[layer.name] = cut(network, layer, budget, pixels)
    return Layout(original, network, _placements(network, cuts, budget), budget, large)


def _placements(network: Network, cuts: Mapping[str, tuple[Layer, Shape]], budget: Budget) -> tuple[Placement, ...]:
    first = 0
    placements: dict[str, Placement] = {}
    for name, (layer, tile) in cuts.items():
        grid = tuple(-(-size // step) for size, step in zip(layer.shape, tile, strict=True))
        placements[name] = Placement(layer, tile, (grid[0], grid[1], grid[2]), first, {}, {})
        first += placements[name].cores
    found = []
    for name, placement in placements.items():
        channels, height, width = placement.tile
        used = needs(network, name)(channels, channels * height * width)
        targets = [(link, placements[link.target]) for link in network.out_of(name)]
        used.update(axon_tables(placement, targets))
        found.append(replace(placement, used=used, shares=budget.shares(used)))
    return tuple(found)
