"""Channel blocks: sums of kernels applied to populations, and what linear operations make of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np

from spikegen.lowering import kernels
from spikegen.lowering.graph import ConvOp, FloatArray, Shape
from spikegen.lowering.kernels import Kernel

Terms: TypeAlias = tuple[tuple[str, Kernel], ...]


@dataclass(frozen=True, eq=False)
class Block:
    """Channels of a value: ``sum_k kernel_k(source_k) + bias (+ table[k])``.

    ``bias`` is float64 [C], or [T, C] where gains make it change over SNN time.
    ``direct`` is the same sum with every relay replaced by what the relay itself receives.
    """

    shape: Shape
    terms: Terms
    direct: Terms
    bias: FloatArray
    table: FloatArray | None = None

    @property
    def is_messages(self) -> bool:
        """Nothing but the messages of one node."""
        if len(self.terms) != 1 or self.bias.any() or self.table is not None:
            return False
        kernel = self.terms[0][1]
        return kernel.weight is None and kernel.upsample == 1


# Kernels by what they were made of. Networks that differ in one relay share most of them.
Made: TypeAlias = dict[tuple[object, ...], Kernel | None]
IDENTITY = Kernel()


class Algebra:
    """Operations on blocks.

    Args:
        made: the kernels made so far; those made here are added.
    """

    def __init__(self, made: Made) -> None:
        self.made = made

    def convolved(self, terms: Terms, conv: ConvOp, weight: FloatArray, groups: int, start: int) -> Terms | None:
        """``conv`` (its input channels from ``start`` on) applied to every term, or None if that is not exact."""
        result = []
        for source, kernel in terms:
            apply = kernels.after_identity if kernel.weight is None else kernels.after_conv
            composed = self._once((conv.name, start, kernel), partial(apply, kernel, conv, weight, groups))
            if composed is None:
                return None
            result.append((source, composed))
        return tuple(result)

    def upsampled(self, terms: Terms, factor: int) -> Terms | None:
        """Every term followed by nearest upsampling by ``factor``, or None if that is not exact."""
        result = []
        for source, kernel in terms:
            enlarged = self._once((factor, kernel), partial(kernels.then_upsample, kernel, factor))
            if enlarged is None:
                return None
            result.append((source, enlarged))
        return tuple(result)

    def sum(self, a: Block, b: Block) -> Block:
        """Sum of two blocks."""
        tables = [block.table for block in (a, b) if block.table is not None]
        table = np.sum(tables, axis=0) if tables else None
        return Block(a.shape, self._merged(a.terms, b.terms), self._merged(a.direct, b.direct), a.bias + b.bias, table)

    def _merged(self, a: Terms, b: Terms) -> Terms:
        """Both lists of terms; kernels from one source become one where their geometry allows it."""
        terms = list(a)
        for source, kernel in b:
            for index, (other, known) in enumerate(terms):
                if other != source:
                    continue
                merged = self._once((known, kernel), partial(kernels.add_kernels, known, kernel))
                if merged is not None:
                    terms[index] = (source, merged)
                    break
            else:
                terms.append((source, kernel))
        return tuple(terms)

    def _once(self, key: tuple[object, ...], make: Callable[[], Kernel | None]) -> Kernel | None:
        """What ``make`` gives; the same object for an equal key (a Kernel is equal to itself only)."""
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]


def materialised(kernel: Kernel, channels: int) -> Kernel:
    """The identity written as a 1x1 convolution with one channel per group."""
    if kernel.weight is not None:
        return kernel
    weight = np.repeat(kernels.identity_weight(channels), kernel.upsample**2, axis=0)
    return Kernel(weight, groups=channels, shuffle=kernel.upsample, gains=kernel.gains)


def resplit(blocks: list[Block], other: list[Block]) -> list[Block]:
    """``blocks`` cut so that its channel boundaries include those of ``other``."""
    cuts = sorted({*_boundaries(blocks), *_boundaries(other)})
    result, start = [], 0
    for block in blocks:
        stop = start + block.shape[0]
        inside = [cut for cut in cuts if start < cut < stop]
        edges = [start, *inside, stop]
        for low, high in itertools.pairwise(edges):
            result.append(block if not inside else _channels(block, low - start, high - start))
        start = stop
    return result


def _boundaries(blocks: list[Block]) -> list[int]:
    return [int(edge) for edge in np.cumsum([block.shape[0] for block in blocks])]


def _channels(block: Block, low: int, high: int) -> Block:
    """Channels low..high of a block."""

    def cut(terms: Terms) -> Terms:
        result = []
        for source, kernel in terms:
            plain = materialised(kernel, block.shape[0])
            pixels = plain.shuffle**2
            weight = kernels.dense_weight(plain.weight, plain.groups)[low * pixels : high * pixels]
            result.append((source, replace(plain, weight=weight, groups=1)))
        return tuple(result)

    table = None if block.table is None else block.table[:, low:high]
    shape = (high - low, *block.shape[1:])
    return Block(shape, cut(block.terms), cut(block.direct), block.bias[..., low:high], table)
