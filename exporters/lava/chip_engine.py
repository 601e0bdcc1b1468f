"""The chip's network, built once and run many times: on Loihi 2, or with CPU models of the same processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2HwCfg, Loihi2SimCfg
from lava.proc.conv.process import Conv

from spikegen.errors import BackendError
from spikegen.exporters.lava.engine import Engine
from spikegen.exporters.lava.exchange import Results
from spikegen.exporters.lava.form import Form
from spikegen.exporters.lava.processes.adapters import (
    InputAdapter,
    NxInputAdapter,
    NxOutputAdapter,
    OutputAdapter,
    PyInputAdapter,
    PyOutputAdapter,
)
from spikegen.exporters.lava.processes.models import ChipModel
from spikegen.exporters.lava.processes.process import Collect, Feed, Network, Tap
from spikegen.exporters.lava.processes.stock import FastConv
from spikegen.exporters.lava.schedule import Schedule
from spikegen.program import Lif, Program


class ChipEngine(Engine):
    """A Program on Loihi 2, or its network there with CPU models.

    Args:
        program: a Program that ``chip_rules.require_chip`` accepts.
        images: N, the most images of one run.
        form: of the model "chip".

    Raises:
        BackendError: Lava chose a CPU model for a process of the chip, or the network has unconnected parts.
    """

    def __init__(self, program: Program, images: int, form: Form) -> None:
        self._program, self._biases = program, dict.fromkeys(_conditioned(program), 0)
        self.network = Network(
            program=program,
            images=images,
            schedule=Schedule.chip(program, images, form.lead, form.lag),
            synapses=form.synapses,
            observed=form.observed,
        )
        self.network.create_runtime(run_config(hardware=form.hardware))
        if not self.network.runtime.service_to_runtime:
            # Lava (compiler_graphs.py, collapse_subgraph_to_node) forgets parts that are not connected, and then waits.
            raise BackendError("Lava cannot build a network in unconnected parts; observed=True connects them")
        if form.hardware:
            _require_neuro_cores(self.network.parts)
        # The first run starts the runtime; Vars take values from its end on.
        self.network.run(RunSteps(num_steps=self.network.schedule.start))

    def run(self, frames: npt.NDArray[np.int32], step: int, record: bool) -> Results:
        """Run the network once; see :meth:`Engine.run`."""
        self._set_biases(step)
        return super().run(frames, step, record)

    def _set_biases(self, step: int) -> None:
        """Write those that another diffusion step left, neuron by neuron: Lava has no other way to a chip."""
        for name, present in self._biases.items():
            if present != step:
                node = self._program.nodes[name]
                if isinstance(node, Lif):  # nothing else is conditioned
                    mantissas = np.broadcast_to(self._program.bias_mant(node, step), node.shape[::-1])
                    self.network.lifs[name].bias_mant.set(mantissas.astype(np.int32))
                self._biases[name] = step


def run_config(*, hardware: bool) -> Any:
    """How Lava chooses a model for each process.

    On hardware no tag is asked for, as in lava-dl's tutorials: a model for neuro-cores then goes before any other. On
    the CPU it is "fixed_pt", as everywhere here. The adapters are named one by one, because Lava (``run_configs.py``)
    takes no hierarchical model by itself where a process has another one too.
    """
    if hardware:
        models = {Network: ChipModel, InputAdapter: NxInputAdapter, OutputAdapter: NxOutputAdapter}
        return Loihi2HwCfg(exception_proc_model_map=models)
    models = {Network: ChipModel, InputAdapter: PyInputAdapter, OutputAdapter: PyOutputAdapter, Conv: FastConv}
    return Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=models)


def _conditioned(program: Program) -> list[str]:
    return [name for name, table in program.conditioning.tables.items() if (table != table[:1]).any()]


def _require_neuro_cores(parts: dict[str, Any]) -> None:
    """Raise unless everything but the ends on the host is on the chip: Lava falls back to the CPU without a word."""
    from lava.magma.core.model.nc.model import AbstractNcProcessModel  # of lava-loihi

    host = (Feed, Collect, Tap, InputAdapter, OutputAdapter)
    wrong = [
        f"{process.name} ({type(process).__name__}: {process.model_class.__name__})"
        for process in parts.values()
        if not isinstance(process, host) and not issubclass(process.model_class, AbstractNcProcessModel)
    ]
    if wrong:
        raise BackendError(f"lava-loihi has no model for neuro-cores of these processes: {', '.join(wrong)}")
