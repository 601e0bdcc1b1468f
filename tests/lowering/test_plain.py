"""Models of other libraries: every supported layer fires as its library does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import nn

from spikegen.lowering.calibrate import Calibration, record_spikes
from spikegen.lowering.export_module import export_module, form_of, random_calibration
from spikegen.lowering.fold_batchnorm import fold_batchnorm
from spikegen.lowering.graph import NeuronOp
from spikegen.lowering.layers import CONTAINERS, LAYERS, layer_key
from spikegen.lowering.plain import PlainNetwork
from spikegen.lowering.trace import trace
from spikegen.simulator import Simulator
from tests.lowering.networks import on_grid
from tests.lowering.plain_cases import FEATURES, PLAIN, SLAYER, conv, fire
from tests.lowering.reference import hard_reset, run_graph
from tests.lowering.reference import neuron as slayer
from tests.lowering.test_trace import CASES

pytestmark = pytest.mark.filterwarnings("ignore:torch.nn.utils.weight_norm is deprecated:UserWarning")


def made(key: Any) -> nn.Module:
    module = PLAIN[key].build()
    return module.eval() if SLAYER in str(key) else on_grid(module, seed=2)


def test_every_supported_layer_has_a_model() -> None:
    assert {*LAYERS, *CONTAINERS} == {*CASES, *PLAIN} - {"conditioning"}


@pytest.mark.parametrize("key", PLAIN, ids=lambda key: getattr(key, "__name__", key))
def test_a_layer_fires_as_its_library_does(key: Any) -> None:
    case = PLAIN[key]
    pipeline = export_module(made(key), case.spec)
    found = pipeline.network("network").report["float_agreement"]
    assert found["spikes"]
    if case.exact:
        assert set(found["spikes"].values()) == {1.0}
        assert found["readout_error"] <= 1e-6  # a sum in float32 on one side, in float64 on the other
    else:
        assert min(found["spikes"].values()) > 0.95  # a leaky state is rounded, which the float model's is not


def test_features_become_rectangles() -> None:
    model = nn.Sequential(nn.Linear(12, 24), fire(), nn.Unflatten(1, (2, 3, 4)), conv(), fire())
    program = export_module(on_grid(model, seed=2), FEATURES).network("network")
    assert program.report["float_agreement"]["spikes"] == {"1": 1.0, "4": 1.0}
    inputs = np.random.default_rng(0).integers(-7, 8, (5, 12, 1, 1)).astype(np.int32)
    found = Simulator(program).evaluate(inputs, 0, record=True).messages
    assert 0 < found["1"].mean() < 1
    np.testing.assert_array_equal(found["2"].ravel(), found["1"].ravel())


@pytest.mark.parametrize("key", PLAIN, ids=lambda key: getattr(key, "__name__", key))
def test_the_layer_graph_fires_as_the_model(key: Any) -> None:
    case, module = PLAIN[key], made(key)
    if layer_key(type(module)) in CONTAINERS:
        module = nn.Sequential(module)
    streamed, quantisation, form = form_of(module, case.spec, "mean")
    network = PlainNetwork(module, case.spec.timesteps, form, streamed=streamed, lags={}, reads_out=True)
    inputs = random_calibration(case.spec, quantisation, 0)
    spikes, _ = record_spikes(network, Calibration(inputs, np.zeros(len(inputs), dtype=np.int64)))
    graph = fold_batchnorm(trace(module, case.spec.shape, case.spec.timesteps, 1, form))
    values = run_graph(graph, inputs, fire=slayer if SLAYER in str(key) else hard_reset)
    lags = {op.name: op.lag for op in graph.ops}
    fired = [op for op in graph.ops if isinstance(op, NeuronOp) and op.name in spikes]
    assert len(fired) == len(spikes)
    for op in fired:
        sent, lag = spikes[op.name], lags[op.inputs[0]]
        assert 0 < sent.mean() < 1, op.name
        expected = values[op.name].numpy().reshape(sent.shape)
        np.testing.assert_array_equal(expected[:, : case.spec.timesteps - lag], sent[:, lag:], op.name)
