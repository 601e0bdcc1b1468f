"""A file of netx becomes a pipeline: its integers as they are, without calibration."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikegen import __version__
from spikegen.errors import ConfigError, ExchangeError
from spikegen.exporters.netx.builder import Builder
from spikegen.exporters.netx.layers import LAYERS, REFUSED
from spikegen.exporters.netx.neurons import OPTIONAL, REQUIRED, TYPES
from spikegen.exporters.netx.structure import NetxLayer, read_checked
from spikegen.program import Conv, Lif, Pipeline, Program, Readout, Standalone, validate
from spikegen.program.ir import Shape
from spikegen.program.validate import TIMESTEPS_MAX


@dataclass(frozen=True, eq=False)
class Imported:
    """A pipeline from a file of netx.

    Attributes:
        pipeline: of one network, ``Standalone``. Its readout gives the spikes of the last layer, or its currents where
            that never fires; the host adds them up over time.
        warnings: where netx computes something else than the blocks of SLAYER that wrote the file.
    """

    pipeline: Pipeline
    warnings: tuple[str, ...]


def import_netx(
    path: str | os.PathLike[str], timesteps: int, shape: Shape | None = None, bits: int = 0, *, streamed: bool = True
) -> Imported:
    """Read a file that ``export_hdf5`` of lava-dl wrote.

    Args:
        path: it is read with nothing taken on trust.
        timesteps: T, 1..1024; the file does not say it.
        shape: (C, H, W) of the input, where the file does not say it.
        bits: magnitude bits of the input's messages; 0 for spikes.
        streamed: every timestep has an input of its own.

    Raises:
        ExchangeError: the file is damaged, or holds what a Program cannot say, with the layer.
        ProgramError: the numbers of a layer are out of range.
        ConfigError: T does not fit.
    """
    if not 1 <= timesteps <= TIMESTEPS_MAX:
        raise ConfigError(f"T is {timesteps}, allowed 1..{TIMESTEPS_MAX}")
    path = Path(path)
    builder = Builder(timesteps, bits, streamed)
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", path.stem)[:48] or "netx"
    layers = read_checked(path)
    try:
        program = _program(builder, layers, shape, name)
    except ExchangeError as error:
        raise ExchangeError(f"{path}: {error}") from error
    provenance = {
        "source": f"netx file {path.name}",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "spikegen": __version__,
    }
    return Imported(Pipeline(name, Standalone(), {"network": program}, provenance), tuple(builder.warnings))


def _program(builder: Builder, layers: Sequence[NetxLayer], shape: Shape | None, name: str) -> Program:
    problems = [problem for layer in layers for problem in _unknown(layer)]
    if problems:
        raise ExchangeError(
            "what cannot be imported:\n  - " + "\n  - ".join(problems) + f"\nsupported: {', '.join(LAYERS)}"
        )
    if shape is not None:
        builder.begin(shape)
    for layer in layers:
        LAYERS[layer.type].handler(builder, layer)
    if builder.flattened:
        raise ExchangeError(f"{layers[-1].name}: no dense layer follows it")
    if builder.port is None or not builder.populations:
        raise ExchangeError("it has no layer with neurons")
    last = builder.populations[-1]
    if isinstance(last, Lif):
        channels = last.shape[0]
        ones = np.ones((channels, 1, 1, 1), np.int8)
        builder.projections.append(Conv(f"{last.name}->output", last.name, "output", ones, 0, groups=channels))
        builder.populations.append(Readout("output", last.shape, np.ones(builder.timesteps), np.zeros(channels)))
    program = Program(
        name,
        builder.timesteps,
        builder.port,
        tuple(builder.populations),
        tuple(builder.projections),
        ann_macs=builder.macs,
    )
    validate(program)
    return program


def _unknown(layer: NetxLayer) -> list[str]:
    """Types and parameters that the table does not have."""
    name = layer.name
    if layer.type not in LAYERS:
        return [f"{name}: {REFUSED.get(layer.type, 'unknown type of layer')}"]
    row = LAYERS[layer.type]
    problems = [f"{name}: {key} is a group of parameters (complex weights?)" for key in layer.groups]
    problems += [f"{name}: it has no {key}" for key in row.required if key not in {*layer.fields, *layer.groups}]
    unknown = sorted(layer.fields.keys() - {*row.required, *row.optional})
    problems += [f"{name}: {key} is no parameter of {layer.type}" for key in unknown]
    if layer.neuron is None:
        return problems + ([f"{name}: it has no neurons"] if row.neurons == "all" else [])
    if row.neurons == "none":
        return [*problems, f"{name}: it has neurons"]
    kind = layer.neuron.get("type")
    if kind not in TYPES:
        return [*problems, f"{name}: neurons of type {kind!r}; {' and '.join(TYPES)} are supported"]
    problems += [f"{name}: neuron: it has no {key}" for key in REQUIRED if key not in layer.neuron]
    known = {*REQUIRED, *OPTIONAL}
    return problems + [
        f"{name}: neuron: {key} is no parameter of {kind}" for key in sorted(layer.neuron.keys() - known)
    ]
