"""Random Programs in ONNX Runtime equal the simulator: every message, readout and count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import hypothesis.strategies as st
import onnx
from hypothesis import given, settings

from spikegen.exporters.onnx import network_model
from spikegen.program import Dense, Lif, Program, Relay, overflow_risks
from spikegen.program.ir import neurons
from spikegen.program.storage import digest
from tests.onnx.comparison import compared
from tests.strategies import frames, programs

# How often the examples had what makes them worth testing.
SEEN: Counter[str] = Counter()


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those in the bodies of Scans included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from nodes(attribute.g)


def _assert_nothing_is_idle(model: onnx.ModelProto) -> None:
    read = {name for node in nodes(model.graph) for name in node.input} | {port.name for port in model.graph.output}
    assert {tensor.name for tensor in model.graph.initializer} <= read
    for node in model.graph.node:
        assert read & set(node.output), node.name


def _see(program: Program, form: str, model: onnx.ModelProto, fired: dict[str, float]) -> None:
    SEEN["programs"] += 1
    SEEN.update({node.op_type for node in nodes(model.graph)})
    SEEN["gains"] += any(p.gains.size for p in program.projections)
    SEEN["clock"] += any(not program.into(p.name) for p in program.populations)
    SEEN["streamed"] += program.input.streamed
    SEEN["conditioned"] += bool(program.conditioning.tables)
    SEEN["relay"] += any(isinstance(p, Relay) for p in program.populations)
    SEEN["dense"] += any(isinstance(p, Dense) for p in program.projections)
    SEEN["groups"] += any(getattr(p, "groups", 1) > 1 for p in program.projections)
    SEEN["delays"] += any(p.delay for p in program.projections)
    SEEN[f"axonal delays, {form}"] += any(isinstance(p, Lif) and p.delays.any() for p in program.populations)
    SEEN["firing"] += any(0 < share < 1 for share in fired.values())
    SEEN["populations firing"] += sum(0 < share < 1 for share in fired.values())
    SEEN["populations"] += len(fired)


def _compare(data: st.DataObject, program: Program) -> None:
    images = data.draw(frames(program))
    step = data.draw(st.integers(0, program.conditioning.steps - 1))
    chance = int(digest(program)[:8], 16)  # not drawn: Hypothesis draws one of four far more often than another
    unroll, record = bool(chance & 1), bool(chance & 2)
    found = compared(program, images, step, unroll=unroll, record=(record,))
    sent = len(images) * program.timesteps
    fired = {
        p.name: found.counts.events[p.name] / (sent * neurons(p)) for p in program.populations if isinstance(p, Lif)
    }
    model = network_model(program, "messages", unroll=unroll)
    _assert_nothing_is_idle(model)
    form = f"{'unrolled' if unroll else 'scanned'}, {'messages' if record else 'events'}"
    _see(program, form, model, fired)


@settings(max_examples=250)
@given(st.data())
def _random_programs(data: st.DataObject) -> None:
    _compare(data, data.draw(programs(timesteps=(1, 2, 3, 8), min_exponent=0)))


@settings(max_examples=80)
@given(st.data())
def _overflowing_programs(data: st.DataObject) -> None:
    program = data.draw(programs(overflow=True))
    SEEN["risky"] += bool(overflow_risks(program))
    _compare(data, program)


def test_random_programs_equal_the_simulator() -> None:
    SEEN.clear()
    _random_programs()
    assert SEEN["programs"] >= 250
    assert SEEN["populations firing"] > 0.4 * SEEN["populations"]  # the rest is silent or fires always
    for feature in ("gains", "clock", "streamed", "conditioned", "relay", "dense", "groups", "delays"):
        assert SEEN[feature] > 10, feature
    for form in ("unrolled", "scanned"):
        for outputs in ("messages", "events"):
            assert SEEN[f"axonal delays, {form}, {outputs}"] > 5, (form, outputs)
    for kind in ("Conv", "MatMul", "DepthToSpace", "Split", "Scan", "Gather", "Div"):
        assert SEEN[kind] > 10, kind


def test_overflowing_programs_equal_the_simulator() -> None:
    """Currents that wrap and membranes that clip."""
    SEEN.clear()
    _overflowing_programs()
    assert SEEN["risky"] > SEEN["programs"] / 3
    assert SEEN["Scan"] > 10
    assert SEEN["Clip"] > 10
