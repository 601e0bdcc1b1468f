"""Cutting layers into cores, by the rules that the published compiler logs show.

* A core holds one piece of one layer. All links into the layer are stored in each of its cores, restricted to the
  output channels (or neurons) of the piece.
* A layer that a convolution or a delay leads into or out of is cut into tiles: horizontally into powers of two,
  vertically and by channels by halving. The compiler reserves the neurons of a whole power of two in a row even at the
  border, so that a tile of 32x32 pixels and 4 channels, 4096 neurons, is one too many. Channels are split only as far
  as synapse memory needs it, and then the tile with the fewest cores is taken. This reproduces all cores of the
  convolutions of PilotNet and of YOLO-KP; the tiles are sometimes others with the same number of cores.
* Any other layer is cut into equal parts: ``ceil(words / limit)`` of them, and that again while a part is too large.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from spikegen.hardware.loihi2.limits import Budget
from spikegen.hardware.loihi2.memory import conv_words, dense_words
from spikegen.hardware.loihi2.network import Form, Layer, Link, Network
from spikegen.program.ir import Shape


@dataclass(frozen=True)
class Placement:
    """The cores of one layer.

    Attributes:
        layer: what is placed; one that is not tiled has the shape (neurons, 1, 1) here.
        tile: (channels, height, width) of a full core.
        grid: number of tiles along each axis of the layer.
        first: index of its first core.
        used: resource -> amount in the fullest core.
        shares: resource, ``memory`` among them -> used fraction of its limit in the fullest core.
    """

    layer: Layer
    tile: Shape
    grid: Shape
    first: int
    used: Mapping[str, int]
    shares: Mapping[str, float]

    @property
    def cores(self) -> int:
        """Number of cores."""
        return math.prod(self.grid)

    @property
    def bottleneck(self) -> str:
        """The resource of the fullest core with the highest used share."""
        return max(self.shares, key=lambda name: self.shares[name])

    @property
    def fits(self) -> bool:
        """Whether the fullest core keeps every limit."""
        return max(self.shares.values()) <= 1

    def pieces(self, axis: int) -> list[tuple[int, int]]:
        """Begin and end of each tile along ``axis`` (0: channels, 1: vertical, 2: horizontal)."""
        size, step = self.layer.shape[axis], self.tile[axis]
        return [(begin, min(begin + step, size)) for begin in range(0, size, step)]


def link_words(link: Link, channels: int, neurons: int) -> int:
    """Words of ``link`` in a core with ``neurons`` neurons of ``channels`` channels."""
    if link.form is Form.LINE:
        return neurons * dense_words(1, link.bits, delayed=True)
    if link.form is Form.DENSE:
        return link.inputs * dense_words(neurons, link.bits, delayed=link.delay > 0)
    outputs = channels * link.shuffle**2
    groups = min(link.groups, math.ceil(outputs / link.outputs))
    taps = math.prod(link.kernel) * link.inputs * groups
    return taps * conv_words(min(outputs, link.outputs), link.bits)


def link_axons(link: Link, neurons: int) -> int:
    """Entries of ``link`` in the AxonIn table of a core: one per source neuron, two for a whole convolution."""
    if link.form is Form.CONV:
        return 2  # 1 or 2 in the logs
    return neurons if link.form is Form.LINE else link.inputs


def smallest_words(network: Network, layer: Layer) -> int:
    """Words that a core needs for one channel of ``layer`` (one neuron, if only dense links lead into it)."""
    return sum(link_words(link, 1, 1) for link in network.into(layer.name))


def tiled(network: Network, name: str) -> bool:
    """Whether the layer has a link that is not dense."""
    return any(link.form is not Form.DENSE for link in (*network.into(name), *network.out_of(name)))


def needs(network: Network, name: str) -> Callable[[int, int], dict[str, int]]:
    """What a core of layer ``name`` uses, as a function of its channels and neurons; axons that leave it apart."""
    links = network.into(name)

    def used(channels: int, neurons: int) -> dict[str, int]:
        return {
            "neurons": neurons,
            "synapse_words": sum(link_words(link, channels, neurons) for link in links),
            "axon_in": sum(link_axons(link, neurons) for link in links),
        }

    return used


def cut(network: Network, layer: Layer, budget: Budget, pixels: int | None = None) -> tuple[Layer, Shape]:
    """The layer as it is placed, and the tile of a full core.

    Args:
        network: where it is.
        layer: one of its layers.
        budget: what a core holds.
        pixels: most pixels in a tile, None for no limit.
    """
    if not tiled(network, layer.name):
        flat = Layer(layer.name, (layer.neurons, 1, 1), layer.role, layer.population, layer.readout)
        return flat, (_part(needs(network, layer.name), layer.neurons, budget), 1, 1)
    return layer, _tile(needs(network, layer.name), layer.shape, budget, pixels)


def _part(used: Callable[[int, int], dict[str, int]], neurons: int, budget: Budget) -> int:
    parts = 1
    while True:
        size = math.ceil(neurons / parts)
        over = max(budget.shares(used(size, size)).values())
        if over <= 1 or size == 1:
            return size
        parts = min(neurons, parts * math.ceil(over))


def _tile(used: Callable[[int, int], dict[str, int]], shape: Shape, budget: Budget, pixels: int | None = None) -> Shape:
    """The most channels that fit at all; then the fewest cores; then the tile that is most nearly a square."""
    channels, height, width = shape
    widths = [1 << bit for bit in range((width - 1).bit_length() + 1)]
    for c in _halves(channels):
        best: tuple[tuple[int, float], Shape] | None = None
        for y in _halves(height):
            for x in widths:
                area = y * min(x, width)
                if pixels is not None and area > max(1, pixels):
                    continue
                # what is reserved (a power of two) counts for the limit of neurons
                if c * y * x > budget.neurons or max(budget.shares(used(c, c * area)).values()) > 1:
                    continue
                rank = (math.ceil(height / y) * math.ceil(width / x), max(x / y, y / x))
                if best is None or rank < best[0]:
                    best = rank, (c, y, min(x, width))
        if best is not None:
            return best[1]
    return (1, 1, 1)


def _halves(size: int) -> Iterator[int]:
    """``size``, ``ceil(size / 2)``, ``ceil(size / 4)``, ... 1."""
    yield size
    part = 2
    while size > 1 and math.ceil(size / (part // 2)) > 1:
        yield math.ceil(size / part)
        part *= 2
