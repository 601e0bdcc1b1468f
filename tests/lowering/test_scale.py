"""What an export costs grows with the network, not with the number of candidate networks: counted, never timed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from spikegen.lowering import kernels
from spikegen.lowering.calibrate import Calibration, firing_rates, record_spikes
from spikegen.lowering.compose_linear import compose_linear
from spikegen.lowering.fold_batchnorm import fold_batchnorm
from spikegen.lowering.graph import LayerGraph, NeuronOp
from spikegen.lowering.input_format import InputFormat
from spikegen.lowering.network import FloatNetwork
from spikegen.lowering.relay_room import relays_fit
from spikegen.lowering.trace import trace
from spikegen.models import SpikingUNet, UNetConfig


def folded(config: UNetConfig) -> LayerGraph:
    torch.manual_seed(0)
    shape = (config.channels, config.image_size, config.image_size)
    return fold_batchnorm(trace(SpikingUNet(config).eval(), shape, config.timesteps, 2))


def composed(graph: LayerGraph) -> FloatNetwork:
    rates = {op.name: 0.2 for op in graph.ops if isinstance(op, NeuronOp)}
    port = InputFormat().port(graph.ops[0].shape)
    return compose_linear(graph, rates, fits=lambda found: relays_fit(found, port))[0]


def weights(network: FloatNetwork) -> int:
    return sum(p.kernel.weight.size for p in network.projections if p.kernel.weight is not None)


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> list[kernels.Kernel | None]:
    """The products of two kernels that are computed."""
    found: list[kernels.Kernel | None] = []

    def compose(*arguments: Any) -> kernels.Kernel | None:
        found.append(after_conv(*arguments))
        return found[-1]

    after_conv = kernels.after_conv
    monkeypatch.setattr(kernels, "after_conv", compose)
    return found


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_path_is_composed_once_however_many_networks_are_tried(depth: int, paths: list[Any]) -> None:
    # The composer tries one network for each of 2 depth + 2 streams, each a walk over all layers.
    network = composed(folded(UNetConfig(image_size=8, width=4, blocks=depth, neuron="hard-reset")))
    assert 0 < len(paths) <= len(network.projections)


def test_the_architecture_of_sddpm_stays_a_few_projections_per_population(paths: list[Any]) -> None:
    config = UNetConfig(
        image_size=32,
        channels=3,
        width=4,
        multipliers=(1, 2, 2, 4),
        blocks=2,
        middle_blocks=2,
        neuron="hard-reset",
        tail="swish",
    )
    graph = folded(config)
    network = composed(graph)
    layers = sum(op.weight.size for op in graph.ops if hasattr(op, "weight"))
    assert sum(p.neuron is not None for p in network.populations) == 51
    assert len(network.projections) <= 3 * len(network.populations)
    assert weights(network) <= 2.5 * layers
    assert 0 < len(paths) <= len(network.projections)


def test_rates_are_the_means_of_the_spikes() -> None:
    torch.manual_seed(0)
    model = SpikingUNet(UNetConfig(image_size=8, width=4, neuron="hard-reset", diffusion_steps=10)).eval()
    data = Calibration(np.random.default_rng(0).standard_normal((3, 1, 8, 8)), np.arange(3))
    spikes, _ = record_spikes(model, data)
    found = firing_rates(model, data)
    assert found == {name: float(sent.mean()) for name, sent in spikes.items()}
    assert any(0.0 < rate < 1.0 for rate in found.values())
