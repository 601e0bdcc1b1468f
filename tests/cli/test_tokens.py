"""Pipelines of tokens as a user runs them: export, inspect, verify, sample, report; and the two spike generators."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikegen.diffusion import default_solver
from spikegen.program import TokenDiffusion, load
from spikegen.runtime import Session, decode_tokens, read_counts
from spikegen.simulator import Simulator
from tests.cli.commands import run, succeed, summary

SAMPLED = ("png", "npy", "tokens.npy", "json")


def files(name: Any) -> tuple[str, ...]:
    """The options of ``sample`` for every file it can write."""
    return ("-o", f"{name}.png", "--npy", f"{name}.npy", "--tokens", f"{name}.tokens.npy", "--counts", f"{name}.json")


def sample(pipeline: Path, name: Any, *options: Any) -> None:
    succeed("sample", pipeline, "-n", 3, *files(name), "--quiet", *options)


def assert_equal_files(one: Any, other: Any, suffixes: tuple[str, ...] = SAMPLED) -> None:
    for suffix in suffixes:
        assert Path(f"{one}.{suffix}").read_bytes() == Path(f"{other}.{suffix}").read_bytes(), suffix


@pytest.fixture
def pipeline(made_tokens: Path, working_folder: Path) -> Path:
    return made_tokens / "vq.h5"


def test_inspect_shows_the_host_part_and_three_networks(pipeline: Path) -> None:
    shown = succeed("inspect", pipeline).stdout
    assert "vq: TokenDiffusion (codebook 5x3, steps 16, pixel_scale 0.5), digest " in shown
    assert shown.index("\nencoder: T = 4") < shown.index("\ndenoiser: T = 4") < shown.index("\ndecoder: T = 4")
    assert shown.count("overflow is impossible") == 3
    assert "held_out: 297" in shown
    described = summary("inspect", pipeline)
    assert described["host"] == {"type": "TokenDiffusion", "codebook": [5, 3], "steps": 16, "pixel_scale": 0.5}
    for role, network in described["networks"].items():
        assert {row["name"] for row in network["populations"]} == set(load(pipeline).network(role).nodes)
        assert network["conditioning_steps"] == 1


@pytest.mark.lava
def test_verify_finds_no_difference_in_any_network(pipeline: Path) -> None:
    """With other synapses than those of `verify` by default, which test_pipeline.py takes."""
    found = summary("verify", pipeline, "-n", 2, "--at", 1, "--at", 9, "--at", 16, "--synapses", "sparse")
    assert found["equal"]
    assert list(found["networks"]) == ["encoder", "denoiser", "decoder"]
    for network in found["networks"].values():
        nothing = {"SLAYER": 0, "Lava (fused)": 0, "Lava (sparse)": 0, "ONNX Runtime": 0}
        assert [row["differing"] for row in network["nodes"]] == [nothing] * len(network["nodes"])
        assert all(row["events"] > 50 for row in network["nodes"])  # all neurons have something to differ in
        assert all(all(step["equal_counts"].values()) for step in network["steps"])
        assert 0 < network["steps"][0]["output_error"] < 1
    assert found["generator"]["messages"] > 1000
    assert found["generator"]["differing"] == 0
    shown = succeed("verify", pipeline, "-n", 1, "--at", 5, "--no-lava").stdout
    assert "spike generator on the chip against its look-up table: 0 of " in shown
    assert "vq, 1 inputs for each of the diffusion steps 5: simulator, SLAYER and ONNX Runtime are equal" in shown


@pytest.mark.parametrize("role", ["encoder", "denoiser", "decoder"])
def test_verify_exits_with_1_when_one_network_differs(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    from spikegen.verification import SlayerTarget

    right, shape = SlayerTarget.evaluate, load(pipeline).network(role).input.shape

    def wrong(self: SlayerTarget, frames: Any, step: int, record: bool = False) -> Any:
        evaluation = right(self, frames, step, record)
        if self.program.input.shape == shape:
            next(iter(evaluation.messages.values()))[0, 0, 0, 0, 0] += 1
        return evaluation

    monkeypatch.setattr(SlayerTarget, "evaluate", wrong)
    result = run("verify", pipeline, "-n", 1, "--at", 3, "--no-lava", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert not found["equal"]
    for name, network in found["networks"].items():
        assert sum(row["differing"]["SLAYER"] for row in network["nodes"]) == (1 if name == role else 0)
    result = run("verify", pipeline, "-n", 1, "--at", 3, "--no-lava")
    assert result.exit_code == 1
    assert "simulator, SLAYER and ONNX Runtime are NOT EQUAL" in result.stdout


def test_verify_exits_with_1_when_only_counts_differ(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spikegen.verification import SlayerTarget

    right = SlayerTarget.evaluate

    def wrong(self: SlayerTarget, frames: Any, step: int, record: bool = False) -> Any:
        evaluation = right(self, frames, step, record)
        return dataclasses.replace(evaluation, counts=evaluation.counts + evaluation.counts)

    monkeypatch.setattr(SlayerTarget, "evaluate", wrong)
    assert run("verify", pipeline, "-n", 1, "--at", 3, "--no-lava").exit_code == 1


def test_verify_exits_with_1_when_the_table_differs(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spikegen.runtime import Lookup, lookup_decoder

    def wrong(pipeline: Any) -> Lookup:
        lookup = lookup_decoder(pipeline)
        return dataclasses.replace(lookup, patterns=np.logical_not(lookup.patterns).astype(np.uint8))

    monkeypatch.setattr("spikegen.verification.generator.lookup_decoder", wrong)
    result = run("verify", pipeline, "-n", 1, "--at", 3, "--no-lava", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["generator"]["differing"] > 0
    assert all(sum(row["differing"]["SLAYER"] for row in n["nodes"]) == 0 for n in found["networks"].values())


def test_it_writes_what_the_session_and_the_decoder_make(pipeline: Path) -> None:
    found = summary("sample", pipeline, "-n", 3, "--steps", 7, "--seed", 4, "--temperature", 0.65, *files("a"))
    loaded = load(pipeline)
    solver = default_solver(loaded, temperature=0.65)
    target = Simulator(loaded.network("denoiser"))
    result = Session(loaded, target, solver, steps=7, seed=4, images=3).run()
    decoded = decode_tokens(loaded, Simulator(loaded.network("decoder")), result.sample)
    trajectory = np.load("a.tokens.npy")
    assert (trajectory.shape, trajectory.dtype) == ((7, 3, 4, 4), np.int64)
    assert result.trajectory is not None
    np.testing.assert_array_equal(trajectory, result.trajectory)
    np.testing.assert_array_equal(trajectory[-1], result.sample)
    np.testing.assert_array_equal(np.load("a.npy"), decoded.images)
    assert np.ptp(decoded.images) > 0.5
    record = read_counts("a.json", loaded)
    assert record.networks == {"denoiser": result.counts, "decoder": ((0, decoded.counts),)}
    assert record.generator == "chip"
    assert (found["solver"], found["steps"], found["generator"]) == ("absorbing", 7, "chip")
    assert found["timesteps"] == [step for step, _ in result.counts]
    assert {role: row["evaluations"] for role, row in found["networks"].items()} == {"denoiser": 21, "decoder": 3}
    assert found["tokens"] == "a.tokens.npy"


@pytest.mark.lava
@pytest.mark.parametrize("generator", ["chip", "lookup"])
def test_lava_and_the_simulator_write_the_same_files(pipeline: Path, generator: str) -> None:
    sample(pipeline, "simulator", "--generator", generator)
    sample(pipeline, "lava", "--generator", generator, "--backend", "lava", "--batch", 2)
    assert_equal_files("simulator", "lava")
    assert np.load("lava.tokens.npy").shape == (16, 3, 4, 4)  # all steps by default
    assert len(np.unique(np.load("lava.tokens.npy")[-1])) > 2


def test_the_place_of_the_generator_changes_its_own_counts_only(pipeline: Path) -> None:
    for name in ("chip", "lookup"):
        sample(pipeline, name, "--generator", name)
    assert_equal_files("chip", "lookup", ("png", "npy", "tokens.npy"))
    sample(pipeline, "default")
    assert_equal_files("chip", "default")
    chip, lookup = (read_counts(f"{name}.json", load(pipeline)) for name in ("chip", "lookup"))
    assert (chip.generator, lookup.generator) == ("chip", "lookup")
    assert chip.networks["denoiser"] == lookup.networks["denoiser"]
    (_, on_chip), (_, table) = chip.networks["decoder"][0], lookup.networks["decoder"][0]
    assert on_chip.events.keys() - table.events.keys() == {"input"}
    assert {name: on_chip.events[name] for name in table.events} == table.events
    assert on_chip.stored.keys() - table.stored.keys() == {"input->generator.neuron"}
    assert {name: on_chip.stored[name] for name in table.stored} == table.stored
    assert {name: on_chip.effective[name] for name in table.effective} == table.effective


def test_report_reads_the_counts_of_either_generator(pipeline: Path) -> None:
    documents = {}
    for name in ("chip", "lookup"):
        sample(pipeline, name, "--generator", name, "--steps", 4)
        shown = succeed("report", pipeline, "--counts", f"{name}.json", "--json", f"{name}.report").stdout
        assert "spike generator (generator.neuron): operations of one decode, mean over all code vectors" in " ".join(
            shown.split()
        )
        assert "denoiser, T = 4, 3 samples x 4 steps: per evaluation, by population" in shown
        assert "decoder: operations" in shown
        documents[name] = json.loads(Path(f"{name}.report").read_text())
    chip, lookup = documents.values()
    assert chip["networks"]["denoiser"] == lookup["networks"]["denoiser"]
    # the table injects what the generator fires; the MACs and updates of the generator are gone
    assert chip["generator"] == lookup["generator"]
    cost = chip["generator"]
    assert cost["chip"]["spikes"] == cost["lookup"]["injected_spikes"] > 0
    assert cost["chip"]["neuron_updates"] == 4 * 48  # T x neurons of the generator
    assert cost["chip"]["analog_macs"] == 3 * 48 * 4  # each of them reads 3 channels at each of T timesteps
    before, after = (d["networks"]["decoder"]["per_evaluation"] for d in (chip, lookup))
    assert before["injected_spikes"] == 0
    assert after["injected_spikes"] == pytest.approx(before["spikes"] - after["spikes"])
    assert before["neuron_updates"] - after["neuron_updates"] == pytest.approx(cost["chip"]["neuron_updates"])
    assert before["analog_macs"] - after["analog_macs"] == pytest.approx(cost["chip"]["analog_macs"])
    assert before["binary_synops"] == after["binary_synops"]
    for document in (chip, lookup):
        parts = [network["per_sample"]["spikes"] for network in document["networks"].values()]
        assert document["per_sample"]["spikes"] == pytest.approx(sum(parts))


@pytest.mark.parametrize("by", ["population", "projection", "step"])
def test_report_counts_a_small_run_of_its_own(pipeline: Path, by: str) -> None:
    shown = succeed("report", pipeline, "--by", by, "-n", 2).stdout
    assert "No --counts: counting 2 images x 5 steps, seed 0, on the simulator." in shown
    assert (
        f"decoder, T = 4, 2 samples x 1 steps: per evaluation, by {by if by != 'step' else 'diffusion step'}" in shown
    )


def test_report_refuses_counts_of_another_pipeline(pipeline: Path, made: Path) -> None:
    sample(pipeline, "a")
    result = run("report", made / "small.h5", "--counts", "a.json")
    assert result.exit_code == 1
    assert "these are the counts of another pipeline (vq)" in result.stderr


def test_the_pipeline_is_the_one_of_the_model(pipeline: Path) -> None:
    loaded = load(pipeline)
    assert isinstance(loaded.host, TokenDiffusion)
    assert loaded.host.steps == 16
    assert loaded.provenance["dataset"] == "digits"
    assert list(loaded.networks) == ["encoder", "denoiser", "decoder"]
