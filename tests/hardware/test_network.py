"""From Programs to layers and links: delays, partial sums, variants."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import numpy as np
import pytest

from spikegen.errors import ProgramError
from spikegen.hardware.loihi2.layout import place, place_network
from spikegen.hardware.loihi2.limits import Budget
from spikegen.hardware.loihi2.network import Form, Layer, Link, Network, Role, network_of, retimed, with_delays
from spikegen.hardware.loihi2.partial import oversized, with_partial_sums
from spikegen.hardware.loihi2.placement import smallest_words
from spikegen.hardware.loihi2.variants import narrowed, relayed
from spikegen.program import Conv, Dense, Input, Lif, Program, Readout
from tests.hardware.programs import chain, kernel, skips
from tests.program.examples import changed, every_field, every_primitive


def delays(network: Network) -> list[str]:
    return [layer.name for layer in network.layers if layer.role is Role.DELAY]


def test_delays_of_one_source_are_a_chain() -> None:
    network = with_delays(network_of(skips()))
    assert delays(network) == ["a | delay 1", "a | delay 2", "b | delay 1"]
    lines = [(link.source, link.target) for link in network.links if link.form is Form.LINE]
    assert lines == [("a", "a | delay 1"), ("a | delay 1", "a | delay 2"), ("b", "b | delay 1")]
    heard = {(link.source, link.target) for link in network.links if link.form is Form.CONV and "|" in link.source}
    assert heard == {("a | delay 1", "c"), ("a | delay 2", "d"), ("b | delay 1", "d")}
    assert all(link.delay == 0 for link in network.links)


def test_delayed_layers_follow_their_source() -> None:
    names = [layer.name for layer in with_delays(network_of(skips())).layers]
    assert names == ["a", "a | delay 1", "a | delay 2", "b", "b | delay 1", "c", "d", "out"]


def test_the_delay_of_an_input_is_placed_too() -> None:
    layout = place(every_primitive())
    assert layout.placements[0].layer == Layer("in | delay 1", (2, 3, 3), Role.DELAY, "in")
    assert layout.cores_by_population()["in"] == 1


def test_a_chain_is_in_the_order_of_its_delays() -> None:
    program = changed(changed(skips(), "a>c", delay=40), "a>d", delay=9)  # a set of the two begins with 40
    assert delays(with_delays(network_of(program)))[:2] == ["a | delay 9", "a | delay 40"]


def test_equal_delays_share_a_layer_unless_the_gains_differ() -> None:
    program = skips()
    assert delays(with_delays(network_of(changed(program, "a>d", delay=1)))) == ["a | delay 1", "b | delay 1"]
    other = changed(changed(program, "a>d", delay=1), "a>c", gains=np.array([1, 2, 1, 2]))
    assert delays(with_delays(network_of(other)))[:2] == ["a | delay 1 | gains 0", "a | delay 1"]


def test_a_dense_projection_delays_its_synapses() -> None:
    weight = np.full((3, 18), 3, dtype=np.int8)  # 3 bits: 3 (3 + 12) + 10 = 55 bits, with delays 73
    program = Program(
        "dense",
        2,
        Input("in", (2, 3, 3), 4, 1.0),
        (Readout("out", (3, 1, 1), np.ones(2), np.zeros(3)),),
        (Dense("in>out", "in", "out", weight, 1, delay=3),),
    )
    assert delays(with_delays(network_of(program))) == []
    for delay, words in ((3, 2), (0, 1)):
        (placement,) = place(changed(program, "in>out", delay=delay)).placements
        assert placement.used["synapse_words"] == 18 * words


def test_a_type_without_a_place_is_one_error() -> None:
    class Strange(Lif):
        pass

    program = skips()
    found = dataclasses.replace(program, projections=(*program.projections, cast(Any, object.__new__(_NoProjection))))
    with pytest.raises(ProgramError, match="strange: it has a type that cannot be placed on Loihi 2"):
        network_of(found)


class _NoProjection:
    name = "strange"


def test_retiming_a_network_gives_the_delays_of_the_lowering() -> None:
    network = network_of(skips())
    forgotten = Network(network.input, network.layers, tuple(dataclasses.replace(k, delay=0) for k in network.links))
    assert retimed(forgotten) == network


def wide(sources: int, channels: int) -> Network:
    """``sources`` layers of ``channels`` channels, all of which one layer hears through 3x3 kernels."""
    layers = tuple(Layer(f"s{i}", (channels, 4, 4), Role.POPULATION, f"s{i}") for i in range(sources))
    target = Layer("t", (channels, 4, 4), Role.POPULATION, "t")
    links = tuple(Link("in", layer.name, Form.CONV, 8, 1, channels) for layer in layers)
    links += tuple(Link(layer.name, "t", Form.CONV, 8, channels, channels, (3, 3), padding=(1, 1)) for layer in layers)
    return Network(Layer("in", (1, 4, 4), Role.POPULATION, "in"), (*layers, target), links)


def test_a_layer_that_hears_too_much_is_summed_in_parts() -> None:
    budget = Budget()
    fitting, large = wide(3, 512), wide(4, 512)
    assert smallest_words(fitting, fitting.by_name["t"]) == 13824
    assert oversized(fitting, budget) == ()
    assert [layer.name for layer in oversized(large, budget)] == ["t"]
    summed = with_partial_sums(large, budget)
    parts = [layer.name for layer in summed.layers if layer.role is Role.PARTIAL]
    assert parts == [f"t | part {index}" for index in range(4)]
    assert [link.source for link in summed.into("t")] == parts
    assert [[link.source for link in summed.into(part)] for part in parts] == [[f"s{i}"] for i in range(4)]
    layout = place_network(large, budget)
    assert all(placement.fits for placement in layout.placements)
    assert layout.cores_by_role()[Role.PARTIAL] == 4 * 32  # 16 channels of 512 in a core: 3 words, 13824


def test_a_single_projection_that_is_too_large_is_cut_by_its_inputs() -> None:
    network = wide(1, 2048)  # 2048 x 9 = 18432 words for one channel
    summed = with_partial_sums(network, Budget())
    assert [link.inputs for part in ("t | part 0", "t | part 1") for link in summed.into(part)] == [1024, 1024]


def test_half_the_channels() -> None:
    network = narrowed(network_of(skips()), 0.5, frozenset({"out"}))
    shapes = {layer.name: layer.shape for layer in network.layers}
    assert shapes == {**dict.fromkeys("abcd", (2, 8, 8)), "out": (4, 8, 8)}
    first, last = network.into("a")[0], network.into("out")[0]
    assert (first.inputs, first.outputs, last.inputs, last.outputs) == (1, 2, 2, 4)


def test_relays_carry_what_two_layers_hear() -> None:
    """d hears a, b, c; c hears a, b: the sum of a and b is made once."""
    network = relayed(network_of(skips()))
    assert [layer.name for layer in network.layers] == ["a", "b", "c | stream", "c", "d", "out"]
    assert {link.source for link in network.into("c | stream")} == {"a", "b"}
    assert {link.source for link in network.into("d")} == {"c", "c | stream"}
    assert [(link.groups, link.kernel) for link in network.into("c")] == [(4, (1, 1))]


def test_nothing_is_relayed_in_a_chain() -> None:
    network = network_of(chain())
    assert relayed(network) == network


def test_programs_with_every_field_are_placed() -> None:
    layout = place(every_field())
    assert {placement.layer.population for placement in layout.placements} == {"in", "clock", "a", "r", "out", "y"}
    assert all(placement.fits for placement in layout.placements)


def test_groups_store_their_own_channels_only() -> None:
    """Depthwise: one word for each channel in the core, where a full kernel has one for each source channel."""
    lif = Lif("a", (4, 4, 4), 1, 4095, 0, np.zeros(4, dtype=np.int16), 0)
    weight = np.arange(-2, 2, dtype=np.int8).reshape(4, 1, 1, 1)
    program = dataclasses.replace(chain(), input=Input("in", (4, 4, 4), 4, 1.0), populations=(lif,), projections=())
    grouped = dataclasses.replace(program, projections=(Conv("w", "in", "a", weight, 1, groups=4),))
    full = dataclasses.replace(program, projections=(Conv("w", "in", "a", kernel(4, 4), 1, padding=(1, 1)),))
    assert place(grouped).placements[0].used["synapse_words"] == 4
    assert place(full).placements[0].used["synapse_words"] == 36
