"""The bill of a network that is small enough to count by hand."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from spikegen.energy import MAPPED, MODELS, OPERATIONS, Report, build_report, count_operations
from spikegen.errors import ConfigError
from spikegen.program import Conditioning, Conv, Counts, Dense, Input, Lif, Program, Readout, Relay, validate
from spikegen.simulator import Simulator

IMAGES = 3

# Per image and evaluation (T = 2 timesteps), for the input [[1, 0], [0, 2]]:
EXPECTED = {
    # a fires wherever the input is not 0: 2 neurons x 2 timesteps = 4 spikes. a>r: each of the 2x2 neurons reaches all
    # 4 targets of the padded 3x3 kernel: 4 x 4 = 16. a>out: 1 target each: 4.
    "binary_synops": 16 + 4,
    "binary_synops_effective": 12 + 4,  # the centre tap of a>r is 0: 4 x 3 = 12
    # r sends the sum of a's other neurons: (1, 2, 2, 1), never 0: 4 x 2 = 8 messages, 1 target each
    "graded_synops": 8,
    "graded_synops_effective": 6,  # one of the 4 weights of r>out is 0: 3 x 2 = 6
    "analog_macs": 4,  # 2 nonzero pixels x 2 timesteps x 1 target
    "analog_macs_effective": 4,
    "conv_synops": 4 + 16,  # in>a, a>r
    "dense_synops": 8 + 4,  # r>out, a>out
    "neuron_updates": 16,  # (4 of a + 4 of r) x 2 timesteps
    "bias_adds": 0,  # the bias of a is 0 at diffusion step 0
    "spikes": 4,
    "injected_spikes": 0,  # the input is graded
    "relay_messages": 8,
    "delayed_messages": 4,  # a>out waits one timestep for r: 4 x 1
    "readout_adds": 2,  # 1 output x 2 timesteps
    "host_macs": 0,  # the readout has no tail
}


@pytest.fixture
def program() -> Program:
    kernel = np.ones((1, 1, 3, 3))
    kernel[0, 0, 1, 1] = 0
    found = Program(
        name="tiny",
        timesteps=2,
        input=Input("in", (1, 2, 2), bits=4, scale=1.0),
        populations=(
            Lif("a", (1, 2, 2), vth=1, du=4095, dv=0, bias_mant=np.zeros(1, dtype=np.int16), bias_exp=0),
            Relay("r", (1, 2, 2), bits=4),
            Readout("out", (1, 1, 1), weights=np.ones(2), bias=np.zeros(1)),
        ),
        projections=(
            Conv("in>a", "in", "a", np.full((1, 1, 1, 1), 2, dtype=np.int8), exponent=0),
            Conv("a>r", "a", "r", kernel.astype(np.int8), exponent=0, padding=(1, 1)),
            Dense("r>out", "r", "out", np.array([[1, 0, 1, 1]], dtype=np.int8), exponent=0),
            Dense("a>out", "a", "out", np.ones((1, 4), dtype=np.int8), exponent=0, delay=1),
        ),
        conditioning=Conditioning(2, {"a": np.array([[0], [-1]], dtype=np.int16)}),
        ann_macs=100,
    )
    validate(found)
    return found


@pytest.fixture
def frames() -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    return np.tile(np.array([[[[1, 0], [0, 2]]]], dtype=np.int32), (IMAGES, 1, 1, 1))


@pytest.fixture
def run(program: Program, frames: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> Report:
    """Two diffusion steps, 1 then 0, of three images."""
    with Simulator(program) as simulator:
        return build_report(program, [(step, simulator.evaluate(frames, step).counts) for step in (1, 0)])


def test_operations_of_one_step(program: Program, run: Report) -> None:
    at_step_0 = run.per_step[1]
    assert at_step_0.evaluations == IMAGES
    assert at_step_0.totals() == {name: count * IMAGES for name, count in EXPECTED.items()}
    assert set(EXPECTED) == set(OPERATIONS)


def test_a_bias_counts_only_at_the_steps_where_it_is_not_zero(run: Report) -> None:
    # Step 1 has the offset -1: 4 neurons x 2 timesteps per image. The membrane, at least 128 - 1, still exceeds 1 << 6.
    assert run.per_step[0].totals()["bias_adds"] == 8 * IMAGES
    assert run.per_step[0].totals()["spikes"] == 4 * IMAGES


def test_operations_of_each_projection(run: Report) -> None:
    found = {p.name: (p.kind, p.events, p.stored, p.effective, p.delayed) for p in run.per_step[1].projections}
    assert found == {
        "in>a": ("analog", 4 * IMAGES, 4 * IMAGES, 4 * IMAGES, 0),
        "a>r": ("binary", 4 * IMAGES, 16 * IMAGES, 12 * IMAGES, 0),
        "r>out": ("graded", 8 * IMAGES, 8 * IMAGES, 6 * IMAGES, 0),
        "a>out": ("binary", 4 * IMAGES, 4 * IMAGES, 4 * IMAGES, 4 * IMAGES),
    }


def test_gains_make_the_operations_of_spikes_graded(program: Program) -> None:
    """The same counts of another kind; behind a graded input they stay those of the image."""
    scaled = dataclasses.replace(
        program,
        projections=tuple(
            dataclasses.replace(p, gains=np.arange(1, program.timesteps + 1)) for p in program.projections
        ),
    )
    counts = Simulator(program).evaluate(np.ones((1, *program.input.shape), dtype=np.int32), 0).counts
    before, after = (count_operations(network, 0, counts) for network in (program, scaled))
    kinds = {"binary": "graded", "graded": "graded", "analog": "analog"}
    assert {p.kind for p in before.projections} >= {"binary", "analog"}
    assert [kinds[p.kind] for p in before.projections] == [p.kind for p in after.projections]
    assert [p.stored for p in before.projections] == [p.stored for p in after.projections]
    assert after.totals()["binary_synops"] == 0
    assert after.totals()["graded_synops"] == before.totals()["binary_synops"] + before.totals()["graded_synops"]


def test_operations_of_each_node(run: Report) -> None:
    found = {n.name: (n.kind, n.neurons, n.events, n.updates, n.readout_adds) for n in run.per_step[1].nodes}
    assert found == {
        "in": ("Input", 4, 4 * IMAGES, 0, 0),
        "a": ("Lif", 4, 4 * IMAGES, 8 * IMAGES, 0),
        "r": ("Relay", 4, 8 * IMAGES, 8 * IMAGES, 0),
        "out": ("Readout", 1, 0, 0, 2 * IMAGES),
    }


def test_per_evaluation_and_per_sample(run: Report) -> None:
    assert run.samples == IMAGES
    assert run.evaluations == IMAGES * 2
    # Both steps have the same counts but for the bias: 8 in one of two evaluations.
    assert run.per_evaluation() == EXPECTED | {"bias_adds": 4.0}
    assert run.per_sample() == {name: 2 * count for name, count in EXPECTED.items()} | {"bias_adds": 8.0}


def test_energy_horowitz(run: Report) -> None:
    energy = run.energy_per_evaluation(MODELS["horowitz45_fp32"])
    assert energy.items["binary_synops"][0] == pytest.approx(20 * 0.9)
    assert energy.items["graded_synops"][0] == pytest.approx(8 * 4.6)
    assert energy.items["analog_macs"][0] == pytest.approx(4 * 4.6)
    assert energy.low == energy.high == pytest.approx(18.0 + 36.8 + 18.4)  # 73.2 pJ
    assert run.ann_energy(MODELS["horowitz45_fp32"]) == pytest.approx(100 * 4.6)


def test_energy_loihi1(run: Report) -> None:
    energy = run.energy_per_sample(MODELS["davies2018_loihi1"])
    # 2 evaluations x (20 + 8 + 4) operations x 23.6 pJ = 1510.4; 2 x 16 updates x 52 = 1664 or x 81 = 2592
    items = energy.items
    synops = sum(items[name][0] for name in ("binary_synops", "graded_synops", "analog_macs"))
    assert synops == pytest.approx(1510.4)
    assert items["neuron_updates"] == pytest.approx((1664, 2592))
    # what only the mapping has: the readout's neuron, 2 x 2 updates; three cores in one tile, no delay: dense synapses
    assert items["added_updates"] == pytest.approx((4 * 52, 4 * 81))
    assert items["added_synops"] == (0.0, 0.0)
    # a to r and to out (twice, one of them delayed), r to out: 2 x (4 + 4 + 8) messages, all to the one core of each
    assert items["tile_messages"][0] == pytest.approx(2 * 16 * 1.7)
    assert items["hops_east_west"] == items["hops_north_south"] == (0.0, 0.0)
    assert energy.high - energy.low == pytest.approx((32 + 4) * (81 - 52))
    assert run.ann_energy(MODELS["davies2018_loihi1"]) is None


def test_every_price_has_a_source_and_names_an_operation() -> None:
    for model in MODELS.values():
        for price in model.prices:
            assert price.operation in {*OPERATIONS, *MAPPED}
            assert price.source
            assert price.certainty
            assert 0 < price.low <= price.high


def test_nothing_is_ever_priced_for_loihi_2() -> None:
    text = json.dumps([dataclasses.asdict(model) for model in MODELS.values()]).lower()
    assert "loihi2" not in text
    assert "loihi 2" not in text


def test_the_report_as_json(run: Report) -> None:
    document = json.loads(json.dumps(run.to_dict(), allow_nan=False))
    assert document["samples"] == IMAGES
    assert document["diffusion_steps"] == [1, 0]
    horowitz = document["energy"]["horowitz45_fp32"]
    assert horowitz["per_evaluation"]["low_pj"] == pytest.approx(73.2)
    assert horowitz["per_sample"]["low_pj"] == pytest.approx(146.4)
    assert horowitz["ann_per_evaluation_pj"] == pytest.approx(460.0)
    assert horowitz["ann_per_sample_pj"] == pytest.approx(920.0)
    assert document["steps"][1]["stored"] == {"in>a": 12, "a>r": 48, "r>out": 24, "a>out": 12}
    assert sum(step["total"]["spikes"] for step in document["steps"]) == document["total"]["spikes"] == 24


def test_a_program_that_does_not_record_the_ann_says_so(program: Program, run: Report) -> None:
    silent = dataclasses.replace(run, program=dataclasses.replace(program, ann_macs=0))
    assert silent.ann_macs() is None
    assert silent.to_dict()["energy"]["horowitz45_fp32"]["ann_per_evaluation_pj"] is None


def _counts(**changes: object) -> Counts:
    fine = Counts(
        images=1,
        events={"in": 0, "a": 0, "r": 0},
        stored={"in>a": 0, "a>r": 0, "r>out": 0, "a>out": 0},
        effective={"in>a": 0, "a>r": 0, "r>out": 0, "a>out": 0},
    )
    return dataclasses.replace(fine, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("step", "counts", "message"),
    [
        (2, _counts(), r"diffusion step 2, tiny has 0\.\.1"),
        (-1, _counts(), "diffusion step -1"),
        (0, _counts(images=0), "of 0 evaluations"),
        (0, _counts(events={"in": 0, "a": 0}), "only one of the two has r"),
        (0, _counts(events={"in": 0, "a": 0, "r": 0, "out": 0}), "only one of the two has out"),
        (0, _counts(stored={}), "a>out, a>r, in>a, r>out"),
        (0, _counts(effective={}), "effective operations"),
    ],
)
def test_counts_of_another_program_are_refused(program: Program, step: int, counts: Counts, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        count_operations(program, step, counts)


def test_a_report_needs_counts_of_one_run(program: Program) -> None:
    with pytest.raises(ConfigError, match="at least one network call"):
        build_report(program, [])
    with pytest.raises(ConfigError, match=r"\[1, 2\] images"):
        build_report(program, [(1, _counts()), (0, _counts(images=2))])


def test_no_operations_cost_nothing(program: Program) -> None:
    run = build_report(program, [(0, _counts())])
    assert run.energy_per_evaluation(MODELS["horowitz45_fp32"]).high == 0
    assert (
        run.energy_per_evaluation(MODELS["davies2018_loihi1"]).high == (16 + 2) * 81
    )  # silent neurons are still updated
