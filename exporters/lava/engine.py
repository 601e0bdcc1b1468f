"""One built Lava network: built once, run many times, in the process that imports this module (the worker)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from lava.magma.compiler.builders.py_builder import PyProcessBuilder
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.conv.process import Conv
from lava.proc.lif.process import LIFReset

from spikegen.exporters.lava.exchange import Results
from spikegen.exporters.lava.form import Form
from spikegen.exporters.lava.processes.fused import FusedModel
from spikegen.exporters.lava.processes.models import UnrolledModel
from spikegen.exporters.lava.processes.process import Network
from spikegen.exporters.lava.processes.stock import FastConv, HostBiasLif
from spikegen.exporters.lava.schedule import Schedule
from spikegen.program import Program


def open_engine(program: Program, images: int, form: Form) -> Engine:
    """``program`` as a built network of ``form`` for up to ``images`` images of a run."""
    if form.model == "chip":
        from spikegen.exporters.lava.chip_engine import ChipEngine

        return ChipEngine(program, images, form)
    return Engine(program, images, form.synapses)


class Engine:
    """A Program on Lava's CPU simulator.

    Args:
        program: a valid Program.
        images: N, the most images of one run.
        synapses: form of the synapses of the unrolled model, one of ``form.SYNAPSES``; "" for the fused one.
    """

    def __init__(self, program: Program, images: int, synapses: str) -> None:
        models: dict[Any, Any] = {Network: FusedModel}
        schedule = Schedule.fused(program)
        if synapses:
            models = {Network: UnrolledModel, LIFReset: HostBiasLif}
            schedule = Schedule.unrolled(program, images)
        if synapses == "fast-conv":
            models[Conv] = FastConv
        self.network = Network(program=program, images=images, schedule=schedule, synapses=synapses)
        # The tag is needed for every leaf: without it Lava takes the first model in a file, which is the floating-point
        # one.
        self.network.create_runtime(Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=models))
        self.network.run(RunSteps(num_steps=0))  # starts the runtime

    @property
    def actors(self) -> dict[str, Any]:
        """Name of every operating system process of the network -> its ``multiprocessing.Process``.

        Lava (``lava/magma/runtime/runtime.py``) starts one for each leaf Process of the host, in the order of the
        executable's builders, then one for each runtime service; the shared memory manager was started before them.
        """
        runtime = self.network.runtime
        infrastructure = runtime._messaging_infrastructure  # noqa: SLF001 - Lava has no public way
        builders = runtime._executable.proc_builders  # noqa: SLF001 - what runs on a chip has builders of another kind
        names = [process.name for process, builder in builders.items() if isinstance(builder, PyProcessBuilder)]
        services = len(infrastructure.actors) - len(names)
        names += [f"runtime service {index}" for index in range(services)]
        manager = infrastructure.smm._manager._process  # noqa: SLF001
        return dict(zip([*names, "shared memory manager"], [*infrastructure.actors, manager], strict=True))

    @property
    def segments(self) -> list[str]:
        """Names of the shared memory segments of the network."""
        infrastructure = self.network.runtime._messaging_infrastructure  # noqa: SLF001
        return [handle.name for handle in infrastructure.smm._shared_memory_handles]  # noqa: SLF001

    def run(self, frames: npt.NDArray[np.int32], step: int, record: bool) -> Results:
        """Run the network once.

        Args:
            frames: int32 [n, C, H, W], or [n, T, C, H, W] if the input is streamed; n at most N.
            step: diffusion step.
            record: keep the messages.

        Returns:
            ``Exchange.results``: views, valid until the next run.
        """
        self.network.exchange.post(frames, step, record)
        self.network.run(RunSteps(num_steps=self.network.schedule.period))
        found: Results = self.network.exchange.results()
        return found

    def close(self) -> None:
        """End all processes of the network."""
        self.network.stop()
