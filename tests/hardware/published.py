"""Layer tables that Intel's compiler printed in lava-dl's notebooks (commit d825ac5, tutorials/lava/lib/dl/netx).

Weight bits are those that lava-nc's ``optimize_weight_bits`` finds in the network files beside the notebooks. For
YOLO-KP, whose file is not there, they are the ones that explain the column of synapse words; its cores are not used.
"""

from __future__ import annotations

from dataclasses import dataclass

from spikegen.hardware.loihi2.limits import Budget
from spikegen.hardware.loihi2.network import Form, Layer, Link, Network, Role

OLD = Budget(synapse_words=12000)  # compilers of 2022 and early 2023: the log says registers=12000
NEW = Budget()


@dataclass(frozen=True)
class Row:
    """A layer, and what the table says of it; ``words`` is that of a core, the mean of all cores if these differ."""

    link: Link
    shape: tuple[int, int, int]
    cores: int
    words: float | None = None
    tile: tuple[int, int, int] | None = None
    neurons: int | None = None


@dataclass(frozen=True)
class Table:
    """A network. ``cores`` is the total that the notebook prints."""

    name: str
    budget: Budget
    port: tuple[int, int, int]
    rows: tuple[Row, ...]
    cores: int


def network(table: Table) -> Network:
    """The chain of layers."""
    port = Layer("input", table.port, Role.POPULATION, "input")
    last = table.rows[-1].link.target  # sends to the host
    layers = tuple(
        Layer(row.link.target, row.shape, Role.POPULATION, row.link.target, row.link.target == last)
        for row in table.rows
    )
    return Network(port, layers, tuple(row.link for row in table.rows))


def conv(
    source: str,
    name: str,
    inputs: int,
    outputs: int,
    bits: int,
    stride: tuple[int, int] = (2, 2),
    padding: tuple[int, int] = (0, 0),
    kernel: int = 3,
) -> Link:
    return Link(source, name, Form.CONV, bits, inputs, outputs, (kernel, kernel), stride, padding)


def dense(source: str, name: str, inputs: int, outputs: int, bits: int) -> Link:
    return Link(source, name, Form.DENSE, bits, inputs, outputs)


def pilotnet(
    name: str, conv_bits: tuple[int, ...], dense_bits: tuple[int, ...], words: tuple[int, ...], total: int
) -> Table:
    # Heights and widths are exchanged: Lava's first axis, 200 pixels wide, is the one that is cut into powers of two.
    a, b, c, d, e = conv_bits
    rows = (
        Row(conv("input", "c1", 3, 24, a), (24, 32, 99), 25, words[0], (24, 32, 4), 3072),
        Row(conv("c1", "c2", 24, 36, b), (36, 15, 49), 13, words[1], (36, 15, 4), 2160),
        Row(conv("c2", "c3", 36, 48, c), (48, 7, 24), 3, words[2], (48, 7, 8), 2688),
        Row(conv("c3", "c4", 48, 64, d, (2, 1), (1, 0)), (64, 4, 22), 3, words[3], (64, 4, 8), 2048),
        Row(conv("c4", "c5", 64, 64, e, (1, 1)), (64, 2, 20), 2, words[4], (64, 2, 16), 2048),
        Row(dense("c5", "d1", 2560, 100, dense_bits[0]), (100, 1, 1), 12, words[5]),
        Row(dense("d1", "d2", 100, 50, dense_bits[1]), (50, 1, 1), 1, words[6]),
        Row(dense("d2", "d3", 50, 10, dense_bits[2]), (10, 1, 1), 1, words[7]),
        Row(dense("d3", "d4", 10, 1, dense_bits[3]), (1, 1, 1), 1, words[8]),
    )
    return Table(name, OLD, (3, 66, 200), rows, total)


PILOTNET_SDNN = pilotnet(
    "PilotNet SDNN", (6, 5, 4, 5, 4), (4, 6, 5, 4), (81, 864, 1620, 2592, 2880, 7253, 1500, 150, 10), 61
)
# The notebook has 13 more: neurons of its own for the input, 200x66x3, which a Program gets from the host.
PILOTNET_LIF = pilotnet(
    "PilotNet LIF", (5, 4, 4, 4, 4), (3, 4, 5, 6), (81, 864, 1620, 2160, 2880, 7253, 1300, 150, 10), 74 - 13
)
MNIST = Table(
    "MNIST",
    NEW,
    (784, 1, 1),
    (
        Row(dense("input", "d1", 784, 128, 8), (128, 1, 1), 3, 12544),
        Row(dense("d1", "d2", 128, 64, 8), (64, 1, 1), 1, 2688),
        Row(dense("d2", "d3", 64, 10, 8), (10, 1, 1), 1, 256),
    ),
    5,
)
OXFORD = Table(
    "Oxford",
    OLD,
    (200, 1, 1),
    (
        Row(dense("input", "d1", 200, 256, 8), (256, 1, 1), 3, 5400),
        Row(dense("d1", "d2", 256, 200, 8), (200, 1, 1), 2, 8064),
    ),
    5,
)


def _yolo(source: str, name: str, channels: tuple[int, int], bits: int, size: int, kernel: int, stride: int) -> Link:
    pad = kernel // 2
    return conv(source, name, *channels, bits, (stride, stride), (pad, pad), kernel)


YOLO_KP = Table(
    "YOLO-KP",
    NEW,
    (3, 448, 448),
    tuple(
        Row(_yolo(source, name, channels, bits, size, kernel, stride), (channels[1], size, size), cores, words, tile)
        for source, name, channels, bits, size, kernel, stride, cores, words, tile in (
            ("input", "c1", (3, 16), 6, 224, 3, 2, 224, 54, (16, 28, 8)),
            ("c1", "c2", (16, 32), 6, 112, 3, 2, 112, 576, (32, 14, 8)),
            ("c2", "c3", (32, 64), 5, 56, 3, 2, 56, 1728, (64, 14, 4)),
            ("c3", "c4", (64, 128), 5, 28, 3, 2, 28, 6336, (128, 7, 4)),
            ("c4", "c5", (128, 256), 5, 28, 3, 1, 56, 12672, (128, 7, 4)),
            ("c5", "c6", (256, 256), 4, 14, 3, 2, 16, 11520, (64, 7, 8)),
            ("c6", "c7", (256, 512), 5, 14, 3, 1, 32, 13824, (64, 7, 8)),
            ("c7", "c8", (512, 256), 5, 14, 1, 1, 14, 10752, (256, 7, 2)),
            ("c8", "c9", (256, 512), 5, 14, 3, 1, 32, 13824, (64, 7, 8)),
            ("c9", "c10", (512, 48), 6, 14, 1, 1, 4, 3072, (48, 14, 4)),
        )
    ),
    574,
)

TABLES = (PILOTNET_SDNN, PILOTNET_LIF, MNIST, OXFORD, YOLO_KP)
