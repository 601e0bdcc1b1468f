"""One built Lava network: built once, run many times, in the process that imports this module (the worker)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg

from spikegen.exporters.lava.processes.models import UnrolledModel
from spikegen.exporters.lava.processes.process import Network
from spikegen.program import Lif, Program, Readout


class Engine:
    """A Program on Lava's CPU simulator.

    Args:
        program: a valid Program.
        images: N, the most images of one run.
        synapses: ``"sparse"`` or ``"conv"``.
    """

    def __init__(self, program: Program, images: int, synapses: str) -> None:
        self.network = Network(program=program, images=images, synapses=synapses)
        # The tag is needed for every leaf: without it Lava takes the first model in a file, which is the floating-point
        # one.
        config = Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map={Network: UnrolledModel})
        self.network.create_runtime(config)
        # Vars can be set only after the runtime has started once.
        self.network.run(RunSteps(num_steps=0))
        self._settings: dict[str, int] = {}

    @property
    def actors(self) -> dict[str, Any]:
        """Name of every operating system process of the network -> its ``multiprocessing.Process``.

        Lava (``lava/magma/runtime/runtime.py``) starts one for each leaf Process, in the order of the executable's
        builders, then one for each runtime service; the shared memory manager was started before them.
        """
        runtime = self.network.runtime
        infrastructure = runtime._messaging_infrastructure  # noqa: SLF001 - Lava has no public way
        names = [process.name for process in runtime._executable.proc_builders]  # noqa: SLF001
        services = len(infrastructure.actors) - len(names)
        names += [f"runtime service {index}" for index in range(services)]
        manager = infrastructure.smm._manager._process  # noqa: SLF001
        return dict(zip([*names, "shared memory manager"], [*infrastructure.actors, manager], strict=True))

    @property
    def segments(self) -> list[str]:
        """Names of the shared memory segments of the network."""
        infrastructure = self.network.runtime._messaging_infrastructure  # noqa: SLF001
        return [handle.name for handle in infrastructure.smm._shared_memory_handles]  # noqa: SLF001

    def run(self, frames: npt.NDArray[np.int32], step: int, record: bool) -> dict[str, npt.NDArray[Any]]:
        """Run the network once.

        Args:
            frames: int32 [n, C, H, W], or [n, T, C, H, W] if the input is streamed; n at most N.
            step: diffusion step.
            record: keep the messages.

        Returns:
            ``readout_<i>`` int32 [n, T, C, H, W] for the i-th population, ``totals_<j>`` and, if recorded,
            ``recorded_<j>`` (int64) for the j-th Tap.
        """
        network, schedule = self.network, self.network.schedule
        program: Program = network.program
        if self._changed("step", step):
            for index, population in enumerate(program.populations):
                if isinstance(population, Lif) and population.name in program.conditioning.tables:
                    mantissa = program.bias_mant(population, step)
                    getattr(network, f"bias_{index}").set(np.broadcast_to(mantissa, population.shape[::-1]))
        for index in range(len(network.plans)):
            for name, value in (("window", len(frames) * schedule.timesteps), ("recording", int(record))):
                if self._changed(f"{name}_{index}", value):
                    getattr(network, f"{name}_{index}").set(np.array([value]))
        network.frames.set(schedule.columns(frames))
        network.run(RunSteps(num_steps=schedule.period))
        results: dict[str, npt.NDArray[Any]] = {}
        for index, population in enumerate(program.populations):
            if isinstance(population, Readout):
                data = getattr(network, f"readout_{index}").get().astype(np.int32)
                results[f"readout_{index}"] = schedule.images_of(data, program.levels[population.name], len(frames))
        for index in range(len(network.plans)):
            for name in ("totals", "recorded") if record else ("totals",):
                results[f"{name}_{index}"] = getattr(network, f"{name}_{index}").get().astype(np.int64)
        return results

    def close(self) -> None:
        """End all processes of the network."""
        self.network.stop()

    def _changed(self, setting: str, value: int) -> bool:
        """Whether ``setting`` differs from what the processes hold (setting a Var is slow)."""
        changed = self._settings.get(setting) != value
        self._settings[setting] = value
        return changed
