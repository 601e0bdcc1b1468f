"""One network on several targets, the spike generator in both places, and the distance to a float model."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from spikegen.errors import ConfigError
from spikegen.program import Evaluation, Program
from spikegen.runtime import Lookup, host_readout, lookup_decoder
from spikegen.simulator import Simulator
from spikegen.verification import NetworkResult, SlayerTarget, fidelity, generator_differences, verify_network
from tests.runtime.programs import CODES, GRID, tiny, tiny_tokens

PIPELINE = tiny_tokens()
ROLES = list(PIPELINE.networks)


def inputs(program: Program, count: int = 4) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Random real inputs that fill the range of the port."""
    port = program.input
    low, high = (bound[:, None, None] * port.scale for bound in (port.low, port.high))
    return np.asarray(low + (high - low) * np.random.default_rng(0).random((count, *port.shape)))


def verified(program: Program, targets: dict[str, Any], steps: Any = (0, 0, 0, 0)) -> NetworkResult:
    return verify_network(program, targets, inputs(program, len(steps)), np.array(steps))


@pytest.mark.parametrize("role", ROLES)
def test_equal_targets_are_equal_at_every_node(role: str) -> None:
    program = PIPELINE.network(role)
    result = verified(program, {"SLAYER": SlayerTarget(program), "again": Simulator(program)})
    assert result.equal
    assert [row.node for row in result.nodes] == list(program.nodes)
    assert all(row.differing == {"SLAYER": 0, "again": 0} for row in result.nodes)
    assert all(row.events > 0 for row in result.nodes)
    # 4 inputs x T x neurons are compared
    assert {row.node: row.messages for row in result.nodes} == {
        name: 4 * program.timesteps * int(np.prod(node.shape)) for name, node in program.nodes.items()
    }
    (step,) = result.steps
    assert (step.step, step.equal_counts, step.output_error) == (0, {"SLAYER": True, "again": True}, None)


class Wrong(Simulator):
    """Changes one message of a node, or only the counts."""

    def __init__(self, program: Program, node: str) -> None:
        super().__init__(program)
        self.node = node

    def evaluate(self, frames: Any, step: int, record: bool = False) -> Evaluation:
        evaluation = super().evaluate(frames, step, record)
        if self.node == "counts":
            return dataclasses.replace(evaluation, counts=evaluation.counts + evaluation.counts)
        messages = {name: array.copy() for name, array in (*evaluation.messages.items(), *evaluation.readouts.items())}
        messages[self.node].flat[-1] += 1
        readouts = {name: messages.pop(name) for name in evaluation.readouts}
        return dataclasses.replace(evaluation, messages=messages, readouts=readouts)


@pytest.mark.parametrize("role", ROLES)
def test_one_wrong_message_of_any_node_is_found(role: str) -> None:
    program = PIPELINE.network(role)
    for node in program.nodes:
        result = verified(program, {"right": Simulator(program), "wrong": Wrong(program, node)})
        assert not result.equal
        assert {row.node: dict(row.differing) for row in result.nodes if any(row.differing.values())} == {
            node: {"right": 0, "wrong": 1}
        }


def test_wrong_counts_alone_are_found() -> None:
    program = PIPELINE.network("encoder")
    result = verified(program, {"wrong": Wrong(program, "counts")})
    assert not result.equal
    assert not any(row.differing["wrong"] for row in result.nodes)
    assert result.steps[0].equal_counts == {"wrong": False}


def test_every_input_is_compared_at_its_own_conditioning_step() -> None:
    program = tiny().network("denoiser")
    seen: list[tuple[int, int]] = []

    class Watch(Simulator):
        def evaluate(self, frames: Any, step: int, record: bool = False) -> Evaluation:
            seen.append((step, len(frames)))
            return super().evaluate(frames, step, record)

    result = verified(program, {"watch": Watch(program)}, (7, 3, 7, 7, 39))
    assert seen == [(3, 1), (7, 3), (39, 1)]
    assert [row.step for row in result.steps] == [3, 7, 39]
    assert sum(row.messages for row in result.nodes if row.node == "x") == 5 * 4 * 16


class Constant(nn.Module):
    """A float model whose answer is the same everywhere."""

    def __init__(self, value: float, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.value, self.shape = value, shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.full((len(x), *self.shape), self.value)


def test_the_error_of_the_readout_is_relative_to_the_float_model() -> None:
    program = PIPELINE.network("encoder")
    readout = next(program.readouts())
    images = inputs(program)
    evaluation = Simulator(program).evaluate(program.input.quantize(images), 0, record=True)
    found = host_readout(readout, evaluation.readouts[readout.name])
    result = fidelity(program, evaluation, Constant(2.0, readout.shape), images, 0)
    assert result.agreement == {}  # the model has no neuron layers
    assert result.output_error == pytest.approx(np.linalg.norm(found - 2.0) / np.linalg.norm(np.full(found.shape, 2.0)))
    assert fidelity(program, evaluation, Constant(0.0, readout.shape), images, 0).output_error is None


def tokens() -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.random.default_rng(0).integers(CODES, size=(4, *GRID))


def test_the_generator_and_its_table_send_the_same() -> None:
    messages, differing = generator_differences(PIPELINE, tokens())
    lookup = lookup_decoder(PIPELINE).program
    assert messages == 4 * 4 * sum(int(np.prod(node.shape)) for node in lookup.nodes.values())
    assert differing == 0


@pytest.mark.parametrize("code", range(CODES))
def test_a_wrong_pattern_of_any_code_is_found(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    lookup = lookup_decoder(PIPELINE)
    patterns = lookup.patterns.copy()
    patterns[code, 0, 0] ^= 1
    monkeypatch.setattr("spikegen.verification.generator.lookup_decoder", lambda _: Lookup(lookup.program, patterns))
    assert generator_differences(PIPELINE, np.full((1, *GRID), code))[1] >= GRID[0] * GRID[1]
    assert generator_differences(PIPELINE, np.full((1, *GRID), (code + 1) % CODES))[1] == 0


def test_images_have_no_generator() -> None:
    with pytest.raises(ConfigError, match="only a TokenDiffusion has a decoder"):
        generator_differences(tiny(), tokens())
