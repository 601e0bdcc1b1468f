"""The page of `spikegen report --html`, read without a browser."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from spikegen.energy.units import compact, count, joules, joules_range, seconds
from spikegen.report import Picture, html_page
from spikegen.report.cores import CELL, CHIPS_MAX, COLUMNS, CORE, cores
from spikegen.report.figures import ROWS_MAX
from spikegen.runtime import grid
from spikegen.runtime.images import png_bytes
from tests.report.reading import IMAGES, STEPS, Page, write_page, write_run

ATTACK = "</title></svg><script>alert(1)</script><img src=x onerror='alert(2)'>"


def read_apart(low: float, high: float, text: Callable[[float], str]) -> list[float]:
    """What a table shows of a range: both ends, or the lower one if they read the same."""
    return [low] if text(low) == text(high) else [low, high]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, its page and its JSON data."""
    found = tmp_path_factory.mktemp("page")
    write_run(found)
    images = np.linspace(-1, 1, IMAGES * 24).reshape(IMAGES, 1, 4, 6)
    np.save(found / "samples.npy", images)
    (found / "samples.png").write_bytes(png_bytes(grid(images)))
    write_page(found, "--samples", found / "samples.npy")
    return found


@pytest.fixture(scope="module")
def source(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


@pytest.fixture
def document(folder: Path) -> Any:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def test_every_table_of_a_network_has_the_numbers_of_the_json(page: Page, document: Any) -> None:
    assert list(document["networks"]) == ["denoiser", "decoder"]
    for role, network in document["networks"].items():
        evaluations, steps = network["evaluations"], len(network["diffusion_steps"])
        macs = network["ann_macs_per_evaluation"]
        operations = [[network["per_evaluation"][name], network["per_sample"][name]] for name in network["total"]]
        assert page.numbers(f"{role}-operations") == [*operations, [macs, macs * steps]]
        projections = [
            [p[key] / evaluations for key in ("events", "stored", "effective", "delayed")]
            for p in network["projections"]
        ]
        assert page.numbers(f"{role}-projections") == projections
        for (name, numbers), node in zip(page.tables[f"{role}-populations"], network["nodes"], strict=True):
            assert (name, numbers[0]) == (node["name"], node["neurons"])
            into = sum(p["stored"] for p in network["projections"] if p["target"] == name)
            assert numbers[-1] == pytest.approx(into / evaluations)
            if node["kind"] != "Readout":
                assert numbers[1] == node["events"] / evaluations
                assert numbers[2] == node["events"] / (node["neurons"] * network["program"]["timesteps"] * evaluations)
        assert page.numbers(f"{role}-formula") == [
            [network["formula"][per][part] for per in ("per_evaluation", "per_sample")]
            for part in network["formula"]["per_sample"]
        ]
    names = ("spikes", "binary_synops", "graded_synops", "analog_macs", "bias_adds")
    assert page.numbers("denoiser-steps") == [
        [step["step"], *(step["total"][name] / IMAGES for name in names)]
        for step in document["networks"]["denoiser"]["steps"]
    ]
    assert "decoder-steps" not in page.tables  # it runs once


def test_energies_and_prices_have_the_numbers_of_the_json(page: Page, document: Any) -> None:
    rows = iter(page.numbers("energy"))
    for name in document["models"]:
        parts = [*(network["energy"][name] for network in document["networks"].values()), document["energy"][name]]
        ends = [(part["per_sample"]["low_pj"], part["per_sample"]["high_pj"]) for part in parts]
        assert next(rows) == [end for both in ends for end in read_apart(*both, joules)]
        anns = [part["ann_per_sample_pj"] for part in parts]
        if None not in anns:
            assert next(rows) == anns
            ratios = [(low / ann, high / ann) for (low, high), ann in zip(ends, anns, strict=True)]
            assert next(rows) == [end for both in ratios for end in read_apart(*both, "{:.1%}".format)]
    assert next(rows, None) is None
    cost = document["generator"]
    for name, numbers in page.tables["generator"]:
        assert numbers == [side[name] for side in (cost["chip"], cost["lookup"]) if name in side]
    for model in (*document["models"].values(), *document["time_models"].values()):
        assert model["title"] in page.text
        for constant in model.get("prices", model.get("durations")):
            assert constant["source"] in page.text
    items = [item for name in document["models"] for item in document["energy"][name]["per_sample"]["items"].values()]
    costs = [(item["low_pj"], item["high_pj"]) for item in items if item["high_pj"]]
    assert [row[:-1] for row in page.numbers("energy-shares")] == [read_apart(*both, joules) for both in costs]


def test_times_loads_and_messages_have_the_numbers_of_the_json(page: Page, document: Any) -> None:
    for row, name in zip(page.numbers("time"), document["time_models"], strict=True):
        found = document["time"][name]
        ranges = [network["time"][name]["timestep_ns"] for network in document["networks"].values()]
        ranges += [found["sample_alone_ns"], found["sample_streamed_ns"]]
        assert row == [end for both in ranges for end in read_apart(both["low"], both["high"], seconds)]
    for role, network in document["networks"].items():
        mapping = network["mapping"]
        both = [[mapping[per][name] for per in ("per_evaluation", "per_sample")] for name in mapping["per_sample"]]
        assert page.numbers(f"{role}-mapped") == both
        for (name, numbers), layer in zip(page.tables[f"{role}-loads"], mapping["layers"], strict=True):
            load = layer["fullest_core_per_timestep"]
            assert (name, numbers[0]) == (layer["layer"], layer["cores"])
            assert numbers[-2:] == [load["messages"], load["messages_in"]]
            assert numbers[1] == load["neuron_updates"] + load["added_updates"]
            assert numbers[2] == load["conv_synops"] + load["dense_synops"] + load["added_synops"]


def test_what_was_measured_is_shown_with_its_signs(document: Any) -> None:
    power = {"total_w": 1.5, "static_w": 1.75, "dynamic_w": -0.25}
    run = {"images": 2, "timesteps": 40}
    network = {
        "time": {"kind": "time", **run, "values": {"execution_s": 0.5}, "machine": {"board": "<ncl>"}},
        "power": {"kind": "power", **run, "values": power, "machine": {"board": "<ncl>"}},
        "per_evaluation": {"seconds": 0.25, "total_j": 0.375, "static_j": 0.4375, "dynamic_j": -0.0625},
    }
    meanings = {"time": {"execution_s": "the whole run [s]"}, "power": {name: f"{name} [W]" for name in power}}
    sample = {name: 4 * value for name, value in network["per_evaluation"].items()}  # type: ignore[attr-defined]
    document["measured"] = {"definitions": meanings, "networks": {"denoiser": network}, "per_sample": sample}
    found = Page(html_page(document))
    figures = [[0.25, 1.0], [0.375, 1.5], [0.4375, 1.75], [-0.0625, -0.25]]
    assert found.numbers("measured") == [*figures, [0.5], [1.5], [1.75], [-0.25]]
    assert "board: <ncl>" in found.text
    assert "measured" not in Page(html_page({**document, "measured": None})).attributes("id")


def test_the_cores_are_those_of_the_check(page: Page, document: Any) -> None:
    for role, network in document["check"]["networks"].items():
        drawn = sum(numbers[0] for numbers in page.numbers(f"{role}-cores"))
        assert drawn == network["cores_by_role"]["population"]
        shares = {p["layer"]: p["shares"][p["bottleneck"]] for p in network["placements"]}
        for name, numbers in page.tables[f"{role}-cores"]:
            assert numbers[-1] == shares[name.split()[-1]]
    total = sum(network["cores"] for network in document["check"]["networks"].values())
    keys = len(document["check"]["networks"])
    assert page.count("rect", "core") == total + keys  # one in each key
    assert page.count("rect", "idle") == 120 * keys - total + keys


def test_provenance_and_run_are_on_the_page(page: Page, document: Any) -> None:
    found = document["pipeline"]["digest"], "absorbing", f"x {STEPS} steps", f"{IMAGES} samples"
    for text in found:
        assert text in page.text


def test_every_picture_is_in_the_page_and_says_what_it_shows(page: Page, folder: Path) -> None:
    images = [found for tag, found in page.tags if tag == "img"]
    assert len(images) == 1 + 3 + 1 + 2  # samples, denoiser with its steps, decoder, energy and time
    for found in images:
        kind, _, data = (found["src"] or "").partition(";base64,")
        content = base64.b64decode(data, validate=True)
        assert len(found["alt"] or "") > 15
        if kind == "data:image/png":
            with Image.open(io.BytesIO(content)) as shown, Image.open(folder / "samples.png") as expected:
                assert np.array_equal(np.asarray(shown), np.asarray(expected))
            continue
        assert kind == "data:image/svg+xml"
        svg = content.decode()
        ET.fromstring(svg)  # noqa: S314 - made by the code under test
        assert not re.search(r"#0(\d)0\1", svg)  # every stand-in has its colour
        assert "prefers-color-scheme:dark" in svg


def test_nothing_is_fetched_and_nothing_is_run(source: str, page: Page) -> None:
    assert not page.count("script")
    links = page.attributes("src", "href", "srcset", "action", "data", "poster")
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert {link for link in links if link.startswith("#")} <= {f"#{name}" for name in page.attributes("id")}
    assert not [key for _, found in page.tags for key in found if key.startswith("on")]
    assert set(re.findall(r"url\((.{3})", source)) <= {"#st", "#do"}
    assert "@import" not in source
    assert "default-src 'none'" in source


def test_ids_are_unique(page: Page) -> None:
    names = page.attributes("id")
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "attack", [ATTACK, '"><script>alert(1)</script>', "$\\frac{$", "\x00\ud800\x1b[31m", "日本 {{ 7*7 }}"]
)
def test_texts_of_files_stay_texts(document: Any, attack: str) -> None:
    """In names of populations and in free texts alike."""
    text = json.dumps(document)
    for name in ("hidden", "generator", "up"):
        text = re.sub(rf'"{name}(->\w+)?"', lambda found: json.dumps(attack + (found[1] or "")), text)
    changed = json.loads(text)
    changed["provenance"] = {attack: attack}
    changed["run"] = {attack: attack}
    for model in changed["models"].values():
        model["title"] = model["not_billed"] = attack
    changed["check"]["board"]["title"] = attack
    made = html_page(changed, Picture(b"", attack))
    found = Page(made)
    assert not found.count("script")
    assert not [key for _, attributes in found.tags for key in attributes if key.startswith("on")]
    assert attack in found.text
    assert "49" not in re.findall(r"日本 (\S+)", found.text)
    for link in found.attributes("src"):
        if link.startswith("data:image/svg"):
            ET.fromstring(base64.b64decode(link.partition(",")[2]))  # noqa: S314 - made by the code under test


def test_equal_data_give_equal_pages(document: Any, source: str, folder: Path) -> None:
    samples = Picture((folder / "samples.png").read_bytes(), f"{IMAGES} generated images of tokens")
    assert html_page(document, samples) == source


def test_what_is_not_there_is_left_out(document: Any) -> None:
    changed = {**document, "check": None, "generator": None}
    found = Page(html_page(changed))
    assert not {"samples", "section-cores", "generator"} & set(found.attributes("id"))
    refused = Page(html_page({**document, "check": {"error": "up<b>: it cannot be placed"}}))
    assert "up<b>: it cannot be placed" in refused.text
    assert "section-cores" in refused.attributes("id")


def test_broken_rules_are_listed(document: Any) -> None:
    rule = {
        "rule": "fan_in",
        "where": "up",
        "resource": "words",
        "used": 17000,
        "limit": 16000,
        "hint": "a narrower net",
    }
    document["check"]["networks"]["decoder"] |= {"fits": False, "violations": [rule]}
    found = Page(html_page(document))
    assert found.numbers("decoder-violations") == [[17000, 16000]]
    assert "Does not fit." in found.text
    assert "a narrower net" in found.text


def test_a_large_network_is_cut_to_what_can_be_seen(document: Any) -> None:
    network = document["networks"]["denoiser"]
    node = next(node for node in network["nodes"] if node["kind"] == "Lif")
    names = [f"extra.{index}" for index in range(ROWS_MAX)]
    network["nodes"] += [{**node, "name": name} for name in names]
    for step in network["steps"]:
        step["events"] |= dict.fromkeys(names, 1)
    placement = {**document["check"]["networks"]["denoiser"]["placements"][0], "cores": 120 * (CHIPS_MAX + 1)}
    document["check"]["networks"]["denoiser"] |= {"placements": [placement], "chips": CHIPS_MAX + 1}
    found = Page(html_page(document))
    assert f"The {ROWS_MAX} largest of {ROWS_MAX + 3} populations." in found.text  # bars, with input and readout
    assert f"The {ROWS_MAX} largest of {ROWS_MAX + 1} populations." in found.text  # rates
    assert f"The picture shows {CHIPS_MAX} of {CHIPS_MAX + 1} chips." in found.text
    assert set(names) <= {name for name, _ in found.tables["denoiser-populations"]}


def test_a_core_is_filled_as_far_as_its_fullest_resource(document: Any) -> None:
    network = document["check"]["networks"]["decoder"]
    found = cores("decoder", network, document["check"]["board"])
    drawn = [core for chip in found.chips for core in chip.cores]
    expected = [p["shares"][p["bottleneck"]] for p in network["placements"] for _ in range(p["cores"])]
    assert [core.fill for core in drawn] == [pytest.approx(CORE * share, abs=0.05) for share in expected]
    places = [(core.x, core.y) for core in drawn]
    (chip,) = found.chips
    assert places == [(CELL * (index % COLUMNS), CELL * (index // COLUMNS)) for index in range(len(drawn))]
    assert len({*places, *chip.idle}) == 120 == len(drawn) + len(chip.idle)
    assert len({core.hue for core in drawn}) == len({p["population"] for p in network["placements"]})
    network["placements"][0]["shares"][network["placements"][0]["bottleneck"]] = 1.7  # fuller than full
    again = cores("decoder", network, document["check"]["board"])
    assert again.chips[0].cores[0].fill == CORE
    assert "170%" in again.chips[0].cores[0].title


def test_numbers_read_well() -> None:
    assert [compact(n) for n in (0, 7, 999, 1000, 11080526, 5.2e12)] == ["0", "7", "999", "1 k", "11.1 M", "5.2 T"]
    assert [count(n) for n in (0, 3, 2.5, 123456.7)] == ["0", "3", "2.5", "123,457"]
    assert [joules(p) for p in (0.5, 1234.5, 5.36e9, 3e13)] == ["0.5 pJ", "1.23 nJ", "5.36 mJ", "30 J"]
    assert joules_range(5.36e9, 5.43e9) == "5.36 to 5.43 mJ"
    assert joules_range(900, 1500) == "900 pJ to 1.5 nJ"
    assert joules_range(5.360e9, 5.361e9) == "5.36 mJ"
