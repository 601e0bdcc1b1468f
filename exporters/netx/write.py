"""A Program as a file of netx, which gives the same spikes on Lava; what netx cannot say is refused or told."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spikegen.exporters.lossy import LossyFormat
from spikegen.exporters.netx.chain import LACKING, counts_spikes, layers, refusals
from spikegen.exporters.netx.exact import Layer
from spikegen.program import Conv, Input, Lif, Pipeline, Program, validate
from spikegen.program.ir import Shape


def write_netx(pipeline: Pipeline, output: str | os.PathLike[str]) -> tuple[list[Path], list[str]]:
    """Write every network of ``pipeline`` as NAME.net: see :meth:`spikegen.exporters.lossy.LossyFormat.write`."""
    return NETX.write(pipeline, output, netx_file)


def netx_file(program: Program) -> bytes:
    """The content of the file of ``program``.

    Raises:
        ProgramError: ``program`` is not valid.
        ExchangeError: netx has no such network: every reason.
    """
    validate(program)
    chain = layers(program)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        place = file.create_group("layer")
        _write(place, "input", {"shape": program.input.shape})
        listed = False
        for layer in chain:
            source = program.nodes[layer.projection.source].shape
            if layer.dense and not listed:
                _write(place, "flatten", {"shape": (math.prod(source), 1, 1)})
            _layer(place, layer, source)
            listed = layer.dense
    return buffer.getvalue()


def _write(place: h5py.Group, kind: str, values: Mapping[str, Any]) -> h5py.Group:
    """The next layer."""
    group = place.create_group(str(len(place)))
    group.create_dataset("type", (1,), "S10", [kind.encode("ascii")])
    for name, value in values.items():
        group.create_dataset(name, data=np.array(value))
    return group


def _layer(place: h5py.Group, layer: Layer, source: Shape) -> None:
    conv = layer.projection
    shape = layer.population.shape
    if layer.dense:
        values: dict[str, Any] = {"inFeatures": math.prod(source), "outFeatures": math.prod(shape)}
    elif isinstance(conv, Conv):
        values = {"inChannels": source[0], "outChannels": shape[0], "kernelSize": layer.weight.shape[2:]}
        values |= {name: getattr(conv, name) for name in ("stride", "padding", "dilation", "groups")}
    if layer.neurons.bias.any():
        values["bias"] = np.repeat(layer.neurons.bias, math.prod(shape[1:])) if layer.dense else layer.neurons.bias
    group = _write(place, "dense" if layer.dense else "conv", {"shape": shape, "weight": layer.weight, **values})
    neuron = {
        "iDecay": layer.neurons.decays[0],
        "vDecay": layer.neurons.decays[1],
        "vThMant": layer.neurons.vth,
        "refDelay": 1,
    }
    for name, value in {"type": "CUBA", **neuron, "gradedSpike": False}.items():
        group.create_dataset(f"neuron/{name}", data=value)


def losses(program: Program) -> list[str]:
    """What the file of ``program`` leaves out, one sentence each."""
    chain = layers(program)
    lost = [_input(program.input, listed=chain[0].dense)]
    lost.append(
        f"window: T = {program.timesteps}; give Network(..., reset_interval={program.timesteps}, reset_offset=1), so "
        "that every layer is reset where the first timestep of an input arrives"
    )
    for readout in program.readouts():
        tail = " and the layers of the host behind it" if readout.tail is not None else ""
        if counts_spikes(program, readout):
            lost.append(f"{readout.name}: it reads spikes, which leave the last layer; its sum over time{tail} is lost")
        else:
            unit = 64 * 2.0 ** -chain[-1].shift
            lost.append(
                f"{readout.name}: the last layer never fires; the membrane of its neurons is {unit:g} times the "
                f"current of the timestep; its scale, its bias and its sum over time{tail} are lost"
            )
    lost += [
        f"{layer.population.name}: weights, threshold and bias are divided by {2.0**layer.shift:g}; it fires all the "
        "same"
        for layer in chain
        if layer.shift and isinstance(layer.population, Lif)
    ]
    wide = [layer.projection.name for layer in chain if not layer.on_chip]
    if wide:
        lost.append(
            f"{', '.join(wide)}: weights that synapses of 8 bits do not hold; exact on Lava's CPU simulator only"
        )
    return [*lost, "names, scales and the origin of the layers"]


def _input(port: Input, *, listed: bool) -> str:
    """How netx is fed."""
    order = "flat, in (channel, row, column) order" if listed else "(column, row, channel)"
    kind = "spikes"
    if port.bits:
        kind = (
            f"messages of {port.bits} bits, x / {port.scale:g} rounded and clipped by the host; give "
            f"Network(..., input_message_bits={port.bits})"
        )
    frames = "" if port.streamed else "; the same at each timestep, which the host must send again"
    return f"input: {kind}; {order}{frames}"


NETX = LossyFormat("a file of netx", ".net", LACKING, refusals, losses)
