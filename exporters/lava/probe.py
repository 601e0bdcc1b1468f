"""The process of one measurement: builds a network, runs it once under one probe of Lava's profiler, reads the probe.

Started by ``profiling.py`` as ``python -m spikegen.exporters.lava.probe WORKSPACE``. The folder holds ``network.h5``
(role ``network``), ``frames.npy`` and ``order.json``; this process adds ``segments.json`` (names of its shared memory),
and in the end ``measured.json`` and ``readouts.npz``, or ``failed.txt``.

The profiler is used as public code uses it (lava-nc 0.10.0, lava/utils/profiler.py; lava-optimization,
solvers/generic/solver.py; NECOTIS/TemporalLearningInRSNNs, loihi_experiment/delay.py): ``Profiler.init(run_cfg)``, one
of ``execution_time_probe(num_steps=...)`` and ``energy_probe(num_steps=...)`` before the only ``run`` of the process,
results as attributes after ``stop``. The probe of execution time distorts power, so there is never more than one.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from lava.magma.core.run_conditions import RunSteps

from spikegen.errors import BackendError
from spikegen.exporters.lava.form import Form
from spikegen.exporters.lava.processes.process import Network
from spikegen.exporters.lava.schedule import Schedule
from spikegen.program import Program, load

# Our names (spikegen/energy/measured.py) -> attributes of the profiler: seconds per step, to be summed, and watts.
ATTRIBUTES = {
    "time": {
        "execution_s": "execution_time",
        "spiking_s": "spiking_time",
        "management_s": "management_time",
        "host_s": "host_time",
        "learning_s": "learning_time",
    },
    "power": {
        "total_w": "power",
        "static_w": "static_power",
        "dynamic_w": "dynamic_power",
        "vdd_w": "vdd_power",
        "vddm_w": "vddm_power",
        "vddio_w": "vddio_power",
    },
}
_NEEDED = ("execution_s", "total_w", "static_w", "dynamic_w")


def build(program: Program, images: int, form: Form) -> Network:
    """The chip's network of ``program``, which has one conditioning step: the only run leaves no time to set Vars."""
    return Network(
        program=program,
        images=images,
        schedule=Schedule.chip(program, images, form.lead, form.lag),
        synapses=form.synapses,
        observed=False,
    )


def measure(
    network: Network,
    run_config: Any,
    frames: npt.NDArray[np.int32],
    kind: str,
    repeats: int,
    started: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Run ``network``, which has not run yet, under one probe and end it.

    Args:
        network: what :func:`build` made.
        run_config: a run configuration for which there is a profiler.
        frames: int32 [N, C, H, W], or [N, T, C, H, W] if the input is streamed.
        kind: "time" or "power".
        repeats: how often the N images are evaluated in the one run.
        started: called when the processes of the network exist and before it runs.

    Returns:
        name in :data:`ATTRIBUTES` -> figure of the whole run, [s] or [W]; what the profiler does not know is left out.

    Raises:
        BackendError: there is no profiler, or it has no value for what is needed.
    """
    from lava.utils.profiler import Profiler

    try:
        profiler = Profiler.init(run_config)
    except NotImplementedError as error:
        raise BackendError(f"Lava has no profiler here: {error}") from error
    steps = total_steps(network, repeats)
    if kind == "time":
        profiler.execution_time_probe(num_steps=steps)
    else:
        profiler.energy_probe(num_steps=steps)
    network.create_runtime(run_config)
    started()
    network.exchange.post(frames, 0, record=False)
    network.run(RunSteps(num_steps=steps))
    network.stop()
    found = {}
    for name, attribute in ATTRIBUTES[kind].items():
        value = getattr(profiler, attribute, None)
        if value is not None:
            found[name] = float(np.sum(value) if kind == "time" else np.mean(value))
        elif name in _NEEDED:
            raise BackendError(f"the profiler of this Lava has no {attribute}")
    return found


def total_steps(network: Network, repeats: int) -> int:
    """Timesteps of the one run: what the schedule wants before, then the evaluations one after another."""
    schedule = network.schedule
    return int(schedule.start + repeats * schedule.period)


def segments(network: Network) -> list[str]:
    """Names of the shared memory segments of a network whose runtime exists."""
    infrastructure = network.runtime._messaging_infrastructure  # noqa: SLF001 - Lava has no public way
    return [handle.name for handle in infrastructure.smm._shared_memory_handles]  # noqa: SLF001


def main(arguments: list[str]) -> int:
    """Entry point: WORKSPACE."""
    from spikegen.exporters.lava.chip_engine import run_config

    workspace = Path(arguments[0])
    order = json.loads((workspace / "order.json").read_text(encoding="utf-8"))
    frames = np.load(workspace / "frames.npy", allow_pickle=False)
    form = Form.parse(order["form"])
    try:
        network = build(load(workspace / "network.h5").network("network"), len(frames), form)
        chosen = run_config(hardware=form.hardware)
        with warnings.catch_warnings():  # Lava warns where its profiler is missing, which is an error here
            warnings.simplefilter("ignore")
            values = measure(
                network,
                chosen,
                frames,
                order["kind"],
                order["repeats"],
                # If this process is killed, the one that started it removes them.
                lambda: _write(workspace / "segments.json", segments(network)),
            )
    except Exception as error:  # noqa: BLE001 - whatever Lava raises must reach the user
        (workspace / "failed.txt").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        return 1
    np.savez(workspace / "readouts.npz", **network.exchange.readouts)
    _write(workspace / "measured.json", {"values": values, "timesteps": total_steps(network, order["repeats"])})
    return 0


def _write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
