"""Slurm partitions and boards of the INRC as data, with the public sources that name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from spikegen.errors import ConfigError

# lava-nc 0.10.0, lava/utils/loihi.py: ChipGeneration; "Most Loihi 2 systems available to the INRC are N3B3"
GENERATIONS = ("N2A2", "N3B2", "N3B3", "N3C1", "N3D1")
GENERATION = "N3B3"
# lava-nc 0.10.0, lava/utils/loihi.py: use_ethernet_host
HOST_BINARY = "nxcore/bin/nx_driver_server"


@dataclass(frozen=True)
class Partition:
    """A Slurm partition whose nodes are hosts of Loihi 2 boards.

    Attributes:
        name: of the partition.
        board: key of :data:`spikegen.hardware.loihi2.BOARDS`.
        generation: the stepping (LOIHI_GEN) that public command lines name with it.
        source: of the name, the board behind it and the stepping.
    """

    name: str
    board: str
    generation: str
    source: str


_OG = "lava-dnf, demos: SLURM=1 LOIHI_GEN=N3B3 PARTITION=oheogulch; the board by its name"
_20M = "users' public scripts: PARTITION=oheogulch_20m BOARD=ncl-ext-og-05 LOIHI_GEN=N3B3; the board by its name"
_2H = "users' public scripts: SLURM=1 LOIHI_GEN=N3B3 PARTITION=oheogulch_2h; the board by its name"
_KP = "lava-dnf, demos/motion_tracking: SLURM=1 LOIHI_GEN=N3C1 PARTITION=kp; the board by its name"
_STACK = (
    "a public script for power, which subtracts 8 idle chips in kp, kp_stack and kp_build; the stepping is that of kp"
)

PARTITIONS: Mapping[str, Partition] = MappingProxyType(
    {
        partition.name: partition
        for partition in (
            Partition("oheogulch", "oheogulch", GENERATION, _OG),
            Partition("oheogulch_20m", "oheogulch", GENERATION, _20M),
            Partition("oheogulch_2h", "oheogulch", GENERATION, _2H),
            Partition("kp", "kapohopoint", "N3C1", _KP),
            Partition("kp_stack", "kapohopoint", "N3C1", _STACK),
            Partition("kp_build", "kapohopoint", "N3C1", _STACK),
        )
    }
)
# Beginning of the names of nodes -> board; users' public command lines name ncl-ext-og-01 to -06 and ncl-og-01.
NODES: Mapping[str, str] = MappingProxyType({"ncl-ext-og-": "oheogulch", "ncl-og-": "oheogulch"})
# Partitions of the INRC with Loihi 1, for which there is no check and no backend here.
LOIHI_1 = ("loihi", "loihi_2h", "nahuku08", "nahuku32", "nahuku32_2h")


def find_generation(partition: str | None) -> str:
    """The stepping that belongs to a partition, or Lava's default."""
    known = None if partition is None else PARTITIONS.get(partition)
    return GENERATION if known is None else known.generation


def find_limits(partition: str | None, node: str | None) -> str:
    """The board (key of :data:`spikegen.hardware.loihi2.BOARDS`) behind a partition or a node of it.

    Args:
        partition: Slurm partition, None if only the node is chosen.
        node: Slurm node, which Lava calls board, None if any.

    Raises:
        ConfigError: it is not known what is behind them, it is Loihi 1, or they do not belong together.
    """
    if partition in LOIHI_1:
        raise ConfigError(f"the partition {partition} has Loihi 1; the partitions with Loihi 2 are {_known()}")
    known = None if partition is None else PARTITIONS.get(partition)
    of_partition = None if known is None else known.board
    of_node = next((board for start, board in NODES.items() if node is not None and node.startswith(start)), None)
    if of_partition is not None and of_node is not None and of_partition != of_node:
        raise ConfigError(
            f"the board {node} is {of_node}, the partition {partition} has {of_partition}: name one of them only"
        )
    found = of_partition or of_node
    if found is None:
        what = f"the partition {partition}" if partition is not None else f"the board {node}" if node else "the host"
        raise ConfigError(
            f"it is not known which board {what} has; partitions that are known: {_known()}; "
            "for another one name its limits, such as --limits oheogulch"
        )
    return found


def _known() -> str:
    return ", ".join(PARTITIONS)
