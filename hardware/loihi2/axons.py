"""Which cores a core sends to: overlaps of tiles, axon tables, messages between chips."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import numpy.typing as npt

from spikegen.hardware.loihi2.network import Form, Link
from spikegen.hardware.loihi2.placement import Placement

IntArray = npt.NDArray[np.int64]


def overlaps(link: Link, source: Placement, target: Placement) -> tuple[IntArray, IntArray, IntArray]:
    """Channels, rows and columns of each source tile that each target tile hears: int64 [target, source] each.

    The number of neurons of a source core that a target core hears is the product of the three.
    """
    channels = _overlap(0, source, target, partial(_channels, link, source))
    rows, columns = (_overlap(axis, source, target, partial(_pixels, link, source, axis)) for axis in (1, 2))
    return channels, rows, columns


def _overlap(
    axis: int, source: Placement, target: Placement, heard: Callable[[int, int], npt.NDArray[np.bool_]]
) -> IntArray:
    """Rows: target tiles; ``heard`` says which source positions the target positions begin..end hear."""
    starts = [begin for begin, _ in source.pieces(axis)]
    return np.array([np.add.reduceat(heard(begin, end).astype(np.int64), starts) for begin, end in target.pieces(axis)])


def _channels(link: Link, source: Placement, begin: int, end: int) -> npt.NDArray[np.bool_]:
    size = source.layer.shape[0]
    if link.form is Form.DENSE or link.groups == 1:
        return np.ones(size, dtype=np.bool_)
    inputs, outputs, pixels = size // link.groups, link.outputs, link.shuffle**2
    heard = np.zeros(size, dtype=np.bool_)
    heard[begin * pixels // outputs * inputs : ((end * pixels - 1) // outputs + 1) * inputs] = True
    return heard


def _pixels(link: Link, source: Placement, axis: int, begin: int, end: int) -> npt.NDArray[np.bool_]:
    size = source.layer.shape[axis]
    if link.form is Form.DENSE:
        return np.ones(size, dtype=np.bool_)
    at = axis - 1
    outputs = np.arange(begin // link.shuffle, (end - 1) // link.shuffle + 1)
    taps = np.arange(link.kernel[at]) * link.dilation[at] - link.padding[at]
    positions = np.add.outer(outputs * link.stride[at], taps)
    heard = np.zeros(size, dtype=np.bool_)
    heard[positions[(positions >= 0) & (positions < size)]] = True
    return heard


def axon_tables(source: Placement, links: Iterable[tuple[Link, Placement]]) -> dict[str, int]:
    """Entries in the tables of the fullest core of ``source`` for the messages it sends, an estimate.

    ``axon_map``: one entry per pixel and convolution, one per neuron and other link. ``axon_mem``: one entry per pixel
    and destination core of a convolution, if any pixel has several; a single destination needs none. A readout without
    links sends each neuron to the host. The logs agree on the first, on the second only in order of magnitude.
    """
    pixels = source.tile[1] * source.tile[2]
    neurons = pixels * source.tile[0]
    mapped, listed = 0, 0
    for link, target in links:
        if link.form is not Form.CONV:
            mapped += neurons
            continue
        mapped += pixels
        channels, rows, columns = overlaps(link, source, target)
        groups = int((channels > 0).sum(axis=0).max())
        destinations = groups * int(rows.sum(axis=0).max()) * int(columns.sum(axis=0).max())
        listed += destinations if destinations > pixels else 0
    return {"axon_map": mapped or (neurons if source.layer.readout else 0), "axon_mem": listed}


def core_messages(link: Link, source: Placement, target: Placement) -> IntArray:
    """Messages per timestep if every neuron sends: int64 [cores of the target, cores of the source].

    A neuron sends one message to every core that hears it. Cores are in the order of their tiles.
    """
    channels, rows, columns = overlaps(link, source, target)
    messages: IntArray = np.kron(np.kron(channels, rows), columns)
    return messages


def chip_traffic(link: Link, source: Placement, target: Placement, cores_per_chip: int) -> dict[tuple[int, int], int]:
    """(chip of the source, chip of the target) -> messages per timestep if every neuron sends; each core hears its own.

    Pairs within one chip are left out.
    """
    parts = [
        np.arange(placement.first, placement.first + placement.cores) // cores_per_chip
        for placement in (target, source)
    ]
    (at, to), (begin, sent) = (np.unique(part, return_inverse=True) for part in parts)
    if len(at) == len(begin) == 1 and at[0] == begin[0]:
        return {}
    messages = core_messages(link, source, target)
    by_target = np.zeros((len(at), messages.shape[1]), dtype=np.int64)
    np.add.at(by_target, to, messages)
    totals = np.zeros((len(at), len(begin)), dtype=np.int64)
    np.add.at(totals.T, sent, by_target.T)
    return {
        (int(begin[s]), int(at[t])): int(totals[t, s])
        for t in range(len(at))
        for s in range(len(begin))
        if at[t] != begin[s] and totals[t, s]
    }
