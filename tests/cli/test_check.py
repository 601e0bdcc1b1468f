"""`spikegen check` as a user runs it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from click.testing import CliRunner

from spikegen.cli import main
from spikegen.cli._lazy import EXIT_ERROR
from spikegen.program import Pipeline, Program, Standalone, save
from tests.cli.commands import refuse, run, succeed, summary
from tests.hardware.programs import skips
from tests.program.examples import changed, token_diffusion

pytestmark = pytest.mark.usefixtures("working_folder")


def store(program: Program, name: str = "net.h5") -> str:
    save(Pipeline("net", Standalone(), {"network": program}), name)
    return name


def test_a_network_that_fits() -> None:
    text = succeed("check", store(skips())).stdout
    assert "network: 8 of 120 cores of Oheo Gulch (5 for populations, 3 for delays), 1 chip" in text
    assert "fits Oheo Gulch (1 chip)" in text
    for population in ("a", "b", "c", "d", "out"):
        assert f"│ {population} " in text


def test_a_table_in_a_pipe_keeps_its_lines_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal nothing gives a width; 80 columns would cut words."""
    monkeypatch.delenv("COLUMNS", raising=False)
    name = "a_population_with_a_name_of_many_words_" * 2
    program = skips()
    renamed = dataclasses.replace(
        program,
        populations=tuple(dataclasses.replace(p, name=name) if p.name == "a" else p for p in program.populations),
        projections=tuple(
            dataclasses.replace(
                p, source=name if p.source == "a" else p.source, target=name if p.target == "a" else p.target
            )
            for p in program.projections
        ),
    )
    text = CliRunner().invoke(main, ["check", store(renamed)]).output
    (line,) = (line for line in text.splitlines() if f" {name} " in line)
    assert line.endswith("│")


def test_columns_that_say_nothing_are_left_out() -> None:
    (heading,) = (line for line in succeed("check", store(skips())).stdout.splitlines() if "population " in line)
    assert "delays" in heading
    assert "sums" not in heading  # no partial sums
    assert "chips" not in heading  # all on one


def test_everything_as_json() -> None:
    found = summary("check", store(skips()), "--board", "kapohopoint")
    assert found["fits"] is True
    assert found["board"]["chips"] == 8
    network = found["networks"]["network"]
    assert network["cores"] == sum(row["cores"] for row in network["placements"]) == 8
    assert network["cores_available"] == 960
    assert (network["chips"], network["smallest_board"]) == (1, "oheogulch")
    assert network["violations"] == []
    assert network["proposals"] is None
    row = network["placements"][0]
    assert (row["layer"], row["population"], row["role"], row["tile"]) == ("a", "a", "population", [4, 8, 8])
    assert row["shares"][row["bottleneck"]] == max(row["shares"].values())


def test_the_networks_of_a_pipeline_and_their_sum() -> None:
    save(token_diffusion(), "tokens.h5")
    text = succeed("check", "tokens.h5").stdout
    for role in ("encoder", "denoiser", "decoder"):
        assert f"{role}: 1 of 120 cores" in text
    assert "all networks at the same time: 3 cores" in text


def test_violations_are_listed_and_the_exit_code_is_1() -> None:
    name = store(changed(skips(), "a>d", exponent=12))
    result = run("check", name)
    assert result.exit_code == EXIT_ERROR
    assert "weight_range: a>d: weight exponent 11, limit 7; use a smaller exponent" in result.stdout
    assert "does not fit Oheo Gulch (1 chip)" in result.stdout
    assert "Error" not in result.output


def test_a_network_that_is_too_large_gets_a_board_and_proposals() -> None:
    name = store(skips(64, 32))
    result = run("check", name, "--fix")
    assert result.exit_code == EXIT_ERROR
    assert "board_cores: cores 256, limit 120; 3 chips of 120 cores, Kapoho Point (8 chips) has enough" in result.stdout
    assert "would fit: --board kapohopoint (Kapoho Point, 8 chips): 256 cores on 3 chips" in result.stdout
    assert "of the channels: " in result.stdout
    assert "between chips, if every neuron sends: " in result.stdout
    assert "would fit" not in run("check", name).stdout


def test_proposals_are_in_the_json() -> None:
    steps = dataclasses.replace(skips(), timesteps=6)
    name = store(changed(steps, "out", weights=[1.0] * 6, bias=[0.0] * 4))
    result = run("check", name, "--fix", "--json")
    assert result.exit_code == EXIT_ERROR
    assert '"rule": "reset_period"' in result.stdout
    assert '"change": "T = 8 in place of 6"' in result.stdout


def test_an_unknown_board_is_one_error() -> None:
    refuse(
        1,
        "there is no board 'loihi3'; boards and their chips: oheogulch (1), ",
        "check",
        store(skips()),
        "--board",
        "loihi3",
    )


def test_a_program_with_an_unsupported_rule_is_one_line() -> None:
    """Gains that change with the timestep (SDM's TSM) have no stock process on the chip."""
    result = run("check", store(changed(skips(), "a>b", gains=[1, 2, 3, 3])))
    assert result.exit_code == EXIT_ERROR
    lines = [line for line in result.stdout.splitlines() if line.startswith("constant_gains: ")]
    assert len(lines) == 1
    assert lines[0].startswith("constant_gains: a>b: gains over the timesteps 3, limit 1; train without temporal gains")


def test_a_file_that_is_none_is_one_error() -> None:
    Path("net.h5").write_bytes(b"no pipeline")
    refuse(1, "net.h5", "check", "net.h5")
