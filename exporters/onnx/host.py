"""The host's part around a network as ONNX models of float64, whose results are the runtime's bit for bit.

Every operation is one elementwise operation that IEEE 754 rounds in one way, in the order of
:mod:`spikegen.runtime.readout` and :mod:`spikegen.runtime.tail`; sums over timesteps and over the taps of a kernel are
Scans, because no operator of ONNX says in which order it sums.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import onnx

from spikegen.exporters.onnx.graph import Graph, Port, make_model
from spikegen.exporters.onnx.network import FRAMES, READOUT
from spikegen.program import Program, Readout, SwishTail, validate
from spikegen.program.ir import Shape
from spikegen.program.storage import digest
from spikegen.runtime.tail import COEFFICIENTS, LN2_HIGH, LN2_LOW, UNDERFLOW

REAL, VALUE = "real", "value/"
_POWERS_FROM = -600  # half of the smallest exponent, -800 / ln(2)


def input_model(program: Program) -> onnx.ModelProto:
    """From real values to what the network takes, as :meth:`spikegen.program.Input.quantize` does it.

    Input ``real`` float64 (N, C, H, W), or (N, T, C, H, W) of a streamed input, finite; output ``frames`` int32 of the
    same shape.

    Raises:
        ProgramError: the Program breaks a rule.
    """
    validate(program)
    graph, port = Graph(), program.input
    low, high = (graph.constant(end[:, None, None], np.float64) for end in (port.low, port.high))
    whole = graph.add("Round", graph.add("Div", REAL, graph.constant(port.scale, np.float64)))  # half to even
    graph.cast(graph.add("Min", graph.add("Max", whole, low), high), np.int32, into=FRAMES)
    shape = ("N", *((program.timesteps,) if port.streamed else ()), *port.shape)
    proto = graph.proto(f"{program.name}.input", [Port(REAL, np.float64, shape)], [Port(FRAMES, np.int32, shape)])
    return make_model(proto, _metadata(program, "input"), f"{program.name}: real values to the messages of its input")


def readout_model(program: Program) -> onnx.ModelProto:
    """From the currents of the readouts to real values, as :func:`spikegen.runtime.host_readout` computes them.

    Inputs ``readout/NAME`` int32 (N, T, C, H, W); outputs ``value/NAME`` float64 (N, O, H, W), for every readout.

    Raises:
        ProgramError: the Program breaks a rule.
        ConfigError: the model would have 2 GiB and more.
    """
    validate(program)
    graph, inputs, outputs = Graph(), [], []
    for readout in program.readouts():
        inputs.append(Port(READOUT + readout.name, np.int32, ("N", program.timesteps, *readout.shape)))
        outputs.append(Port(VALUE + readout.name, np.float64, ("N", *readout.output_shape)))
        _readout(graph, readout, inputs[-1].name, outputs[-1].name)
    proto = graph.proto(f"{program.name}.readout", inputs, outputs)
    return make_model(proto, _metadata(program, "readout"), f"{program.name}: currents of its readouts to real values")


def _metadata(program: Program, kind: str) -> dict[str, str]:
    return {"spikegen.kind": kind, "spikegen.program": program.name, "spikegen.digest": digest(program)}


def _readout(graph: Graph, readout: Readout, currents: str, into: str) -> None:
    """``sum_t weights[t] tail(scale a[t] + bias[t])``."""
    value = graph.add("Mul", graph.cast(currents, np.float64), graph.constant(readout.scale, np.float64))
    value = graph.add("Add", value, graph.constant(readout.bias[..., None, None], np.float64))
    if readout.tail is not None:
        value = _tail(graph, readout.tail, value, readout.shape)
    value = graph.add("Mul", value, graph.constant(readout.weights[:, None, None, None], np.float64))
    total = _zeros(graph, currents, readout.output_shape)
    body = Graph(graph)
    so_far, added = graph.name("total"), graph.name("added")
    result = body.add("Add", so_far, added)
    shape = ("N", *readout.output_shape)
    ports = [Port(name, np.float64, shape) for name in (so_far, added, result)]
    graph.split(
        "Scan",
        total,
        value,
        into=[into],
        body=body.proto(f"{readout.name}:sum", ports[:2], ports[2:]),
        num_scan_inputs=1,
        scan_input_axes=[1],
    )


def _zeros(graph: Graph, like: str, shape: Shape) -> str:
    """0 (N, C, H, W), with as many images as ``like`` has."""
    size = graph.add("Concat", graph.add("Shape", like, start=0, end=1), graph.constant(shape, np.int64), axis=0)
    return graph.add("Expand", graph.constant(0.0, np.float64), size)


def _tail(graph: Graph, tail: SwishTail, value: str, shape: Shape) -> str:
    """:func:`spikegen.runtime.tail.swish_tail` of all timesteps: (N, T, C, H, W) to (N, T, O, H, W)."""
    timesteps, outputs = len(tail.gains), (len(tail.bias), *shape[1:])

    def channels(name: str) -> str:
        return graph.constant(getattr(tail, name)[:, None, None], np.float64)

    normed = graph.add("Add", graph.add("Mul", value, channels("norm_scale")), channels("norm_shift"))
    frames = graph.reshape(_swish(graph, normed), (-1, *shape))
    q = graph.add("Add", _correlation(graph, tail.weight, frames, shape), channels("bias"))
    q = graph.reshape(q, (-1, timesteps, *outputs))
    q = graph.add("Mul", q, graph.constant(tail.gains[:, None, None, None], np.float64))
    mixed = _correlation(graph, tail.mix_weight, graph.reshape(q, (-1, *outputs)), outputs)
    mixed = _swish(graph, graph.add("Add", mixed, channels("mix_bias")))
    return graph.add("Add", graph.reshape(mixed, (-1, timesteps, *outputs)), q)


def _swish(graph: Graph, z: str) -> str:
    """:func:`spikegen.runtime.tail.swish`: the Exp of a library differs between machines, this does not."""

    def real(value: float) -> str:
        return graph.constant(value, np.float64)

    minus = graph.add("Neg", graph.add("Min", graph.add("Abs", z), real(UNDERFLOW)))
    k = graph.add("Round", graph.add("Div", minus, real(math.log(2))))
    r = graph.add("Sub", minus, graph.add("Mul", k, real(LN2_HIGH)))
    r = graph.add("Sub", r, graph.add("Mul", k, real(LN2_LOW)))
    small = real(COEFFICIENTS[0])
    for coefficient in COEFFICIENTS[1:]:
        small = graph.add("Add", graph.add("Mul", small, r), real(coefficient))
    # 2^k in two factors, of which only the second can round: what ldexp does
    powers = graph.constant(np.ldexp(1.0, np.arange(_POWERS_FROM, 1)), np.float64)
    half = graph.add("Floor", graph.add("Mul", k, real(0.5)))
    for exponent in (half, graph.add("Sub", k, half)):
        index = graph.cast(graph.add("Sub", exponent, real(_POWERS_FROM)), np.int64)
        small = graph.add("Mul", small, graph.add("Gather", powers, index))
    numerator = graph.add("Where", graph.add("Less", z, real(0.0)), graph.add("Mul", z, small), z)
    return graph.add("Div", numerator, graph.add("Add", small, real(1.0)))


def _correlation(graph: Graph, weight: npt.NDArray[np.float64], frames: str, shape: Shape) -> str:
    """:func:`spikegen.runtime.tail.correlation` of frames (B, C, H, W): one addition per channel and tap, in order."""
    outputs, channels, kh, kw = weight.shape
    _, height, width = shape
    around = (kh // 2, kw // 2)
    pads = graph.constant([0, 0, *around, 0, 0, *around], np.int64)
    padded = graph.add("Pad", frames, pads, graph.constant(0.0, np.float64))
    windows = [
        graph.add(
            "Slice",
            padded,
            graph.constant([y, x], np.int64),
            graph.constant([y + height, x + width], np.int64),
            graph.constant([2, 3], np.int64),
        )
        for y in range(kh)
        for x in range(kw)
    ]
    stacked = graph.add("Concat", *(graph.reshape(w, (1, -1, *shape)) for w in windows), axis=0)  # (taps, B, C, H, W)
    ordered = graph.add("Transpose", stacked, perm=[2, 0, 1, 3, 4])  # (C, taps, B, H, W)
    seen = graph.reshape(ordered, (channels * kh * kw, -1, 1, height, width))
    taps = graph.constant(weight.reshape(outputs, -1).T[..., None, None], np.float64)  # (C taps, O, 1, 1)
    body = Graph(graph)
    names = [graph.name(hint) for hint in ("total", "weight", "seen")]
    result = body.add("Add", names[0], body.add("Mul", names[1], names[2]))
    total: tuple[int | str, ...] = ("B", outputs, height, width)
    shapes: list[tuple[int | str, ...]] = [total, (outputs, 1, 1), ("B", 1, height, width)]
    ports = [Port(name, np.float64, shape) for name, shape in zip(names, shapes, strict=True)]
    return graph.split(
        "Scan",
        _zeros(graph, frames, (outputs, height, width)),
        taps,
        seen,
        into=[graph.name("correlation")],
        body=body.proto("correlation", ports, [Port(result, np.float64, total)]),
        num_scan_inputs=2,
    )[0]
