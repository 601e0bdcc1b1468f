"""`spikegen inspect` of projections with gains and of a readout with a tail."""

from pathlib import Path

import pytest

from spikegen.program import Pipeline, Standalone, save
from tests.cli.commands import succeed, summary
from tests.program.examples import every_field


def test_payloads_and_tails_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = every_field()
    save(Pipeline("all", Standalone(), {"network": program}), "all.h5")
    found = summary("inspect", "all.h5")["networks"]["network"]
    rows = {row["name"]: row for row in found["projections"]}
    gained = [p for p in program.projections if p.gains.size]
    assert gained
    for projection in program.projections:
        bits = program.payload_bits(projection)
        assert rows[projection.name]["payload"] == (f"{bits} bit" if bits else "binary")
        assert rows[projection.name]["gains"] == (projection.gains.tolist() or None)
    tailed = [readout.name for readout in program.readouts() if readout.tail is not None]
    assert tailed
    assert [row["name"] for row in found["populations"] if row["tail"] == "SwishTail"] == tailed
    assert f"{tailed[0]}: the host goes on with a SwishTail" in succeed("inspect", "all.h5").stdout
