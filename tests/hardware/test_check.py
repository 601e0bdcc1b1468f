"""Checks of Programs and pipelines, boards, limits, proposals."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from spikegen.errors import ConfigError
from spikegen.hardware.loihi2 import (
    BOARDS,
    LIMITS,
    RULES,
    Budget,
    check_pipeline,
    check_program,
    find_board,
    place,
    propose,
    smallest_board,
)
from spikegen.program import Program
from tests.hardware.programs import chain, conv, lif, program, skips
from tests.program.examples import changed, token_diffusion

PAGE = (Path(__file__).parents[2] / "docs" / "loihi2.md").read_text(encoding="utf-8")


def sddpm(channels: int = 128, size: int = 16) -> Program:
    """A stand-in for SDDPM: on one level, six layers of which each hears all before it, as a composed stream does."""
    base = skips(channels, size)
    names = "abcdef"
    pairs = [(a, b) for index, b in enumerate(names) for a in names[:index]]
    populations = tuple(lif(name, channels, size) for name in names)
    inner = tuple(conv(a, b, channels, channels) for a, b in pairs)
    first, last = conv("in", "a", 1, channels), conv("f", "out", channels, channels)
    return program((*populations, base.populations[-1]), (first, *inner, last), size)


def test_a_small_network_fits_the_smallest_board() -> None:
    found = check_program(skips(), find_board("oheogulch"))
    assert found.fits
    assert found.violations == ()
    assert propose(found, find_board("oheogulch")) == ()


def test_the_networks_of_a_pipeline_take_turns() -> None:
    found = check_pipeline(token_diffusion(), BOARDS["oheogulch"])
    assert list(found.networks) == ["encoder", "denoiser", "decoder"]
    assert found.fits
    assert found.together == sum(network.layout.cores for network in found.networks.values())


def test_one_network_that_does_not_fit_refuses_the_pipeline() -> None:
    pipeline = token_diffusion()
    worse = dataclasses.replace(pipeline.network("decoder"), timesteps=3)
    found = check_pipeline(
        dataclasses.replace(pipeline, networks={**pipeline.networks, "decoder": worse}), BOARDS["vpx"]
    )
    assert not found.fits
    assert {role: network.fits for role, network in found.networks.items()} == {
        "encoder": True,
        "denoiser": True,
        "decoder": False,
    }


def test_a_large_network_fits_a_larger_board() -> None:
    large = sddpm()
    small = check_program(large, BOARDS["oheogulch"])
    chips = small.layout.chips
    assert {violation.rule for violation in small.violations} >= {"board_cores", "host_io"}
    enough = smallest_board(chips)
    assert enough is not None
    assert enough.chips >= chips > 1
    again = check_program(large, enough)
    assert "board_cores" not in {violation.rule for violation in again.violations}
    assert again.layout.cores == small.layout.cores


def test_what_would_fit_is_proposed() -> None:
    large = sddpm()
    board = BOARDS["oheogulch"]
    found = check_program(large, board)
    proposals = {proposal.change: proposal for proposal in propose(found, board)}
    enough = smallest_board(found.layout.chips)
    assert enough is not None
    other = proposals[f"--board {enough.name} ({enough.title}, {enough.chips} chips)"]
    assert other.fits
    assert other.effect.startswith(f"{found.layout.cores} cores on {found.layout.chips} chips")
    assert "cuts between chips before " in other.effect
    (relays,) = [proposal for change, proposal in proposals.items() if change.startswith("relays in place")]
    assert int(relays.effect.split()[0]) < found.layout.cores
    widths = [proposal for change, proposal in proposals.items() if "of the channels" in change]
    assert len(widths) == 2
    assert all(proposal.fits for proposal in widths)


def test_the_proposed_width_fits_and_the_next_does_not() -> None:
    board = BOARDS["oheogulch"]
    found = check_program(sddpm(), board)
    (change,) = [p.change for p in propose(found, board) if re.fullmatch(r"[\d.]+ of the channels", p.change)]
    factor = float(change.split()[0])
    wide = {0.75: 1.0, 0.5: 0.75, 0.375: 0.5, 0.25: 0.375, 0.1875: 0.25, 0.125: 0.1875}[factor]
    for share, fits in ((factor, True), (wide, False)):
        layout = place(sddpm(round(128 * share)))
        assert (layout.cores <= 120) == fits


def test_the_timesteps_on_both_sides_are_proposed() -> None:
    odd = changed(dataclasses.replace(chain(), timesteps=6), "out", weights=np.ones(6), bias=np.zeros(4))
    changes = [proposal.change for proposal in propose(check_program(odd, BOARDS["vpx"]), BOARDS["vpx"])]
    assert changes == ["T = 4 in place of 6", "T = 8 in place of 6"]


def test_partial_sums_make_another_board_a_rewrite() -> None:
    budget = Budget(synapse_words=72 * 9, cores_per_chip=2)
    found = check_program(skips(36), BOARDS["oheogulch"], budget)
    assert "fan_in" in {violation.rule for violation in found.violations}
    (board,) = [p for p in propose(found, BOARDS["oheogulch"]) if p.change.startswith("--board")]
    assert not board.fits
    assert "partial sums that the Program does not have yet" in board.effect


def test_no_board_is_large_enough() -> None:
    assert smallest_board(1152) == BOARDS["halapoint"]
    assert smallest_board(1153) is None
    assert smallest_board(1) == BOARDS["oheogulch"]
    assert smallest_board(9) == BOARDS["vpx"]
    tiny = Budget(neurons=1, cores_per_chip=1)
    found = check_program(skips(4, 32), BOARDS["halapoint"], tiny)
    assert "no board has so many" in found.violations[-2].hint
    assert any("no board is large enough" in proposal.effect for proposal in propose(found, BOARDS["halapoint"]))


def test_an_unknown_board_is_an_error_that_names_all() -> None:
    with pytest.raises(ConfigError, match=r"there is no board 'kapoho'; .*oheogulch \(1\).*halapoint \(1152\)"):
        find_board("kapoho")


def test_every_figure_has_a_source() -> None:
    assert [board.chips for board in BOARDS.values()] == [1, 8, 16, 32, 1152]
    sources = [limit.source for limit in LIMITS.values()] + [board.source for board in BOARDS.values()]
    assert min(map(len, sources)) > 15


def test_limits_boards_and_rules_are_on_their_page() -> None:
    for name, limit in LIMITS.items():
        row = re.search(rf"^\| `{name}` \| (-?[\d,]+) \|", PAGE, re.MULTILINE)
        assert row is not None, name
        assert int(row[1].replace(",", "")) == limit.value
        assert limit.certainty.name.lower() in PAGE
    for name, board in BOARDS.items():
        assert re.search(rf"^\| `{name}` \| {board.title} \| {board.chips:,} \|", PAGE, re.MULTILINE), name
    for name in RULES:
        assert f"| `{name}` |" in PAGE
