"""SLAYER's own dynamics on a Program's integers equal the simulator; a wrong neuron or weight is found."""

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from spikegen.program import Evaluation, Lif, Population, Program, Readout
from spikegen.simulator import Simulator
from spikegen.verification import SlayerTarget, differences
from tests.runtime.programs import tiny
from tests.strategies import frames, programs


@settings(max_examples=60)
@given(st.data())
def test_random_programs_equal_slayer(data: st.DataObject) -> None:
    program = data.draw(programs())
    images = data.draw(frames(program, (2,)))
    step = data.draw(st.integers(0, program.conditioning.steps - 1))
    reference = Simulator(program).evaluate(images, step, record=True)
    slayer = SlayerTarget(program).evaluate(images, step, record=True)
    assert [row.differing for row in differences(program, reference, slayer)] == [0] * len(program.nodes)
    assert slayer.counts == reference.counts


def _evaluations(program: Program, other: Program) -> tuple[Evaluation, Evaluation]:
    images = np.random.default_rng(0).integers(-100, 101, (2, *program.input.shape)).astype(np.int32)
    return Simulator(program).evaluate(images, 0, record=True), SlayerTarget(other).evaluate(images, 0, record=True)


def test_a_threshold_beyond_float32_is_compared_exactly() -> None:
    # SLAYER compares its integer membrane with 64 vth + 0.01, which float32 cannot hold here
    program = tiny().network("denoiser")
    population = next(p for p in program.populations if isinstance(p, Lif))
    # 3750 << 7 = 480,000 a timestep: after 8 the membrane is 3,840,000 = 60,000 << 6, equal to the threshold, which is
    # not above it: no spike and no reset, so the neuron fires after 9; with the threshold one lower it fires after 8.
    at_threshold = dataclasses.replace(
        population, vth=60_000, bias_mant=np.full(population.shape[0], 3750), bias_exp=7, dv=0
    )
    below = dataclasses.replace(at_threshold, vth=59_999)
    for neuron, first in ((at_threshold, 9), (below, 8)):
        silent = tuple(dataclasses.replace(p, weight=0 * p.weight) for p in program.projections)
        populations = tuple(_for_16_timesteps(neuron if p.name == neuron.name else p) for p in program.populations)
        changed = dataclasses.replace(
            program,
            timesteps=16,
            populations=populations,
            projections=silent,
            conditioning=dataclasses.replace(program.conditioning, tables={}),
        )
        reference, slayer = _evaluations(changed, changed)
        fired = reference.messages[neuron.name][0, :, 0, 0, 0]
        assert np.flatnonzero(fired)[0] + 1 == first
        assert [row.differing for row in differences(changed, reference, slayer)] == [0] * len(changed.nodes)


def _for_16_timesteps(population: Population) -> Population:
    if not isinstance(population, Readout):
        return population
    return dataclasses.replace(population, weights=np.ones(16), bias=population.bias[0])


def test_a_changed_threshold_is_found() -> None:
    program = tiny().network("denoiser")
    populations = tuple(
        dataclasses.replace(p, vth=p.vth // 2) if isinstance(p, Lif) else p for p in program.populations
    )
    reference, slayer = _evaluations(program, dataclasses.replace(program, populations=populations))
    assert sum(row.differing for row in differences(program, reference, slayer)) > 0
