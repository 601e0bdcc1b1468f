"""The network of the chip, with CPU models of its processes, equals the simulator: every message, readout and count."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lava.proc.conv.process import Conv as LavaConv
from lava.proc.dense.process import DelayDense
from lava.proc.dense.process import Dense as LavaDense
from lava.proc.graded.process import GradedVec
from lava.proc.lif.process import LIF, LIFReset
from lava.proc.sparse.process import DelaySparse, Sparse

from spikegen.errors import BackendError, ConfigError, ProgramError
from spikegen.exporters.lava import LavaTarget, chip
from spikegen.exporters.lava.chip_rules import for_chip, relay_delays, require_chip
from spikegen.exporters.lava.form import CHIP_SYNAPSES, Form
from spikegen.exporters.lava.processes.adapters import InputAdapter, OutputAdapter
from spikegen.exporters.lava.processes.process import Collect, Feed, Network, Tap
from spikegen.exporters.lava.schedule import Schedule
from spikegen.hardware.loihi2 import BOARDS
from spikegen.hardware.loihi2.network import Role, network_of, with_delays
from spikegen.lowering.retime import retime
from spikegen.program import Conv, Dense, Input, Lif, Program, Relay
from spikegen.simulator import Simulator
from tests.lava.networks import assert_equal, everything, frames, tiny, unet, without_gains
from tests.lava.random_cases import Case, assert_cases_equal, random_cases

pytestmark = pytest.mark.lava

BOARD = BOARDS["oheogulch"]
IMAGES = 3  # per run
RANDOM = 21
# Adapters that take steps move every level, reset and readout.
FORMS = (Form("chip", "conv"), Form("chip", "sparse"), Form("chip", "conv", lead=2, lag=1))


class Different:
    """Takes Programs that the chip can hold and that have delays, of which no two are alike."""

    def __init__(self) -> None:
        self.seen: set[Any] = set()

    def __call__(self, program: Program) -> bool:
        try:
            require_chip(program, BOARD)
        except ProgramError:
            return False
        delayed = frozenset(
            (type(p).__name__, type(program.nodes[p.source]).__name__, p.delay) for p in program.projections if p.delay
        )
        likeness = (program.timesteps, program.input.bits > 0, program.input.streamed, delayed)
        if not delayed or likeness in self.seen:
            return False
        self.seen.add(likeness)
        return True


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    steps = (1, 2, 4, 8)
    return random_cases(RANDOM, steps, gains=False, delays=False, kind=kind, accept=Different(), examples=20)


def kind(program: Program) -> tuple[bool, ...]:
    """What of a Program every form is to meet."""
    delayed = [p for p in program.projections if p.delay]
    return (
        Lif in relayed([program]),
        max(p.delay for p in delayed) > 1,
        any(isinstance(p, Dense) for p in delayed),
        program.timesteps > 2,
        program.timesteps in {1, 4},
        program.input.bits > 0,
        program.input.streamed,
    )


@pytest.mark.slow
def test_the_random_cases_are_different_enough(cases: list[Case]) -> None:
    assert len(cases) == RANDOM
    programs = [case.program for case in cases]
    assert {program.timesteps for program in programs} == {1, 2, 4, 8}
    assert {(program.input.bits > 0, program.input.streamed) for program in programs} >= {(True, False), (False, True)}
    for form in range(len(FORMS)):
        programs = [case.program for case in cases[form :: len(FORMS)]]
        assert {Lif, Relay} <= {type(node) for program in programs for node in program.populations}
        assert {type(p) for program in programs for p in program.projections if p.delay} == {Conv, Dense}
        assert relayed(programs) >= {Input, Lif}
        assert max(p.delay for program in programs for p in program.projections) > 1


def relayed(programs: Sequence[Program]) -> set[type]:
    """Types of the nodes whose messages relays delay."""
    return {type(program.nodes[name]) for program in programs for name in relay_delays(program, "conv")}


@pytest.mark.slow
def test_random_programs_equal_the_simulator(cases: list[Case], tmp_path: Path) -> None:
    assert_cases_equal(cases, FORMS, tmp_path)


NETWORKS: dict[str, Callable[[], Program]] = {
    "unet": unet,
    "everything, 4 steps": lambda: without_gains(everything(4)),
    "everything, 1 step": lambda: without_gains(everything(1)),
    "binary stream": lambda: without_gains(everything(2, Input("in", (2, 6, 4), 0, 1.0, streamed=True))),
}
BUILT = (
    *(("unet", synapses, (0, 0)) for synapses in CHIP_SYNAPSES),
    ("unet", "conv", (1, 2)),
    ("everything, 4 steps", "conv", (0, 0)),
    ("everything, 1 step", "sparse", (0, 0)),
    ("binary stream", "conv", (0, 0)),
)


@pytest.fixture(scope="module", params=BUILT, ids=str)
def target(request: pytest.FixtureRequest) -> Iterator[LavaTarget]:
    name, synapses, steps = request.param
    program = NETWORKS[name]()
    with LavaTarget(program, images=IMAGES, model="chip", synapses=synapses, timeout=120, adapter_steps=steps) as built:
        yield built


def test_evaluations_in_a_row_equal_the_simulator(target: LavaTarget) -> None:
    """Steps change, repeat and come back; runs are full, not full, and several; nothing of one leaks into the next."""
    simulator = Simulator(target.program)
    for index, (step, images) in enumerate(((1, IMAGES), (1, 1), (2, 2 * IMAGES - 1), (0, 2), (1, IMAGES))):
        images_of_run = frames(target.program, images, seed=index)
        record = index != 1
        assert_equal(
            target.evaluate(images_of_run, step, record=record), simulator.evaluate(images_of_run, step, record=record)
        )


def test_the_unet_would_show_a_mistake() -> None:
    """Equality shows something only if every node is lively and every delay and bias matters."""
    program, sent = unet(), frames(unet(), 8)
    found = Simulator(program).evaluate(sent, 0, record=True)
    for name, messages in found.messages.items():
        assert np.count_nonzero(messages) / messages.size > 0.02, name
    conditioned = Simulator(program).evaluate(sent, 1)
    assert (conditioned.readouts["noise"] != found.readouts["noise"]).any()
    for delay in {p.delay for p in program.projections if p.delay}:
        assert delay < program.timesteps + 3  # within reach of the images before


STOCK = {LIFReset, LIF, GradedVec, LavaConv, LavaDense, DelayDense, Sparse, DelaySparse}
HOST = {Feed, Collect, Tap, InputAdapter, OutputAdapter}


def parts(program: Program, synapses: str, observed: bool = False) -> dict[str, Any]:
    """Name -> process of the chip's network."""
    schedule = Schedule.chip(program, IMAGES, 0, 0)
    network = Network(program=program, images=IMAGES, schedule=schedule, synapses=synapses, observed=observed)
    return {process.name: process for process in chip.build(network).values()}


@pytest.mark.parametrize("synapses", CHIP_SYNAPSES)
@pytest.mark.parametrize("name", ["unet", "everything, 4 steps"])
def test_only_stock_processes_are_on_the_chip(name: str, synapses: str) -> None:
    program = NETWORKS[name]()
    found = parts(program, synapses, observed=True)
    assert {type(process) for process in found.values()} <= STOCK | HOST
    assert len(found) == len(parts(program, synapses)) + len(program.nodes) - 1 - len(tuple(program.readouts())) + 1
    for process in found.values():
        if isinstance(process, LavaConv | LavaDense | Sparse):
            weights = process.weight.init if isinstance(process, LavaConv) else process.weights.init
            values = weights if isinstance(weights, np.ndarray) else weights.data
            if not process.name.startswith("line "):
                assert not (values % 2).any()
            assert -256 <= values.min(initial=0) <= values.max(initial=0) <= 254
        if isinstance(process, DelayDense | DelaySparse):
            assert 1 <= process.delays.init.max() <= 62
        if isinstance(process, LIFReset):
            assert process.proc_params["reset_interval"] == program.timesteps


def test_delays_are_chains_of_relays_as_the_mapping_counts_them() -> None:
    program = unet()
    found = parts(program, "conv")
    relays = [name for name in found if name.startswith("delay ")]
    assert relays == [
        "delay stem by 1",
        "delay block by 2",
        "delay stem by 3",
        "delay block by 3",
        "delay stem by 4",
        "delay stream by 2",
        "delay in by 6",
    ]
    assert {name: type(found[name]) for name in relays} == {
        **dict.fromkeys(relays, LIF),
        "delay stream by 2": GradedVec,  # its messages are graded
        "delay in by 6": GradedVec,
    }
    delays = {
        name: int(process.delays.init.max()) if isinstance(process, DelaySparse) else 0
        for name, process in found.items()
        if name.startswith("line ")
    }
    assert delays == {  # each one step more with its synapse, and later than the one before it
        "line stem by 1": 0,
        "line block by 2": 1,
        "line stem by 3": 1,
        "line block by 3": 0,
        "line stem by 4": 0,
        "line stream by 2": 1,
        "line in by 6": 5,
    }
    mapped = [layer for layer in with_delays(network_of(program)).layers if layer.role is Role.DELAY]
    assert len(mapped) == len(relays)
    assert not [name for name in parts(program, "sparse") if name.startswith(("delay ", "line "))]


def test_unconnected_parts_are_refused_unless_they_are_observed() -> None:
    """Lava forgets such parts when it compiles, and would wait for their answer for ever."""
    program = tiny()
    clock = dataclasses.replace(program.populations[0], name="clock")
    readout = dataclasses.replace(program.populations[1], name="other")
    extra = dataclasses.replace(program.projections[1], name="clock>other", source="clock", target="other")
    program = dataclasses.replace(
        program, populations=(*program.populations, clock, readout), projections=(*program.projections, extra)
    )
    program = retime(program)
    sent = frames(program, 2)
    with LavaTarget(program, images=2, model="chip", timeout=60) as built:
        assert_equal(built.evaluate(sent, 0, record=True), Simulator(program).evaluate(sent, 0, record=True))
    with pytest.raises(BackendError, match="Lava cannot build a network in unconnected parts"):
        LavaTarget(program, images=2, model="chip", observed=False, timeout=60)


@pytest.mark.parametrize("gain", [1, -1, 2, -4, 0, 3])
@pytest.mark.parametrize("exponent", [0, 3, 8, 10])
def test_constant_gains_and_large_exponents_move_into_the_weights(gain: int, exponent: int) -> None:
    weight = np.array([[[[-4, 0], [7, 3]]]], dtype=np.int8)
    projection = Conv("a>b", "a", "b", weight, exponent, gains=np.full(4, gain, dtype=np.int32))
    found = for_chip(projection)
    assert found.gains.size == 0
    assert found.exponent <= 8
    np.testing.assert_array_equal(
        found.weight.astype(np.int64) << found.exponent, (weight.astype(np.int64) * gain) << exponent
    )


def test_what_has_no_room_is_refused() -> None:
    full = Conv("a>b", "a", "b", np.full((1, 1, 1, 1), 127, dtype=np.int8), 0, gains=np.full(2, 3, dtype=np.int32))
    with pytest.raises(ProgramError, match="a>b: its gains or its exponent cannot be brought onto the chip"):
        for_chip(full)


def test_all_that_the_chip_has_not_is_refused_at_once() -> None:
    program = everything(3, Input("in", (2, 6, 4), 16, 1 / 32, np.full(2, -31), np.full(2, 31)))
    projections = tuple(
        dataclasses.replace(p, gains=np.full(3, 3, dtype=np.int32))
        if p.name == "a>relay"
        else dataclasses.replace(p, delay=p.delay + 64)
        if p.target == "late"
        else p
        for p in program.projections
    )
    wide = tuple(
        dataclasses.replace(p, weight=np.full_like(p.weight, 127)) if p.name == "a>relay" else p for p in projections
    )
    program = dataclasses.replace(program, projections=wide)
    with pytest.raises(ProgramError) as refused:
        require_chip(program, BOARD)
    text = "\n".join(refused.value.problems)
    for problem in (
        "everything: timesteps, a power of two: 3, the limit is 2 (reset_period)",
        "clock>flat: gains over the timesteps: 3, the limit is 1 (constant_gains)",
        "mixed>late: delay: 65, the limit is 62 (delay)",
        "a>relay: a gain of 3 leaves its weights no room in 8 bits",
        "in: messages of 16 bits and a sign, the adapter of the chip takes 16 bits in all",
    ):
        assert problem in text
    with pytest.raises(ProgramError, match=r"reset_period"):
        LavaTarget(program, model="chip")


def test_counts_of_a_network_that_is_not_observed_are_the_simulators() -> None:
    program = tiny()
    sent = frames(program, 5)
    with LavaTarget(program, images=2, model="chip", observed=False, timeout=60) as built:
        assert not [name for name in built.supervisor.processes if name.startswith("tap")]
        assert_equal(built.evaluate(sent, 0), Simulator(program).evaluate(sent, 0))
        with pytest.raises(ConfigError, match="messages of this network are not observed: build it with observed=True"):
            built.evaluate(sent, 0, record=True)
        other = dataclasses.replace(program, projections=(program.projections[0], negative(program.projections[1])))
        built._simulator = Simulator(other)
        with pytest.raises(BackendError, match=r"network of 'tiny' is not exact: \d+ of 8 currents of the readout out"):
            built.evaluate(sent[:1], 0)
        with pytest.raises(BackendError, match="closed"):
            built.evaluate(sent, 0)


def negative(projection: Any) -> Any:
    return dataclasses.replace(projection, weight=(~projection.weight).astype(np.int8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "chip", "synapses": "fast-conv"}, "synapses is 'fast-conv', it must be one of conv, sparse"),
        ({"model": "unrolled", "hardware": True}, "hardware, observed and adapter_steps belong to the model chip"),
        ({"observed": True}, "hardware, observed and adapter_steps belong to the model chip, not to fused"),
        ({"model": "chip", "adapter_steps": (0, -1)}, r"adapter_steps is \(0, -1\), both must be at least 0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LavaTarget(tiny(), **arguments)
