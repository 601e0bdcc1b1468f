"""Every design rule on both sides of its limit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from spikegen.hardware.loihi2 import BOARDS, RULES, check_program
from spikegen.hardware.loihi2.layout import place
from spikegen.hardware.loihi2.limits import Budget
from spikegen.hardware.loihi2.rules import Subject, Violation
from spikegen.program import Conditioning, Conv, Dense, Input, Program, Readout, Relay
from tests.hardware.programs import chain, kernel, program, skips
from tests.program.examples import changed

OHEO = BOARDS["oheogulch"]
FEW = Budget(cores_per_chip=3)


def broken(rule: str, found: Program, budget: Budget | None = None) -> list[tuple[str, int, int]]:
    """Where ``rule`` is broken, used and limit; every violation has a hint and the rule's name."""
    violations = list(RULES[rule](Subject(found, place(found, budget), OHEO)))
    assert all(violation.rule == rule and violation.hint and violation.resource for violation in violations)
    return [(violation.where, violation.used, violation.limit) for violation in violations]


def weighted(mantissas: list[int], exponent: int) -> Program:
    weight = np.resize(np.array(mantissas, dtype=np.int8), (4, 4, 3, 3))
    return changed(chain(), "a>out", weight=weight, exponent=exponent)


def conditioned(mantissa: int, offset: int) -> Program:
    base = changed(chain(), "a", bias_mant=np.full(4, mantissa, dtype=np.int16))
    table = np.array([[0, 0, 0, 0], [0, offset, 0, 0]], dtype=np.int16)
    return dataclasses.replace(base, conditioning=Conditioning(2, {"a": table}))


def relay(bits: int) -> Program:
    out = Readout("out", (1, 8, 8), np.ones(4), np.zeros(1))
    links = (
        Conv("w", "in", "r", kernel(1, 1), 1, padding=(1, 1)),
        Conv("v", "r", "out", kernel(1, 1), 1, padding=(1, 1)),
    )
    return program((Relay("r", (1, 8, 8), bits), out), links)


def timed(steps: int) -> Program:
    out = Readout("out", (4, 8, 8), np.ones(steps), np.zeros(4))
    base = chain()
    return dataclasses.replace(base, timesteps=steps, populations=(base.populations[0], out))


def io(values_in: int, values_out: int) -> Program:
    """A dense network of these ends, whose weights are small enough to be kept in memory."""
    port = Input("in", (values_in, 1, 1), 4, 1.0)
    out = Readout("out", (values_out, 1, 1), np.ones(2), np.zeros(values_out))
    one = np.ones((1, 1, 1, 1), dtype=np.int8)
    return Program("io", 2, port, (out,), (Conv("w", "in", "out", one, 1, groups=1),))


def summed(sources: int, channels: int = 4) -> Program:
    """A 4x4 layer that hears the input ``sources`` times through 3x3 kernels of ``channels`` channels."""
    out = Readout("out", (2, 4, 4), np.ones(2), np.zeros(2))
    weight = np.ones((2, channels, 3, 3), dtype=np.int8)
    links = tuple(Conv(f"w{i}", "in", "out", weight, 1, padding=(1, 1)) for i in range(sources))
    return Program("sum", 2, Input("in", (channels, 4, 4), 4, 1.0), (out,), links)


def heard_by(sources: int) -> Program:
    """A dense layer of one neuron with ``sources`` source neurons."""
    out = Readout("out", (1, 1, 1), np.ones(2), np.zeros(1))
    weight = np.ones((1, sources), dtype=np.int8)
    return Program("dense", 2, Input("in", (sources, 1, 1), 4, 1.0), (out,), (Dense("w", "in", "out", weight, 1),))


SMALL = Budget(synapse_words=72)

CASES: list[tuple[str, Callable[[], Program], Budget | None, list[tuple[str, int, int]]]] = [
    ("weight_range", lambda: weighted([-128, 127], 8), None, []),
    ("weight_range", lambda: weighted([-128, 127], 9), None, [("a>out", 8, 7)]),
    ("weight_range", lambda: weighted([-1, 127], 8), None, []),
    ("weight_range", lambda: weighted([-128, 1], 9), None, [("a>out", 8, 7)]),
    ("weight_range", lambda: weighted([0, 127], 8), None, []),
    ("weight_range", lambda: weighted([0, 1], 14), None, []),
    ("weight_range", lambda: weighted([0, 1], 15), None, [("a>out", 8, 7)]),
    ("weight_range", lambda: weighted([0, 0], 15), None, []),
    ("threshold_bits", lambda: changed(chain(), "a", vth=(1 << 17) - 1), None, []),
    ("threshold_bits", lambda: changed(chain(), "a", vth=1 << 17), None, [("a", 1 << 17, (1 << 17) - 1)]),
    ("threshold_bits", lambda: changed(chain(), "a", vth=0), None, []),
    ("threshold_bits", lambda: changed(chain(), "a", vth=-1), None, [("a", -1, 0)]),
    ("decay_bits", lambda: changed(chain(), "a", du=4095, dv=0), None, []),
    ("decay_bits", lambda: changed(chain(), "a", du=4096, dv=-1), None, [("a", 4096, 4095), ("a", -1, 0)]),
    ("bias_range", lambda: conditioned(4000, 95), None, []),
    ("bias_range", lambda: conditioned(4000, 96), None, [("a", 4096, 4095)]),
    ("bias_range", lambda: conditioned(-4000, -96), None, []),
    ("bias_range", lambda: conditioned(-4000, -97), None, [("a", -4097, -4096)]),
    ("bias_range", lambda: changed(chain(), "a", bias_exp=7), None, []),
    ("bias_range", lambda: changed(chain(), "a", bias_exp=8), None, [("a", 8, 7)]),
    ("payload_bits", lambda: relay(23), None, []),
    ("payload_bits", lambda: relay(24), None, [("r", 24, 23)]),
    ("payload_bits", lambda: changed(chain(), "in>a", gains=[1 << 17] * 4), None, [("in>a", 24, 23)]),
    ("payload_bits", lambda: changed(chain(), "in>a", gains=[1 << 16] * 4), None, []),
    ("delay", lambda: changed(chain(), "a>out", delay=62), None, []),
    ("delay", lambda: changed(chain(), "a>out", delay=63), None, [("a>out", 63, 62)]),
    ("reset_period", lambda: timed(4), None, []),
    ("reset_period", lambda: timed(1), None, []),
    ("reset_period", lambda: timed(6), None, [("", 6, 4)]),
    ("constant_gains", lambda: changed(chain(), "a>out", gains=[3, 3, 3, 3]), None, []),
    ("constant_gains", lambda: changed(chain(), "a>out", gains=[3, 3, 2, 3]), None, [("a>out", 2, 1)]),
    ("axonal_delays", lambda: changed(chain(), "a", delays=np.zeros((4, 8, 8))), None, []),
    ("axonal_delays", lambda: changed(chain(), "a", delays=np.eye(8) * np.ones((4, 1, 1))), None, [("a", 1, 0)]),
    ("conv_input", lambda: chain(1, 57), None, []),
    ("conv_input", lambda: chain(1, 58), None, [("in>a", 58, 57), ("a>out", 58, 57)]),
    ("host_io", lambda: io(602112, 1), None, []),
    ("host_io", lambda: io(602113, 1), None, [("in", 602113, 602112)]),
    ("host_io", lambda: io(1, 9408), None, []),
    ("host_io", lambda: io(1, 9409), None, [("out", 9409, 9408)]),
    ("fan_in", lambda: summed(2), SMALL, []),
    ("fan_in", lambda: summed(3), SMALL, [("out", 108, 72)]),
    ("fan_in", lambda: heard_by(16000), None, []),
    ("fan_in", lambda: heard_by(16001), None, [("out", 16001, 16000)]),
    ("fan_in", lambda: heard_by(16000), Budget(synapse_words=20000, axon_in=15000), [("out", 16000, 15000)]),
    ("core_resources", chain, Budget(axon_map=4), []),
    ("core_resources", chain, Budget(axon_map=3), [("out", 4, 3)]),
    ("board_cores", chain, Budget(cores_per_chip=2), []),
    ("board_cores", chain, Budget(cores_per_chip=1), [("", 2, 1)]),
    ("one_chip_ports", lambda: chain(64), Budget(cores_per_chip=2), []),
    ("one_chip_ports", lambda: chain(64), FEW, [("out", 2, 1)]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "make", "budget", "expected"), CASES, ids=[f"{rule} {index}" for index, (rule, *_) in enumerate(CASES)]
)
def test_a_rule(
    rule: str, make: Callable[[], Program], budget: Budget | None, expected: list[tuple[str, int, int]]
) -> None:
    assert broken(rule, make(), budget) == expected


def test_every_rule_is_tested_on_both_sides() -> None:
    for rule in RULES:
        sides = {bool(expected) for name, _, _, expected in CASES if name == rule}
        assert sides == {False, True}, rule


def test_all_violations_are_collected() -> None:
    found = changed(changed(timed(3), "a", vth=1 << 18, bias_exp=9), "a>out", delay=100, exponent=12)
    rules = {violation.rule for violation in check_program(found, OHEO).violations}
    assert rules == {"weight_range", "threshold_bits", "bias_range", "delay", "reset_period"}


def test_a_board_that_is_too_small_is_named_with_the_populations_that_fill_it() -> None:
    (violation,) = RULES["board_cores"](Subject(skips(64, 16), place(skips(64, 16), FEW), OHEO))
    assert isinstance(violation, Violation)
    cores = place(skips(64, 16), FEW).cores
    assert (violation.used, violation.limit) == (cores, 3)
    assert f"{-(-cores // 3)} chips of 3 cores, " in violation.hint
    assert "Most cores: a " in violation.hint


def test_a_network_within_all_limits_breaks_none() -> None:
    subject = Subject(skips(), place(skips()), OHEO)
    assert [name for name, rule in RULES.items() if list(rule(subject))] == []
