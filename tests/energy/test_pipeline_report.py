"""The bill of a sample that several networks made."""

import dataclasses
import json

import numpy as np
import pytest

from spikegen.diffusion import default_solver
from spikegen.energy import MODELS, OPERATIONS, PipelineReport, build_pipeline_report, build_report, count_operations
from spikegen.errors import ConfigError
from spikegen.program import Conv, Counts, Input, Lif, Program, Readout
from spikegen.runtime import Session, decode_tokens, lookup_decoder
from spikegen.runtime.counts import StepCounts
from spikegen.simulator import Simulator
from tests.runtime.programs import tiny, tiny_tokens

IMAGES, STEPS = 3, 4
PIPELINE = tiny_tokens()


@pytest.fixture
def counts() -> dict[str, tuple[StepCounts, ...]]:
    target = Simulator(PIPELINE.network("denoiser"))
    result = Session(PIPELINE, target, default_solver(PIPELINE), steps=STEPS, images=IMAGES).run()
    images = decode_tokens(PIPELINE, Simulator(PIPELINE.network("decoder")), result.sample)
    return {"denoiser": result.counts, "decoder": ((0, images.counts),)}


@pytest.fixture
def report(counts: dict[str, tuple[StepCounts, ...]]) -> PipelineReport:
    return build_pipeline_report(PIPELINE, counts)


def test_a_sample_is_all_denoising_steps_and_one_decode(report: PipelineReport) -> None:
    denoiser, decoder = report.networks["denoiser"], report.networks["decoder"]
    assert report.samples == IMAGES
    assert (denoiser.evaluations, decoder.evaluations) == (IMAGES * STEPS, IMAGES)
    assert denoiser.steps == (6, 5, 3, 2)  # diffusion steps: the network's only conditioning step serves them all
    for name, count in report.per_sample().items():
        expected = denoiser.per_evaluation()[name] * STEPS + decoder.per_evaluation()[name]
        assert count == pytest.approx(expected)
    assert report.per_sample()["neuron_updates"] == 4 * (36 * STEPS + 18 + 96)  # T x (neurons of both networks)


def test_the_networks_are_those_of_build_report(
    report: PipelineReport, counts: dict[str, tuple[StepCounts, ...]]
) -> None:
    for role, steps in counts.items():
        assert report.networks[role] == build_report(PIPELINE.network(role), steps)


def test_energy_is_the_sum_over_networks(report: PipelineReport) -> None:
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["format"] == "spikegen-report"
    assert document["schema"] == 3
    assert document["pipeline"]["name"] == "tokens"
    assert document["definitions"].keys() == OPERATIONS.keys()
    assert document["models"].keys() == document["energy"].keys() == MODELS.keys()
    for name in MODELS:
        parts = [network["energy"][name] for network in document["networks"].values()]
        for end in ("low_pj", "high_pj"):
            total = sum(part["per_sample"][end] for part in parts)
            assert document["energy"][name]["per_sample"][end] == pytest.approx(total)
    horowitz = document["energy"]["horowitz45_fp32"]
    assert horowitz["ann_per_sample_pj"] == pytest.approx((2000 * STEPS + 3000) * 4.6)
    assert document["energy"]["davies2018_loihi1"]["ann_per_sample_pj"] is None


def test_an_ann_that_one_program_does_not_record_is_unknown(counts: dict[str, tuple[StepCounts, ...]]) -> None:
    silent = {"decoder": dataclasses.replace(PIPELINE.network("decoder"), ann_macs=0)}
    assert build_pipeline_report(PIPELINE, counts, silent).ann_energy(MODELS["horowitz45_fp32"]) is None


def test_images_have_one_network() -> None:
    pipeline = tiny()
    target = Simulator(pipeline.network("denoiser"))
    result = Session(pipeline, target, default_solver(pipeline), steps=2, images=2).run()
    report = build_pipeline_report(pipeline, {"denoiser": result.counts})
    assert list(report.networks) == ["denoiser"]
    assert report.per_sample() == report.networks["denoiser"].per_sample()


def test_the_decoder_with_a_table_is_its_own_program(counts: dict[str, tuple[StepCounts, ...]]) -> None:
    lookup = lookup_decoder(PIPELINE)
    tokens = np.zeros((IMAGES, 2, 3), dtype=np.int64)
    injected = decode_tokens(PIPELINE, Simulator(lookup.program), tokens, lookup=lookup).counts
    steps = {"denoiser": counts["denoiser"], "decoder": [(0, injected)]}
    report = build_pipeline_report(PIPELINE, steps, {"decoder": lookup.program})
    assert report.networks["decoder"].program is lookup.program
    assert report.per_sample()["injected_spikes"] == lookup.patterns[0].sum() * 6
    with pytest.raises(ConfigError, match="are not those of decoder: only one of the two has code"):
        build_pipeline_report(PIPELINE, steps)


def test_counts_that_do_not_belong_together_are_refused(counts: dict[str, tuple[StepCounts, ...]]) -> None:
    with pytest.raises(ConfigError, match="at least one network"):
        build_pipeline_report(PIPELINE, {})
    with pytest.raises(ConfigError, match="'tokens' has no coder"):
        build_pipeline_report(PIPELINE, {"coder": counts["decoder"]})
    twice = counts["decoder"][0][1] + counts["decoder"][0][1]
    with pytest.raises(ConfigError, match=r"different numbers of images \(denoiser 3, decoder 6\)"):
        build_pipeline_report(PIPELINE, {**counts, "decoder": [(0, twice)]})
    with pytest.raises(ConfigError, match="diffusion step -1"):
        build_pipeline_report(PIPELINE, {"decoder": [(-1, counts["decoder"][0][1])]})


@pytest.mark.parametrize(("bits", "kind", "operation"), [(0, "binary", "binary_synops"), (1, "analog", "analog_macs")])
def test_a_binary_input_costs_binary_operations(bits: int, kind: str, operation: str) -> None:
    program = Program(
        "port",
        2,
        Input("in", (1, 1, 2), bits, 1.0, streamed=True),
        (Lif("a", (1, 1, 2), 1, 4095, 0, np.zeros(1, np.int16), 0), Readout("y", (1, 1, 2), np.ones(2), np.zeros(1))),
        (
            Conv("in>a", "in", "a", np.full((1, 1, 1, 1), 2), 0),
            Conv("a>y", "a", "y", np.full((1, 1, 1, 1), 2), 0),
        ),
    )
    frames = np.array([[[[[1, 0]]], [[[1, 1]]]]], dtype=np.int32)
    counts: Counts = Simulator(program).evaluate(frames, step=0).counts
    totals = count_operations(program, 0, counts)
    assert totals.projections[0].kind == kind
    assert totals.totals()[operation] >= 3
    assert totals.totals()["injected_spikes"] == (3 if bits == 0 else 0)
    assert totals.totals()["spikes"] == counts.events["a"]
