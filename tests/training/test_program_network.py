"""The network that learns and the Program are equal, integer for integer."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import torch
from hypothesis import given, settings

from spikegen.program import Program
from spikegen.runtime.readout import host_readout
from spikegen.simulator import Simulator
from spikegen.training.program_network import ProgramNetwork
from tests.strategies import frames, programs


def assert_equals_simulator(network: ProgramNetwork, images: npt.NDArray[np.int32], step: int) -> None:
    """Every message of every node, and the host's readout, of integer ``images``."""
    program = network.to_program()
    expected = Simulator(program).evaluate(images, step, record=True)
    real = torch.from_numpy(images.astype(np.float64) * program.input.scale)
    steps = torch.full((len(images),), step)
    with torch.no_grad():
        found = network.messages(network.quantize(real), steps)
        output = network(real, steps)
    assert found.keys() == program.nodes.keys()
    for name, values in {**expected.messages, **expected.readouts}.items():
        sent = found[name].transpose(0, 1).expand(values.shape)
        np.testing.assert_array_equal(sent.numpy(), values, err_msg=name)
    readout = next(program.readouts())
    np.testing.assert_array_equal(output.numpy(), host_readout(readout, expected.readouts[readout.name]))


def jittered(program: Program, seed: int, amount: float = 0.3) -> ProgramNetwork:
    """A network whose values moved as training moves them."""
    network = ProgramNetwork(program)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in network.parameters():
            values.add_(amount * torch.randn(values.shape, generator=generator))
    return network


@settings(max_examples=15)
@given(st.data())
def test_random_programs(data: st.DataObject) -> None:
    program = data.draw(programs(overflow=data.draw(st.booleans(), label="overflow")))
    images = data.draw(frames(program, images=(2, 3)))
    step = data.draw(st.integers(0, program.conditioning.steps - 1))
    assert_equals_simulator(ProgramNetwork(program), images, step)
