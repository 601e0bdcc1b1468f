"""The spike generator of a token decoder as a table: the decoder without it, and the spikes that the host injects.

The decoder's input is a code vector per site, the same at every timestep. A population that sees nothing but its own
site of that input fires one of K patterns, so the host can send the pattern instead of the vector. Spiking-Diffusion
(arXiv 2308.10187) calls this population the adaptive spike generator.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from spikegen.errors import ConfigError
from spikegen.program import Conditioning, Conv, Input, Lif, Pipeline, Program, TokenDiffusion
from spikegen.program.numerics import CURRENT_LIMIT, lif_step
from spikegen.simulator.currents import projection_currents, with_gains


@dataclass(frozen=True, eq=False)
class Lookup:
    """A decoder whose generator is a table.

    Attributes:
        program: the decoder without its generator; its input is binary, streamed, and has the generator's name, so all
            behind it is unchanged.
        patterns: uint8 [K, T, C], the spikes of the generator for each code vector.
    """

    program: Program
    patterns: npt.NDArray[np.uint8]

    def frames(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """What the port takes for ``tokens`` int64 [N, h, w], 0 .. K - 1: int32 [N, T, C, h, w], 0 and 1."""
        return np.ascontiguousarray(self.patterns[tokens].transpose(0, 3, 4, 1, 2), dtype=np.int32)


def lookup_decoder(pipeline: Pipeline) -> Lookup:
    """The decoder of ``pipeline`` with its generator as a table; every spike behind it stays what it was.

    Raises:
        ConfigError: the pipeline has no decoder, or the decoder does not begin with such a generator.
    """
    if not isinstance(pipeline.host, TokenDiffusion):
        raise ConfigError(f"{pipeline.name} is {type(pipeline.host).__name__}: only a TokenDiffusion has a decoder")
    decoder = pipeline.network("decoder")
    projection, generator = _generator(decoder)
    port = Input(generator.name, generator.shape, 0, 1.0, streamed=True)
    conditioning = decoder.conditioning
    tables = {name: table for name, table in conditioning.tables.items() if name != generator.name}
    macs = projection.weight.size * generator.shape[1] * generator.shape[2]
    program = replace(
        decoder,
        input=port,
        populations=tuple(p for p in decoder.populations if p is not generator),
        # all that is left hears of the input through the generator alone: every level falls by the generator's, and
        # every delay, a difference of levels, stays
        projections=tuple(p for p in decoder.projections if p is not projection),
        conditioning=Conditioning(conditioning.steps, tables),
        ann_macs=max(decoder.ann_macs - macs, 0),
    )
    return Lookup(program, _patterns(decoder, projection, generator, pipeline.host.codebook))


def _generator(decoder: Program) -> tuple[Conv, Lif]:
    """The generator and the projection into it."""
    readers = decoder.out_of(decoder.input.name)
    if len(readers) != 1:
        raise _refused(decoder, f"{len(readers)} projections read {decoder.input.name}, the generator must be alone")
    projection, generator = readers[0], decoder.nodes[readers[0].target]
    if not isinstance(generator, Lif):
        raise _refused(decoder, f"{generator.name} is a {type(generator).__name__}, no Lif")
    if generator.delays.size:
        raise _refused(decoder, f"{generator.name} has axonal delays")
    if len(decoder.into(generator.name)) != 1:
        raise _refused(decoder, f"{generator.name} hears more than {decoder.input.name}")
    if not isinstance(projection, Conv) or _geometry(projection) != ((1, 1), (1, 1), (0, 0), 1):
        raise _refused(decoder, f"{projection.name} is no Conv of kernel 1x1, stride 1, without padding and shuffle")
    alone = [p.name for p in decoder.populations if not decoder.into(p.name)]
    if alone:  # the table takes a level away between the input and what lies behind, not between these and that
        raise _refused(decoder, f"{', '.join(alone)} would no longer fire at the same time as the generator")
    if decoder.input.streamed:
        raise _refused(decoder, f"{decoder.input.name} is streamed, the generator's input must stay the same")
    return projection, generator


def _geometry(conv: Conv) -> tuple[object, ...]:
    return conv.weight.shape[2:], conv.stride, conv.padding, conv.shuffle


def _refused(decoder: Program, reason: str) -> ConfigError:
    return ConfigError(f"{decoder.name} has no spike generator that a table could replace: {reason}")


def _patterns(
    decoder: Program, projection: Conv, generator: Lif, codebook: npt.NDArray[np.float64]
) -> npt.NDArray[np.uint8]:
    """Spikes of ``generator`` for each code vector, uint8 [K, T, C]: a grid of one site for each of them."""
    messages = decoder.input.quantize(codebook[:, :, None, None])
    current = with_gains(projection, projection_currents(projection, messages)[:, None, :, 0, 0])  # [K, T or 1, C]
    if np.abs(current).max() >= CURRENT_LIMIT:
        raise _refused(decoder, f"the current of {generator.name} leaves +-{CURRENT_LIMIT - 1}")
    bias = decoder.bias_mant(generator, 0) << generator.bias_exp
    u = v = np.zeros_like(current[:, 0])
    patterns = np.empty((len(codebook), decoder.timesteps, generator.shape[0]), dtype=np.uint8)
    for t, a in enumerate(np.broadcast_to(current, patterns.shape).swapaxes(0, 1)):
        u, v, patterns[:, t] = lif_step(u, v, a, vth=generator.vth, du=generator.du, dv=generator.dv, bias=bias)
    return patterns
