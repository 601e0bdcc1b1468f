"""Time per timestep and sample: by hand, against the schedule of the exporter, and against the one published run."""

from __future__ import annotations

import re

import pytest

from spikegen.energy import TIME_MODELS, Constant, CoreMap, TimeModel, build_report, network_time
from spikegen.energy.latency import step_time, streamed_timesteps
from spikegen.exporters.lava.schedule import Schedule
from spikegen.hardware.loihi2 import Budget, place
from spikegen.hardware.loihi2.layout import place_network
from spikegen.program import Counts
from tests.energy.test_mapped import busy, chain
from tests.hardware.published import PILOTNET_LIF, network


def model(**nanoseconds: float | tuple[float, float]) -> TimeModel:
    found = []
    for name, value in nanoseconds.items():
        low, high = value if isinstance(value, tuple) else (value, value)
        found.append(Constant(name, low, high, "ns", "for a test", "none", "none"))
    return TimeModel("test", "a test", tuple(found), "all else")


def test_one_timestep_by_hand() -> None:
    """Eight pixels in cores of two; every neuron sends. a: 2 updates, 2 synops, 2 spikes, 2 messages out, 2 in."""
    program = chain(8)
    layout = place(program, Budget(neurons=2, cores_per_chip=4))
    step = CoreMap(program, layout).operations(busy(program, 3))
    timing = model(conv_synops=1, neuron_updates=(10, 20), spikes=100, messages=1000, messages_in=10000, timesteps=0.5)
    found = step_time(timing, step)
    assert found.core == (2 * 11111.0, 2 * 11121.0)
    assert found.slowest == "a"
    assert found.barrier == (0.5, 0.5)
    assert found.link == (0.0, 0.0)
    assert found.total == (22222.5, 22242.5)
    # only added neurons are timed: the readout's
    assert step_time(model(added_updates=7), step).slowest == "out"
    # every chip has one layer of 8 neurons, which send to the next
    link = step_time(model(binary_chip_messages=3, graded_chip_messages=5, conv_synops=1, timesteps=(1, 2)), step)
    assert link.link == (24.0, 24.0)
    assert link.total == (25.0, 26.0)


def test_time_of_a_sample_by_hand() -> None:
    program = chain(8)  # T = 2, depth 3
    cores = CoreMap(program, place(program))
    steps = [cores.operations(busy(program)), cores.operations(busy(program, 2))]
    found = network_time(model(timesteps=(1000, 3000)), cores, steps, 5)
    assert (found.timesteps_alone, found.timesteps_streamed) == (6, 14)  # 2 + 3 and 10 + 3 in windows of 2
    assert found.timestep == (1000.0, 3000.0)
    assert found.evaluation == (6000.0, 18000.0)
    assert found.sample_alone == (12000.0, 36000.0)
    assert list(found.sample_streamed) == pytest.approx([2 * 14 / 5 * 1000, 2 * 14 / 5 * 3000])


def test_a_stream_takes_the_timesteps_of_the_exporter() -> None:
    for timesteps in (1, 2, 4, 8, 16):
        for depth in (1, 2, 3, 7, 18, 33):
            for images in (1, 2, 5, 32):
                assert streamed_timesteps(timesteps, depth, images) == Schedule(timesteps, images, depth).period


def test_silence_takes_updates_and_barriers() -> None:
    program = chain(8)
    counts = Counts(1, {"in": 0, "a": 0, "b": 0}, *({"in>a": 0, "a>b": 0, "b>out": 0} for _ in range(2)))
    report = build_report(program, [(0, counts)])
    assert list(report.time(TIME_MODELS["loihi2_n3b3"]).timestep) == pytest.approx([10000 + 8 * 4] * 2)


def test_pilotnet_beside_the_published_run() -> None:
    """lava-dl, netx/pilotnet_snn/benchmark.ipynb: 408.91 fps at 16 timesteps a frame.

    The figure of synaptic operations in the notebook says 1.508e9 in 10,000 timesteps for each of the three cores of
    the third convolution (read off the picture, 0.2e9 in 46.4 pixels), the most of all cores.
    """
    measured = 1e9 / 408.91 / 16  # [ns]
    assert measured == pytest.approx(152_850, rel=1e-3)
    layout = place_network(network(PILOTNET_LIF), PILOTNET_LIF.budget)
    fullest = layout.by_name["c3"]
    assert (fullest.cores, fullest.used["neurons"]) == (3, 2688)
    timing = TIME_MODELS["loihi2_n3b3"]
    synops, updates, barrier = (
        timing.time({name: count})[1]
        for name, count in (("conv_synops", 150_770), ("neuron_updates", 2688), ("timesteps", 1))
    )
    estimate, longest = synops + updates + barrier, max(synops, updates, barrier)
    assert estimate == pytest.approx(120_260, rel=1e-3)
    assert [1 - estimate / measured, 1 - longest / measured] == pytest.approx([0.21, 0.35], abs=5e-3)
    # what the model says of itself
    said = timing.checked
    assert re.search(r"408\.91 fps measured, 152\.8 us .* 151 thousand .* 2,688 neurons, 120 us: 21 % less", said)
    assert "100 us, 35 % less" in said
