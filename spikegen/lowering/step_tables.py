"""What a model computes from the diffusion step only: evaluated for all steps, it becomes bias tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import fx, nn

from spikegen.errors import LoweringError
from spikegen.lowering.graph import FloatArray


class StepTables:
    """Evaluates the part of the graph that depends on the diffusion step only, for all steps at once."""

    def __init__(self, model: nn.Module, graph: fx.Graph, nodes: set[fx.Node], timesteps: int, steps: int) -> None:
        self.nodes = nodes
        self.timesteps, self.steps = timesteps, steps
        self._values: dict[fx.Node, Any] = {}
        if not nodes:
            return
        interpreter = fx.Interpreter(fx.GraphModule(model, graph))
        with torch.no_grad():
            for node in graph.nodes:
                if node in nodes:
                    interpreter.env = self._values
                    try:
                        step = node.op == "placeholder"
                        self._values[node] = torch.arange(steps) if step else interpreter.run_node(node)
                    except (RuntimeError, IndexError, TypeError, ValueError) as error:
                        raise LoweringError(
                            f"{node.name}: it cannot be evaluated for diffusion steps 0..{steps - 1}: {error}"
                        ) from error

    def table(self, node: fx.Node, channels: int) -> FloatArray:
        """The value of ``node`` as float64 [K, channels]; it must be the same at every timestep and pixel."""
        value = self._values[node]
        expected = (self.timesteps * self.steps, channels, 1, 1)
        shape = tuple(getattr(value, "shape", ()))
        if shape != expected:
            raise LoweringError(
                f"{node.name}: conditioning has shape {shape}, expected {expected} (one bias per channel)"
            )
        per_step = value.double().numpy().reshape(self.timesteps, self.steps, channels)
        if not np.array_equal(per_step, np.broadcast_to(per_step[:1], per_step.shape)):
            raise LoweringError(f"{node.name}: conditioning differs between timesteps")
        return np.array(per_step[0])
