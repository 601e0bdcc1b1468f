"""Model files: those that ship, and those of strangers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from spikegen.cli.report import _MODELS, report
from spikegen.energy import MAPPED, MODELS, OPERATIONS, TIME_MODELS, read_model, template
from spikegen.energy.builtin import FILES, FOLDER
from spikegen.energy.mapped import TIMED
from spikegen.energy.model_file import FILE_BYTES_MAX
from spikegen.errors import ConfigError
from spikegen.program import save
from tests.runtime.programs import tiny

GOOD = """
format = "spikegen-model"
version = 1
name = "mine"
title = "Mine"

[energy]
not_billed = "everything else"

[[energy.price]]
operation = "binary_synops"
value = [1, 2.5]
unit = "pJ"
meaning = "an addition"
source = "a bench"
certainty = "measured"

[time]
left_out = "everything else"

[[time.duration]]
operation = "timesteps"
value = 7
unit = "ns"
meaning = "a barrier"
source = "a bench"
certainty = "measured"
"""
ANN = """
[[energy.price]]
operation = "ann_macs"
value = 4
unit = "pJ"
meaning = "a MAC"
source = "a bench"
certainty = "measured"
"""


@pytest.fixture
def pipeline_file(tmp_path: Path) -> Path:
    save(tiny(), tmp_path / "tiny.h5")
    return tmp_path / "tiny.h5"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "my.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_what_it_says(tmp_path: Path) -> None:
    found = read_model(write(tmp_path, GOOD.replace("\n[time]", f"{ANN}\n[time]")))
    assert found.name == "mine"
    assert found.energy is not None
    assert found.time is not None
    assert [(p.operation, p.low, p.high, p.unit) for p in found.energy.prices] == [("binary_synops", 1.0, 2.5, "pJ")]
    assert found.energy.ann_mac == 4.0
    assert found.energy.not_billed == "everything else"
    assert found.time.time({"timesteps": 3, "spikes": 5}) == (21.0, 21.0)
    assert found.time.checked == ""


def test_what_ships_is_named_as_its_file_and_priced_once() -> None:
    assert set(FILES) == set(_MODELS) == {path.stem for path in FOLDER.glob("*.toml")}
    for stem, file in FILES.items():
        assert file.name == stem
    assert set(MODELS) == {"davies2018_loihi1", "horowitz45_fp32", "horowitz45_int8", "sanafe_loihi1"}
    assert set(TIME_MODELS) == {"davies2018_loihi1", "loihi2_n3b3", "sanafe_loihi1"}
    for constants in (*(m.prices for m in MODELS.values()), *(t.durations for t in TIME_MODELS.values())):
        assert {c.operation for c in constants} <= {*OPERATIONS, *MAPPED}
        assert all(0 < c.low <= c.high for c in constants)


def test_the_figures_that_ship_are_those_of_their_sources() -> None:
    def figures(name: str, time: bool = False) -> dict[str, tuple[float, float]]:
        constants = TIME_MODELS[name].durations if time else MODELS[name].prices
        return {c.operation: (c.low, c.high) for c in constants}

    # M. Horowitz, ISSCC 2014: additions of 8 and 32 bits 0.03 and 0.1 pJ, multiplication of 8 bits 0.2 pJ
    assert figures("horowitz45_int8") == {
        "binary_synops": (0.03, 0.1),
        "graded_synops": (0.23, 0.3),
        "analog_macs": (0.23, 0.3),
    }
    # SANA-FE, arch/loihi.yaml at commit 8951ab0: dense, sparse and convolution
    energy, time = figures("sanafe_loihi1"), figures("sanafe_loihi1", time=True)
    assert [energy[f"{form}_synops"][0] for form in ("dense", "added", "conv")] == [35.5, 33.6, 24.0]
    assert [time[f"{form}_synops"][0] for form in ("dense", "added", "conv")] == [3.8, 4.7, 3.1]
    assert list(energy["neuron_updates"]) == pytest.approx([51.2, 51.2 + 21.6])
    assert list(time["neuron_updates"]) == pytest.approx([6.0, 6.0 + 3.7])
    assert (energy["spikes"][0], energy["messages"][0], time["spikes"][0]) == (69.3, 111.0, 30.0)
    assert (energy["hops_east_west"][0], energy["hops_north_south"][0]) == (3.0, 4.2)
    assert time["timesteps"] == (600.0, 1800.0)
    # Davies 2018, table 2
    energy, time = figures("davies2018_loihi1"), figures("davies2018_loihi1", time=True)
    assert (energy["binary_synops"][0], energy["neuron_updates"]) == (23.6, (52.0, 81.0))
    assert [energy[name][0] for name in ("tile_messages", "hops_east_west", "hops_north_south")] == [1.7, 3.0, 4.0]
    assert (time["conv_synops"][0], time["neuron_updates"], time["timesteps"]) == (3.5, (5.3, 8.4), (113.0, 465.0))


@pytest.mark.parametrize("name", FILES)
def test_a_template_is_the_model_under_another_name(name: str, tmp_path: Path) -> None:
    found = read_model(write(tmp_path, template(name)))
    assert found.name == f"my_{name}"
    for mine, theirs in ((found.energy, FILES[name].energy), (found.time, FILES[name].time)):
        assert (mine is None) == (theirs is None)
    if found.energy is not None:
        assert found.energy.prices == MODELS[name].prices
    if found.time is not None:
        assert found.time.durations == TIME_MODELS[name].durations


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("spikegen-model", "other", r"format: this is no model file"),
        ("version = 1", "version = 2", r"version: it is 2, this spikegen reads version 1"),
        ("version = 1", "version = true", r"version: it is True"),
        ('name = "mine"', 'name = "My model"', r"name: 'My model' must be at most 64 of a-z"),
        ('name = "mine"', "name = 3", r"name: it must be one line of printable text"),
        ('title = "Mine"', 'title = "a\\u001b[31mb"', r"title: it must be one line of printable text"),
        ('title = "Mine"', 'colour = "red"\ntitle = "Mine"', r"colour: unknown key; known are format, version, name"),
        ('title = "Mine"', '"\\u001b" = 1\ntitle = "Mine"', r"\\x1b: unknown key"),
        ('title = "Mine"\n', "", r"title: missing"),
        (
            'source = "a bench"\ncertainty = "measured"\n\n[time]',
            'certainty = "x"\n\n[time]',
            r"energy\.price\[0\]\.source: missing",
        ),
        ('meaning = "an addition"', 'meaning = " "', r"energy\.price\[0\]\.meaning: it must be one line"),
        ('"binary_synops"', '"loihi2_synops"', r"energy\.price\[0\]\.operation: 'loihi2_synops' is none of spikes"),
        ('unit = "pJ"', 'unit = "nJ"', r"energy\.price\[0\]\.unit: it is 'nJ', it must be 'pJ'"),
        ('unit = "ns"', 'unit = "us"', r"time\.duration\[0\]\.unit: it is 'us', it must be 'ns'"),
        ('"timesteps"', '"hops_east_west"', r"time\.duration\[0\]\.operation: 'hops_east_west' is none of conv_synops"),
        ("[1, 2.5]", "-1", r"energy\.price\[0\]\.value: it must be from 0 to 1e\+12"),
        ("[1, 2.5]", "nan", r"value: it must be from 0"),
        ("[1, 2.5]", "inf", r"value: it must be from 0"),
        ("[1, 2.5]", "1e400", r"value: it must be from 0"),
        ("[1, 2.5]", "1" + "0" * 400, r"value: it must be from 0"),
        ("[1, 2.5]", "[1, -0.5]", r"value: it must be from 0"),
        ("[1, 2.5]", "[2.5, 1]", r"value: the least, 2\.5, is above the greatest, 1"),
        ("[1, 2.5]", "[1, 2, 3]", r"value: it must be a number or two"),
        ("[1, 2.5]", "true", r"value: it must be a number or two"),
        ("[1, 2.5]", '"1"', r"value: it must be a number or two"),
        ("[energy]", "[energy]\nsource = 1", r"energy\.source: unknown key; known are not_billed, price"),
        ('not_billed = "everything else"', "", r"energy\.not_billed: missing"),
        ("[[energy.price]]", "[energy.price]", r"energy\.price: at least one \[\[energy\.price\]\] is needed"),
        ("[1, 2.5]", "[1, 2.5", r"not a TOML file"),
        ("[1, 2.5]", "[" * 3000 + "]" * 3000, r"not a TOML file"),
        ("[1, 2.5]", "1" * 5000, r"not a TOML file"),
    ],
)
def test_a_bad_file_is_one_error_that_names_file_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message) as caught:
        read_model(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_an_operation_is_priced_once_and_synaptic_operations_in_one_way(tmp_path: Path) -> None:
    price = ANN.replace("ann_macs", "binary_synops")
    with pytest.raises(ConfigError, match=r"energy\.price: binary_synops is there 2 times"):
        read_model(write(tmp_path, GOOD.replace("\n[time]", f"{price}\n[time]")))
    for other in ("conv_synops", "graded_synops_effective"):
        price = ANN.replace("ann_macs", other)
        with pytest.raises(ConfigError, match=f"binary_synops beside {other}|{other} beside binary_synops"):
            read_model(write(tmp_path, GOOD.replace("\n[time]", f"{price}\n[time]")))
    ranged = ANN.replace("value = 4", "value = [4, 5]")
    with pytest.raises(ConfigError, match="ann_macs has a range"):
        read_model(write(tmp_path, GOOD.replace("\n[time]", f"{ranged}\n[time]")))


def test_a_file_needs_a_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"energy: the file has neither \[energy\] nor \[time\]"):
        read_model(write(tmp_path, GOOD[: GOOD.index("[energy]")]))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read: No such file"):
        read_model(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="a model file is an ordinary file"):
        read_model(tmp_path)
    large = write(tmp_path, GOOD + "#" * FILE_BYTES_MAX)
    with pytest.raises(ConfigError, match=f"a model file has at most {FILE_BYTES_MAX}"):
        read_model(large)
    large.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not a TOML file"):
        read_model(large)


def test_every_timed_operation_can_be_timed(tmp_path: Path) -> None:
    for name in TIMED:
        found = read_model(write(tmp_path, GOOD.replace('"timesteps"', f'"{name}"')))
        assert found.time is not None
        assert found.time.durations[0].operation == name


def test_the_command_line_writes_and_reads_models(tmp_path: Path, pipeline_file: Path) -> None:
    written = _run("--write-model", "horowitz45_int8")
    assert written.exit_code == 0
    path = write(tmp_path, written.stdout.replace("value = [0.03, 0.1]", "value = 1000"))
    result = _run(pipeline_file, "-n", 1, "--steps", 1, "--energy-model", path, "--json", "-")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    synops = document["per_sample"]["binary_synops"]
    energy = document["energy"]["my_horowitz45_int8"]["per_sample"]["items"]["binary_synops"]
    assert energy == {"low_pj": 1000 * synops, "high_pj": 1000 * synops}
    assert document["models"]["my_horowitz45_int8"]["prices"][0]["source"].startswith("M. Horowitz")
    assert _run("--write-model", "loihi2").exit_code == 2


def test_a_model_of_a_taken_name_is_refused(tmp_path: Path, pipeline_file: Path) -> None:
    taken = write(tmp_path, GOOD.replace('"mine"', '"horowitz45_fp32"'))
    result = _run(pipeline_file, "--energy-model", taken)
    assert isinstance(result.exception, ConfigError)
    assert "there is a model 'horowitz45_fp32' already" in str(result.exception)
    mine = write(tmp_path, GOOD)
    result = _run(pipeline_file, "--energy-model", mine, "--energy-model", mine)
    assert isinstance(result.exception, ConfigError)
    assert "there is a model 'mine' already" in str(result.exception)


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(report, [str(a) for a in arguments], env={"COLUMNS": "200"})
