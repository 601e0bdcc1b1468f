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
        source: of the name and of the board behind it.
    """

    name: str
    board: str
    source: str


_LAVA = "lava-nc 0.10.0, README: PARTITION=oheogulch"
_USED = "users' public scripts, which set PARTITION to it; the board by its name"
_EIGHT = "power scripts of users, which subtract the idle power of 8 chips for kp, kp_stack and kp_build"

PARTITIONS: Mapping[str, Partition] = MappingProxyType(
    {
        partition.name: partition
        for partition in (
            Partition("oheogulch", "oheogulch", _LAVA),
            Partition("oheogulch_20m", "oheogulch", _USED),
            Partition("oheogulch_2h", "oheogulch", _USED),
            Partition("kp", "kapohopoint", f"lava-dnf, demos/motion_tracking: LOIHI_GEN=N3C1 PARTITION=kp; {_EIGHT}"),
            Partition("kp_stack", "kapohopoint", _EIGHT),
            Partition("kp_build", "kapohopoint", _EIGHT),
        )
    }
)
# Beginning of the names of nodes -> board; users' public command lines name ncl-ext-og-01 to -06 and ncl-og-01.
NODES: Mapping[str, str] = MappingProxyType({"ncl-ext-og-": "oheogulch", "ncl-og-": "oheogulch"})
# Partitions of the INRC with Loihi 1, for which there is no check and no backend here.
LOIHI_1 = ("loihi", "loihi_2h", "nahuku08", "nahuku32", "nahuku32_2h")


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
