"""A Program as a chain of layers of netx, or every reason why it is none.

lava-dl 0.6.0 ``netx/hdf5.py`` (``Network._create``) joins every layer to the one before it, and raises
NotImplementedError with the texts that are quoted here.
"""

from __future__ import annotations

from spikegen.errors import ExchangeError
from spikegen.exporters.netx.exact import Layer, covers, exact_layer
from spikegen.program import Conv, Lif, Program, Projection, Readout, Relay
from spikegen.program.bounds import current_bounds
from spikegen.program.ir import Population

LACKING = "what netx has no layer for"


def layers(program: Program) -> tuple[Layer, ...]:
    """The layers of ``program``, in order.

    Raises:
        ExchangeError: netx has no such network: every reason.
    """
    chain, problems = _walk(program)
    if problems:
        raise ExchangeError(f"{LACKING}:\n  - " + "\n  - ".join(problems))
    return chain


def refusals(program: Program) -> list[str]:
    """Every reason why netx has no such network; empty if there is none."""
    return _walk(program)[1]


def _walk(program: Program) -> tuple[tuple[Layer, ...], list[str]]:
    problems = _structure(program)
    if problems:
        return (), problems
    bounds, listed = current_bounds(program), False
    chain: list[Layer] = []
    for population in _spiking_end(program):
        (projection,) = program.into(population.name)
        try:
            layer = exact_layer(program, projection, population, bounds[population.name], listed=listed)
        except ExchangeError as error:
            problems += str(error).splitlines()
            listed = listed or covers(projection, program.nodes[projection.source].shape)
        else:
            chain.append(layer)
            listed = layer.dense
    return tuple(chain), problems


def counts_spikes(program: Program, readout: Readout) -> bool:
    """Whether a readout only reads the spikes of the last neurons, which are then the end of the chain."""
    (projection,) = program.into(readout.name)
    copies = isinstance(projection, Conv) and projection.is_copy
    return copies and isinstance(program.nodes[projection.source], Lif)


def _spiking_end(program: Program) -> tuple[Lif | Readout, ...]:
    found = tuple(p for p in program.populations if isinstance(p, Lif | Readout))
    last = found[-1]
    return found[:-1] if isinstance(last, Readout) and counts_spikes(program, last) else found


def _structure(program: Program) -> list[str]:
    """What is no chain, or no layer of netx."""
    problems = []
    for name in program.nodes:
        readers = [projection.target for projection in program.out_of(name)]
        if len(readers) > 1:
            problems.append(
                f"{name}: it is read by {', '.join(readers)}; the layers of netx are a list, a skip has no place in it"
            )
    for population in program.populations:
        problems += _population(program, population)
    for projection in program.projections:
        problems += _projection(projection)
    return problems


def _population(program: Program, population: Population) -> list[str]:
    name, into = population.name, program.into(population.name)
    problems = []
    if not into:
        problems.append(f"{name}: it hears nothing and fires by its bias alone; a layer of netx has synapses")
    if len(into) > 1:
        sources = ", ".join(projection.source for projection in into)
        problems.append(
            f"{name}: {len(into)} projections lead into it (from {sources}); netx has no join: "
            "'concat is not implemented.'"
        )
    if isinstance(population, Relay):
        problems.append(
            f"{name}: it passes sums on (a Relay: an average, a residual stream); every layer of netx fires: "
            "'pool is not implemented.', 'average is not implemented.'"
        )
    if isinstance(population, Lif):
        table = program.conditioning.tables.get(name)
        if table is not None and (table != table[0]).any():
            problems.append(f"{name}: its bias depends on the diffusion step (conditioning); netx has one bias")
        if population.delays.any():
            problems.append(
                f"{name}: axonal delays up to {population.delays.max()}; netx delays the synapses into a dense layer, "
                "keeps what is late for the next image, and ignores delays of a conv layer"
            )
    return problems


def _projection(projection: Projection) -> list[str]:
    problems = []
    if projection.gains.size and (projection.gains != projection.gains[0]).any():
        problems.append(f"{projection.name}: its gain differs between timesteps (TSM); netx has one weight")
    if not isinstance(projection, Conv):
        return problems
    if projection.shuffle > 1:
        problems.append(
            f"{projection.name}: it shuffles sub-pixels (a transposed convolution or an upsampling): "
            "'convT is not implemented.', 'unpool is not implemented.'"
        )
    return problems
