"""Events on the cores of the mapping, of networks that are small enough to count by hand, and of random ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings

from spikegen.energy import MAPPED, CoreMap, MappedOperations, count_operations
from spikegen.energy.mapped import IN_CORES
from spikegen.energy.operations import Operations
from spikegen.hardware.loihi2 import Budget, place
from spikegen.program import Conv, Counts, Dense, Input, Lif, Program, Readout, Relay, validate
from spikegen.simulator import Simulator
from tests.strategies import programs


def lif(name: str, shape: tuple[int, int, int]) -> Lif:
    return Lif(name, shape, 1, 4095, 0, np.zeros(shape[0], dtype=np.int16), 0)


def one_to_one(source: str, target: str, delay: int = 0) -> Conv:
    return Conv(f"{source}>{target}", source, target, np.full((1, 1, 1, 1), 2, dtype=np.int8), 0, delay=delay)


def chain(width: int) -> Program:
    """in > a > b > out, one channel in a row of ``width`` pixels, each heard by the one in the same place."""
    shape = (1, 1, width)
    found = Program(
        "chain",
        2,
        Input("in", shape, 4, 1.0),
        (lif("a", shape), lif("b", shape), Readout("out", shape, np.ones(2), np.zeros(1))),
        (one_to_one("in", "a"), one_to_one("a", "b"), one_to_one("b", "out")),
    )
    validate(found)
    return found


def busy(program: Program, evaluations: int = 1) -> Operations:
    """Counts as if every neuron sent at every timestep."""
    from spikegen.program.counting import Counter

    senders = {name: node for name, node in program.nodes.items() if not isinstance(node, Readout)}
    events = {
        name: np.full(node.shape, evaluations * program.timesteps, dtype=np.int64) for name, node in senders.items()
    }
    return count_operations(program, 0, Counter(program).counts(evaluations, events))


def on_cores(program: Program, budget: Budget | None = None, evaluations: int = 1) -> MappedOperations:
    return CoreMap(program, place(program, budget)).operations(busy(program, evaluations))


def test_hops_and_chips_of_one_pixel_per_core() -> None:
    """a is on cores 0..7, b on 8..15, the readout on 16..23; a chip has 12 cores, a tile 4."""
    found = on_cores(chain(8), Budget(neurons=1, cores_per_chip=12), evaluations=3)
    runs = 3 * 2  # evaluations x timesteps
    assert [load.placement.cores for load in found.layers] == [8, 8, 8]
    assert found.totals() == {
        "added_updates": 8.0 * runs,  # the readout's neurons
        "added_messages": 0.0,
        "added_synops": 0.0,
        "messages": 16.0 * runs,
        "messages_in": 24.0 * runs,  # those of the host too
        "tile_messages": 0.0,
        # a to b: cores 0..3 to 8..11 two tiles on; 4..7 to 12..15, another chip. b to out: 8..11 to 16..19, another
        # chip; 12..15 to 20..23, which are the cores 0..3 and 8..11 of that chip, two tiles on
        "hops_east_west": (4 + 4) * 2.0 * runs,
        "hops_north_south": 0.0,
        "binary_chip_messages": 8.0 * runs,
        "graded_chip_messages": 0.0,
        "timesteps": 6.0,
    }
    assert found.chips == {(0, 1): (8.0 * runs, 0.0)}


def test_hops_to_another_row_of_tiles() -> None:
    found = on_cores(chain(64), Budget(neurons=1, cores_per_chip=256)).totals()
    # 64 cores are 16 tiles, two rows of eight
    assert (found["hops_east_west"], found["hops_north_south"]) == (0.0, 2 * 64 * 2 * 2.0)
    assert found["tile_messages"] == 0.0
    # rows begin anew on every chip: on chip 1 b has the cores 0..7 and the readout 16..23, as a and b have on chip 0
    found = on_cores(chain(16), Budget(neurons=1, cores_per_chip=24)).totals()
    assert (found["hops_east_west"], found["hops_north_south"]) == (2 * 2 * 8 * 4.0, 0.0)
    near = on_cores(chain(2), Budget(neurons=1, cores_per_chip=256)).totals()
    # a on cores 0 and 1, b on 2 and 3, the readout on 4 and 5: a to b stays in the tile, b to out is one tile on
    assert (near["tile_messages"], near["hops_east_west"]) == (2 * 2.0, 2 * 2.0)


def test_a_neuron_sends_a_message_to_every_core_that_hears_it() -> None:
    dense = Dense("a>out", "a", "out", np.full((6, 8), 2, dtype=np.int8), 0)
    program = dataclasses.replace(
        chain(8),
        populations=(lif("a", (1, 1, 8)), Readout("out", (6, 1, 1), np.ones(2), np.zeros(6))),
        projections=(one_to_one("in", "a"), dense),
    )
    found = on_cores(program, Budget(neurons=2))
    a, out = found.layers
    assert out.placement.cores == 3
    assert a.operations["messages"] == out.operations["messages_in"] == 8 * 3 * 2.0
    assert out.operations["dense_synops"] == 8 * 6 * 2.0
    assert out.share == pytest.approx(1 / 3)
    assert out.fullest()["dense_synops"] == pytest.approx(8 * 6 * 2 / 3)


def test_a_delay_is_a_layer_of_relays() -> None:
    shape = (1, 1, 8)
    late = dataclasses.replace(
        chain(8),
        populations=(lif("a", shape), lif("b", shape), Readout("out", shape, np.ones(2), np.zeros(1))),
        projections=(
            one_to_one("in", "a"),
            one_to_one("a", "b"),
            one_to_one("b", "out"),
            one_to_one("a", "out", delay=1),
        ),
    )
    validate(late)
    found = on_cores(late)
    runs = 2
    assert [load.placement.layer.name for load in found.layers] == ["a", "a | delay 1", "b", "out"]
    delay = found.layers[1].operations
    assert delay["added_updates"] == delay["added_messages"] == delay["added_synops"] == 8.0 * runs
    totals = found.totals()
    assert totals["added_updates"] == 16.0 * runs  # the readout too
    assert totals["messages"] == 4 * 8.0 * runs  # a to b and to its delay, the delay and b to out


def test_messages_of_relays_are_graded() -> None:
    program = dataclasses.replace(
        chain(8),
        populations=(
            lif("a", (1, 1, 8)),
            Relay("b", (1, 1, 8), 4),
            Readout("out", (1, 1, 8), np.ones(2), np.zeros(1)),
        ),
    )
    found = on_cores(program, Budget(neurons=1, cores_per_chip=8))
    assert found.chips == {(0, 1): (16.0, 0.0), (1, 2): (0.0, 16.0)}
    assert found.layers[1].operations["relay_messages"] == 16.0
    assert "spikes" not in found.layers[1].operations


def test_what_hears_too_much_sums_in_parts() -> None:
    """Two projections of 9 x 8 taps each do not fit together: each gets relays, and their sums are operations too."""
    shape = (8, 4, 4)
    kernel = np.full((8, 8, 3, 3), 2, dtype=np.int8)
    program = Program(
        "wide",
        2,
        Input("in", (8, 4, 4), 4, 1.0),
        (lif("a", shape), lif("b", shape), lif("c", shape), Readout("out", shape, np.ones(2), np.zeros(8))),
        (
            Conv("in>a", "in", "a", np.full((8, 8, 1, 1), 2, dtype=np.int8), 0),
            Conv("in>b", "in", "b", np.full((8, 8, 1, 1), 2, dtype=np.int8), 0),
            Conv("a>c", "a", "c", kernel, 0, padding=(1, 1)),
            Conv("b>c", "b", "c", kernel, 0, padding=(1, 1)),
            Conv("c>out", "c", "out", np.full((8, 8, 1, 1), 2, dtype=np.int8), 0),
        ),
    )
    validate(program)
    cores = CoreMap(program, place(program, Budget(synapse_words=100)))
    found, counted = cores.operations(busy(program)), busy(program)
    assert cores.depth == program.depth + 1
    by_name = {load.placement.layer.name: load.operations for load in found.layers}
    assert {name for name in by_name if "part" in name} == {"c | part 0", "c | part 1"}
    stored = {projection.name: projection.stored for projection in counted.projections}
    assert by_name["c | part 0"]["conv_synops"] == stored["a>c"]
    assert by_name["c | part 1"]["conv_synops"] == stored["b>c"]
    assert by_name["c"]["added_synops"] == 2 * 128 * 2.0
    assert by_name["c"].get("conv_synops", 0.0) == 0.0
    assert by_name["c | part 0"]["added_messages"] == 128 * 2.0
    # with less memory each of the two is cut into parts itself, by its input channels
    smaller = CoreMap(program, place(program, Budget(synapse_words=40))).operations(counted)
    parts = [load.operations["conv_synops"] for load in smaller.layers if "part" in load.placement.layer.name]
    assert parts == [stored["a>c"] / 2] * 4


@settings(max_examples=40, deadline=None)
@given(program=programs())
def test_random_programs(program: Program) -> None:
    """Sums over cores are the exact counts, and the messages between chips those of a mapping in which all send."""
    counted = busy(program)
    layout = place(program, Budget(neurons=16, cores_per_chip=3))
    cores = CoreMap(program, layout)
    found, exact = cores.operations(counted), counted.totals()
    for name in ("conv_synops", "dense_synops", "neuron_updates", "spikes", "relay_messages"):
        assert sum(load.operations.get(name, 0.0) for load in found.layers) == pytest.approx(exact[name])
    assert found.totals().keys() == MAPPED.keys()
    assert {name for load in found.layers for name in load.operations} <= set(IN_CORES)
    per_timestep = {ends: sum(messages) / program.timesteps for ends, messages in found.chips.items()}
    assert per_timestep == pytest.approx({ends: float(count) for ends, count in layout.traffic().items()})
    if not layout.oversized:
        assert cores.depth == program.depth


def test_messages_follow_the_events() -> None:
    program = chain(8)
    frames = np.zeros((1, 1, 1, 8), dtype=np.int32)
    frames[0, 0, 0, :3] = 9  # three of eight pixels, each of which makes its neurons fire at both timesteps
    counts: Counts = Simulator(program).evaluate(frames, 0).counts
    layout = place(program, Budget(neurons=1, cores_per_chip=12))
    found = CoreMap(program, layout).operations(count_operations(program, 0, counts)).totals()
    assert found["messages"] == pytest.approx(2 * 2 * 3.0)
    # neurons are taken to send equally often: 3/8 of the messages of test_hops_and_chips_of_one_pixel_per_core
    assert found["binary_chip_messages"] == pytest.approx(16 * 3 / 8)
