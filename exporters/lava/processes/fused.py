"""The fused model of a Network. This file imports no torch: Lava forks the process that imports it."""

from __future__ import annotations

from typing import Any

from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from spikegen.exporters.lava.exchange import Exchange
from spikegen.exporters.lava.processes.process import Network
from spikegen.program import Evaluation, Program, Target


@implements(proc=Network, protocol=LoihiProtocol)
@requires(CPU)
@tag("fused")
class FusedModel(PyLoihiProcessModel):  # type: ignore[misc]
    """The whole Program in one process: all images of a run at once, T steps per run.

    A spiking population is a function of its inputs over the T timesteps and the Programs have no cycles, so the first
    step of a run evaluates population after population over all timesteps, with the embedded simulator; step t then
    hands out the currents (and, if asked for, the messages) of timestep t, the last one also the totals.

    The simulator, and torch with it, is first imported in this process, at its first run. Threads of torch do not
    survive a fork, so a copy that had worked before the fork would wait for them for ever (``lava/proc/conv/utils.py``
    turned torch off for that); a fresh one may.
    """

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._program: Program = proc_params["program"]
        self._exchange: Exchange = proc_params["exchange"]
        self._simulator: Target | None = None
        self._evaluation: Evaluation | None = None

    def run_spk(self) -> None:
        """One timestep of all images."""
        timesteps = self._program.timesteps
        timestep = (self.time_step - 1) % timesteps
        found = self._evaluate() if timestep == 0 or self._evaluation is None else self._evaluation
        self._evaluation = found if timestep < timesteps - 1 else None
        exchange, images = self._exchange, self._exchange.images
        for name, currents in found.readouts.items():
            exchange.readouts[name][:images, timestep] = currents[:, timestep]
        for name, messages in found.messages.items():
            exchange.messages[name][:images, timestep] = messages[:, timestep]
        if timestep == timesteps - 1:
            counts = found.counts
            for name, totals in exchange.totals.items():
                totals[0] = counts.events[name]
                for index, projection in enumerate(self._program.out_of(name)):
                    totals[1 + 2 * index : 3 + 2 * index] = (
                        counts.stored[projection.name],
                        counts.effective[projection.name],
                    )

    def _evaluate(self) -> Evaluation:
        exchange = self._exchange
        if self._simulator is None:
            _leave_a_core()
            from spikegen.simulator import Simulator

            self._simulator = Simulator(self._program)
        return self._simulator.evaluate(exchange.frames[: exchange.images], exchange.step, exchange.record)


def _leave_a_core() -> None:
    """One thread of torch less: Lava's runtime service polls without a pause while a process works.

    (``lava/magma/runtime/runtime_services/runtime_service.py``, ``_get_pm_resp``.) Threads that wait for each other
    would stand still whenever it takes the core of one of them.
    """
    try:
        import torch
    except ImportError:  # the simulator has an engine without it
        return
    torch.set_num_threads(max(1, torch.get_num_threads() - 1))
