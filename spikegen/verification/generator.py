"""The spike generator of a token decoder in both places: on the chip, and as a table of the host."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spikegen.errors import ConfigError
from spikegen.program import Pipeline, TokenDiffusion
from spikegen.runtime import lookup_decoder
from spikegen.simulator import Simulator
from spikegen.verification.compare import differences


def generator_differences(pipeline: Pipeline, tokens: npt.NDArray[np.int64]) -> tuple[int, int]:
    """Messages of all populations of the decoder, the generator included, that differ between the two places.

    Args:
        pipeline: a valid pipeline of tokens.
        tokens: int64 [N, h, w], 0 .. K - 1.

    Returns:
        messages compared, and how many differ.

    Raises:
        ConfigError: no pipeline of tokens, or its decoder has no generator that a table could replace.
    """
    if not isinstance(pipeline.host, TokenDiffusion):
        raise ConfigError(f"{pipeline.name} is {type(pipeline.host).__name__}: only a TokenDiffusion has a decoder")
    decoder, lookup = pipeline.network("decoder"), lookup_decoder(pipeline)
    codes = pipeline.host.codebook[tokens].transpose(0, 3, 1, 2)
    chip = Simulator(decoder).evaluate(decoder.input.quantize(codes), 0, record=True)
    table = Simulator(lookup.program).evaluate(lookup.frames(tokens), 0, record=True)
    found = differences(lookup.program, chip, table)
    return sum(row.messages for row in found), sum(row.differing for row in found)
