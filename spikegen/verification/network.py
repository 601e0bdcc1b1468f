"""One network on every target, message by message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import nn

from spikegen.program import Program, Target
from spikegen.simulator import Simulator
from spikegen.verification.compare import differences
from spikegen.verification.fidelity import fidelity


@dataclass(frozen=True)
class NodeResult:
    """One node over all inputs.

    Attributes:
        node: its name.
        messages: messages compared with each target (currents for a readout).
        events: nonzero messages of the simulator.
        differing: target -> messages that differ from the simulator's.
        agreement: share of spikes equal to those of the float model, 0 .. 1; None for what is no neuron layer of it.
    """

    node: str
    messages: int
    events: int
    differing: Mapping[str, int]
    agreement: float | None


@dataclass(frozen=True)
class StepResult:
    """All inputs of one conditioning step.

    Attributes:
        step: the conditioning step.
        equal_counts: target -> whether all its counts equal the simulator's.
        output_error: see :class:`~spikegen.verification.fidelity.Fidelity`; None also without a float model.
    """

    step: int
    equal_counts: Mapping[str, bool]
    output_error: float | None


@dataclass(frozen=True)
class NetworkResult:
    """One network on every target."""

    nodes: tuple[NodeResult, ...]
    steps: tuple[StepResult, ...]

    @property
    def equal(self) -> bool:
        """Whether no message and no count differs on any target."""
        return all(not any(node.differing.values()) for node in self.nodes) and all(
            all(step.equal_counts.values()) for step in self.steps
        )


def verify_network(
    program: Program,
    targets: Mapping[str, Target],
    inputs: npt.NDArray[np.float64],
    steps: npt.NDArray[np.int64],
    model: nn.Module | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> NetworkResult:
    """Compare ``targets`` with the simulator on real inputs, and the simulator with the float model.

    Args:
        program: a valid Program.
        targets: name -> target that holds it.
        inputs: float64 [N, C, H, W], before quantisation.
        steps: int64 [N], the conditioning step of each input.
        model: the float network, ``model(x)`` or ``model(x, t)``.
        say: told what is being done.
    """
    simulator = Simulator(program)
    messages = dict.fromkeys(program.nodes, 0)
    events = dict.fromkeys(program.nodes, 0)
    differing = {name: dict.fromkeys(targets, 0) for name in program.nodes}
    agreements: dict[str, list[float]] = {}
    rows = []
    for step in np.unique(steps).tolist():
        group = inputs[steps == step]
        frames = program.input.quantize(group)
        reference = simulator.evaluate(frames, step, record=True)
        for difference in differences(program, reference, reference):
            messages[difference.node] += difference.messages
            events[difference.node] += difference.events
        equal_counts = {}
        for name, target in targets.items():
            say(f"step {step}: {name}")
            evaluation = target.evaluate(frames, step, record=True)
            for difference in differences(program, reference, evaluation):
                differing[difference.node][name] += difference.differing
            equal_counts[name] = evaluation.counts == reference.counts
        error = None
        if model is not None:
            close = fidelity(program, reference, model, group, step)
            error = close.output_error
            for name, agreement in close.agreement.items():
                agreements.setdefault(name, []).append(agreement)
        rows.append(StepResult(step, equal_counts, error))
    nodes = tuple(
        NodeResult(
            name,
            messages[name],
            events[name],
            differing[name],
            float(np.mean(agreements[name])) if name in agreements else None,
        )
        for name in program.nodes
    )
    return NetworkResult(nodes, tuple(rows))
