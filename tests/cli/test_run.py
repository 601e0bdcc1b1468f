"""A plain network in the command line: run, verify, report, check, inspect."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from spikegen.program import Conv, Input, Lif, Program, Readout, load, save
from spikegen.runtime import read_counts
from spikegen.simulator import Simulator
from tests.cli.commands import names, refuse, succeed, summary
from tests.program.examples import alone, image_diffusion

T = 4


def network(*, streamed: bool) -> Program:
    """IF neurons on spikes, and a readout of their rate."""
    weight = np.random.default_rng(0).integers(-60, 60, (3, 1, 3, 3)).astype(np.int8)
    return Program(
        "net",
        T,
        Input("input", (1, 5, 4), 0, 1.0, streamed=streamed),
        (
            Lif("a", (3, 5, 4), 60, 4095, 0, np.zeros(3, np.int16), 0),
            Readout("out", (3, 5, 4), np.full(T, 1 / T), np.zeros(3)),
        ),
        (
            Conv("in>a", "input", "a", weight, 1, padding=(1, 1)),
            Conv("a>out", "a", "out", np.eye(3, dtype=np.int8)[:, :, None, None], 0),
        ),
    )


def spikes(*shape: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(1).integers(0, 2, shape)


@pytest.fixture
def streamed(working_folder: Path) -> Path:
    save(alone(network(streamed=True)), "net.h5")
    np.save("x.npy", spikes(7, T, 1, 5, 4))
    return Path("net.h5")


FILES = ("--input", "x.npy", "-o", "y.npy", "--every-step", "s.npy", "--counts", "c.json")


@pytest.mark.parametrize("batch", [(), ("--batch", 3)])
def test_run_writes_the_readout_the_spikes_and_the_counts(streamed: Path, batch: tuple[str, ...]) -> None:
    found = summary("run", streamed, *FILES, *batch)
    pipeline = load(streamed)
    expected = Simulator(pipeline.network("network")).evaluate(np.load("x.npy").astype(np.int32), 0, record=True)
    sent = expected.messages["a"]
    assert 0 < sent.mean() < 1
    np.testing.assert_array_equal(np.load("s.npy"), sent)
    np.testing.assert_array_equal(np.load("y.npy"), sent.mean(axis=1))
    record = read_counts("c.json", pipeline)
    assert record.networks == {"network": ((0, expected.counts),)}
    assert found["inputs"] == found["networks"]["network"]["evaluations"] == 7
    assert names() == ["c.json", "net.h5", "s.npy", "x.npy", "y.npy"]


def test_a_frame_that_stays_the_same(working_folder: Path) -> None:
    save(alone(network(streamed=False)), "net.h5")
    np.save("x.npy", spikes(3, 1, 5, 4).astype(np.float32))
    succeed("run", "net.h5", "-n", 2, *FILES)
    expected = Simulator(network(streamed=False)).evaluate(np.load("x.npy")[:2].astype(np.int32), 0, record=True)
    np.testing.assert_array_equal(np.load("s.npy"), expected.messages["a"])


def test_lava_answers_the_same(streamed: Path) -> None:
    succeed("run", streamed, *FILES)
    before = np.load("s.npy"), json.loads(Path("c.json").read_text())["networks"]
    succeed("run", streamed, *FILES, "--backend", "lava")
    np.testing.assert_array_equal(np.load("s.npy"), before[0])
    assert json.loads(Path("c.json").read_text())["networks"] == before[1]


def test_verify_report_check_and_inspect_take_a_plain_network(streamed: Path) -> None:
    for inputs in ((), ("--input", "x.npy")):
        found = summary("verify", streamed, "--no-lava", "-n", 3, *inputs)
        assert found["equal"]
        assert found["images"] == 3
        assert found["networks"]["network"]["nodes"][1]["events"] > 0
    assert "relative error" not in succeed("verify", streamed, "--no-lava").stdout
    succeed("run", streamed, *FILES)
    succeed("report", streamed, "--counts", "c.json", "--json", "r.json")
    assert json.loads(Path("r.json").read_text())["samples"] == 7
    assert "4 random inputs, seed 0" in succeed("report", streamed).stdout
    assert "fits" in succeed("check", streamed).stdout
    assert summary("inspect", streamed)["host"] == {"type": "Standalone"}


def test_what_is_refused(streamed: Path) -> None:
    other = ("-o", "y.npy")
    refuse(1, "x.h5: there is no such pipeline file", "run", "x.h5", "--input", "x.npy", *other)
    refuse(1, "no.npy: there is no such file", "run", streamed, "--input", "no.npy", *other)
    refuse(2, "must be different files", "run", streamed, "--input", "x.npy", "-o", "x.npy")
    refuse(2, "--steps are those of a solver", "report", streamed, "--steps", 3)
    refuse(2, "this is a plain network", "verify", streamed, "--at", 3)
    np.save("bad.npy", spikes(7, 1, 5, 4))
    refuse(1, "the network takes numbers (N, 4, 1, 5, 4)", "run", streamed, "--input", "bad.npy", *other)
    np.save("bad.npy", np.full((1, T, 1, 5, 4), np.nan))
    refuse(1, "input 0 is not finite", "run", streamed, "--input", "bad.npy", *other)
    np.save("bad.npy", np.array([{}]), allow_pickle=True)
    refuse(1, "not a readable array", "run", streamed, "--input", "bad.npy", *other)
    Path("bad.npy").write_bytes(Path("x.npy").read_bytes()[:100])
    refuse(1, "not a readable array", "run", streamed, "--input", "bad.npy", *other)
    save(image_diffusion(), "images.h5")
    refuse(1, "it needs its loop (spikegen sample)", "run", "images.h5", "--input", "x.npy", *other)
    refuse(2, "--input is of plain networks", "verify", "images.h5", "--input", "x.npy")
