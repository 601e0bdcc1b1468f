"""Tokens to images on a backend, with the spike generator in either place."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from spikegen.program import Pipeline, Program, Target
    from spikegen.runtime import DecodeResult
    from spikegen.runtime.counts import StepCounts


@dataclass(frozen=True)
class Place:
    """Where the networks of a run are built.

    Attributes:
        backend: key of :data:`spikegen.runtime.BACKENDS`.
        synapses: how the backend holds the synapses, None for its default and for backends with one way only.
        batch: images per evaluation.
        device: where the simulator computes, None for its default and for the other backends.
    """

    backend: str
    synapses: str | None
    batch: int
    device: str | None = None

    def open(self, program: Program) -> Target:
        """``program`` built at this place; the caller closes it."""
        from spikegen.runtime import open_target

        return open_target(self.backend, program, images=self.batch, synapses=self.synapses, device=self.device)


def choose_place(backend: str, synapses: str | None, device: str | None, batch: int | None, images: int) -> Place:
    """The place for a run of ``images`` images, with the defaults of the backend."""
    from spikegen.runtime.backends import default_batch

    size = default_batch(backend, images) if batch is None else min(batch, images)
    return Place(backend, synapses, size, device)


def check_generator(pipeline: Pipeline, generator: str | None) -> str:
    """Where the generator runs, "chip" or "lookup"; ConfigError if the decoder has none that a table could replace."""
    from spikegen.runtime import lookup_decoder

    if generator == "lookup":
        lookup_decoder(pipeline)
    return generator or "chip"


def decode(pipeline: Pipeline, tokens: npt.NDArray[np.int64], place: Place, generator: str) -> DecodeResult:
    """The images of ``tokens``; ``generator`` is "chip" or "lookup"."""
    from spikegen.runtime import decode_tokens, lookup_decoder

    lookup = lookup_decoder(pipeline) if generator == "lookup" else None
    program = pipeline.network("decoder") if lookup is None else lookup.program
    with contextlib.closing(place.open(program)) as target:
        return decode_tokens(pipeline, target, tokens, place.batch, lookup)


def decoder_counts(decoded: DecodeResult) -> tuple[StepCounts, ...]:
    """The counts of a decode as those of one step."""
    return ((0, decoded.counts),)
