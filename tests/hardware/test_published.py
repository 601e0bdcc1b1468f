"""Predictions beside the layer tables that Intel's compiler printed."""

from __future__ import annotations

import pytest

from spikegen.hardware.loihi2.layout import Layout, place_network
from spikegen.hardware.loihi2.memory import dense_words
from tests.hardware.published import MNIST, OXFORD, PILOTNET_LIF, PILOTNET_SDNN, TABLES, YOLO_KP, Table, network

EXACT = (PILOTNET_SDNN, PILOTNET_LIF, MNIST, YOLO_KP)


def placed(table: Table) -> Layout:
    return place_network(network(table), table.budget)


@pytest.mark.parametrize("table", EXACT, ids=lambda table: table.name)
def test_every_layer_has_the_published_number_of_cores(table: Table) -> None:
    layout = placed(table)
    assert [p.cores for p in layout.placements] == [row.cores for row in table.rows]
    assert layout.cores == table.cores
    assert layout.oversized == ()
    assert all(p.fits for p in layout.placements)


def test_oxford_is_one_core_off() -> None:
    """The old compiler cut the layer of 200 axons and 256 neurons into three; two parts of 8200 words fit 12000."""
    layout = placed(OXFORD)
    assert [p.cores for p in layout.placements] == [2, 2]
    assert [row.cores for row in OXFORD.rows] == [3, 2]
    assert layout.placements[0].used["synapse_words"] == 8200


@pytest.mark.parametrize("table", [PILOTNET_SDNN, PILOTNET_LIF, YOLO_KP], ids=lambda table: table.name)
def test_a_core_of_a_convolution_has_the_published_words_and_neurons(table: Table) -> None:
    compared = 0
    for row, placement in zip(table.rows, placed(table).placements, strict=True):
        if row.tile is not None:
            assert placement.used["synapse_words"] == row.words
            channels, height, width = row.tile
            assert placement.tile[0] == channels
            assert placement.used["neurons"] == (row.neurons or channels * height * width)
            compared += 1
    assert compared > 4


def test_the_tiles_of_pilotnet_are_the_published_ones() -> None:
    for row, placement in zip(PILOTNET_SDNN.rows, placed(PILOTNET_SDNN).placements, strict=True):
        assert row.tile in (placement.tile, None)


@pytest.mark.parametrize("table", [PILOTNET_SDNN, PILOTNET_LIF], ids=lambda table: table.name)
def test_a_split_dense_layer_has_the_published_mean_of_words(table: Table) -> None:
    """100 neurons behind 2560 axons: eleven cores of nine and one of one; the log rounds down."""
    row, placement = next(
        pair for pair in zip(table.rows, placed(table).placements, strict=True) if pair[0].link.target == "d1"
    )
    assert placement.pieces(0)[-1] == (99, 100)
    sizes = [end - begin for begin, end in placement.pieces(0)]
    words = sum(2560 * dense_words(size, row.link.bits) for size in sizes)
    assert words // placement.cores == row.words


def test_unsplit_dense_layers_have_the_published_words() -> None:
    found = {}
    for table in TABLES:
        for row, placement in zip(table.rows, placed(table).placements, strict=True):
            if placement.cores == row.cores == 1 and row.tile is None:
                found[table.name, row.link.target] = (placement.used["synapse_words"], row.words)
    assert len(found) == 8
    assert all(predicted == published for predicted, published in found.values())


def test_the_share_of_memory_is_the_published_column_total() -> None:
    """MNIST: 1.71, 14.72 and (with the compiler's 50 neurons in the fullest core, here 43) 67.14 %."""
    shares = [p.shares["memory"] for p in placed(MNIST).placements]
    assert shares[2] == pytest.approx(0.0171, abs=2e-4)  # printed to 0.01 %
    assert shares[1] == pytest.approx(0.1472, abs=2e-4)
    fullest = MNIST.budget.shares(
        {"neurons": 50, "synapse_words": 12544, "axon_in": 784, "axon_map": 50, "axon_mem": 0}
    )
    assert fullest["memory"] == pytest.approx(0.6714, abs=2e-4)
