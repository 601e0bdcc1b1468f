"""Tiles, axon tables, chips and the traffic between them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from spikegen.hardware.loihi2.layout import Layout, place, place_network
from spikegen.hardware.loihi2.limits import Budget
from spikegen.hardware.loihi2.network import Form, Layer, Link, Network, Role, network_of
from spikegen.program import Conv, Dense, Program
from spikegen.program.counting import conv_taps
from tests.hardware.programs import chain, skips, strided
from tests.program.examples import changed, every_field, every_primitive


def single(shape: tuple[int, int, int]) -> Layout:
    """A layer of ``shape`` behind a tiny 1x1 kernel."""
    port = Layer("in", (1, *shape[1:]), Role.POPULATION, "in")
    layer = Layer("a", shape, Role.POPULATION, "a")
    return place_network(Network(port, (layer,), (Link("in", "a", Form.CONV, 8, 1, shape[0]),)))


@pytest.mark.parametrize(
    ("shape", "cores"),
    [
        ((4095, 1, 1), 1),
        ((4096, 1, 1), 2),
        ((1, 63, 64), 1),  # 4032
        ((1, 64, 64), 2),  # 4096
        ((1, 64, 63), 2),  # 63 are reserved as 64
        ((64, 7, 8), 1),
        ((64, 8, 8), 2),
        ((1, 65, 63), 2),
        ((1, 1, 5000), 3),  # tiles of 2048
    ],
)
def test_tiles_hold_less_than_4096_neurons(shape: tuple[int, int, int], cores: int) -> None:
    assert single(shape).cores == cores


def test_a_core_is_full_at_its_limit_of_words() -> None:
    layout = place(chain(channels=64))
    words = layout.by_name["out"].used["synapse_words"]
    assert words == 9 * 64 * 9  # 64 x 8 + 10 bits: 9 words
    for limit, split in ((words, 64), (words - 1, 32)):
        tight = place(chain(channels=64), Budget(synapse_words=limit, memory=1000))
        assert tight.by_name["out"].tile[0] == split


def test_the_bottleneck_is_the_resource_used_most() -> None:
    assert place(chain(channels=4)).by_name["a"].bottleneck == "neurons"
    many = place(chain(channels=64, size=1))
    assert many.by_name["out"].bottleneck == "synapse_words"
    assert many.by_name["out"].shares["synapse_words"] == pytest.approx(5184 / 16000)


def test_memory_is_pooled() -> None:
    """85 % of the words and 100 % of the neurons leave no room for 50 % of the axons."""
    shares = Budget().shares({"neurons": 4095, "synapse_words": 13600, "axon_in": 8000})
    assert shares["memory"] == pytest.approx(0.8 * (0.85 + 0.5) + 0.2047)
    assert shares["memory"] > 1 > shares["synapse_words"]


def test_axon_tables_make_tiles_smaller() -> None:
    """Every pixel is an entry for each convolution that hears it; a core with fewer pixels needs fewer."""
    roomy = place(skips(channels=4, size=32))
    tight = place(skips(channels=4, size=32), Budget(axon_mem=64))
    assert roomy.by_name["a"].used["axon_mem"] > 64
    assert tight.cores > roomy.cores
    assert all(placement.used["axon_mem"] <= 64 for placement in tight.placements)


def test_chips_are_filled_in_order() -> None:
    layout = place(skips(channels=64, size=16), Budget(cores_per_chip=10))
    assert [p.first for p in layout.placements] == list(np.cumsum([0, *(p.cores for p in layout.placements)])[:-1])
    assert layout.chips == -(-layout.cores // 10)
    chips = [layout.chips_of(placement) for placement in layout.placements]
    assert chips[0][0] == 0
    assert chips[-1][-1] == layout.chips - 1
    assert all(later[0] in (earlier[-1], earlier[-1] + 1) for earlier, later in itertools.pairwise(chips))


def heard(program: Program, projection: Conv | Dense) -> npt.NDArray[np.bool_]:
    """bool [neurons of the target, neurons of the source]: which neuron has a synapse to which."""
    source, target = program.nodes[projection.source].shape, program.nodes[projection.target].shape
    found = np.zeros((*target, *source), dtype=bool)
    if isinstance(projection, Dense):
        found[:] = True
    else:
        vertical, horizontal = conv_taps(projection, program.nodes[projection.source])
        r, outputs, inputs = projection.shuffle, *projection.weight.shape[:2]
        for rows in vertical:
            for columns in horizontal:
                for y, row in enumerate(rows):
                    for x, column in enumerate(columns):
                        for o in range(outputs if min(row, column) >= 0 else 0):
                            group = o // (outputs // projection.groups)
                            at = (o // (r * r), y * r + o % (r * r) // r, x * r + o % r)
                            found[at][group * inputs : (group + 1) * inputs, row, column] = True
    return found.reshape(int(np.prod(target)), -1)


def core_of(layout: Layout, name: str) -> npt.NDArray[np.int64]:
    """Core of every neuron of a layer, int [neurons]."""
    placement = layout.by_name[name]
    index = np.indices(placement.layer.shape).reshape(3, -1) // np.array(placement.tile)[:, None]
    core = (index[0] * placement.grid[1] + index[1]) * placement.grid[2] + index[2] + placement.first
    assert len(np.unique(core)) == placement.cores
    return np.asarray(core)


@pytest.mark.parametrize("per_chip", [1, 3])
@pytest.mark.parametrize(
    ("make", "size"),
    [(every_primitive, 9), (every_field, 9), (lambda: skips(4, 6), 9), (strided, 3), (strided, 16)],
    ids=["primitives", "all", "skips", "strided, channels split", "strided"],
)
def test_traffic_is_every_message_to_a_core_on_another_chip(
    make: Callable[[], Program], size: int, per_chip: int
) -> None:
    program = make()
    for projection in program.projections:  # delays would be layers of their own
        program = changed(program, projection.name, delay=0)
    layout = place(program, Budget(neurons=size, cores_per_chip=per_chip))
    assert layout.chips > 3
    expected: dict[tuple[int, int], int] = {}
    for projection in program.projections:
        if projection.source == program.input.name:
            continue
        synapses = heard(program, projection)
        sources, targets = core_of(layout, projection.source), core_of(layout, projection.target)
        for target in np.unique(targets):
            for neuron in np.flatnonzero(synapses[targets == target].any(axis=0)):
                pair = (int(sources[neuron]) // per_chip, int(target) // per_chip)
                if pair[0] != pair[1]:
                    expected[pair] = expected.get(pair, 0) + 1
    assert layout.traffic() == dict(sorted(expected.items()))
    assert expected


def test_delays_send_each_message_on_once() -> None:
    layout = place(skips(4, 6), Budget(neurons=192, cores_per_chip=1))  # one core each: 6 pixels count as 8
    network = layout.network
    lines = [link for link in network.links if link.form is Form.LINE]
    assert lines
    chips = {name: placement.first for name, placement in layout.by_name.items()}
    for link in lines:
        assert layout.traffic()[chips[link.source], chips[link.target]] == 144


def test_one_chip_has_no_traffic() -> None:
    assert place(skips()).traffic() == {}


def test_axon_entries_of_a_single_reader() -> None:
    """The logs: one entry per pixel towards a convolution, none in the list of cores where each pixel has one."""
    used = place(chain(4, 8)).by_name["a"].used
    assert (used["axon_map"], used["axon_mem"]) == (64, 0)
    assert place(chain(4, 8)).by_name["out"].used["axon_map"] == 4 * 64  # to the host, neuron by neuron


def test_placing_does_not_depend_on_the_weights_but_on_their_bits() -> None:
    program = chain(64)
    small = changed(program, "a>out", weight=np.sign(program.projections[1].weight))
    assert place(small).by_name["out"].used["synapse_words"] < place(program).by_name["out"].used["synapse_words"]
    flipped = changed(program, "a>out", weight=np.flip(program.projections[1].weight))
    assert place(flipped).placements == place(program).placements
    assert dataclasses.replace(network_of(flipped)) == network_of(program)
