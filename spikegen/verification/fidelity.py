"""How close the integer Program is to the float model it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import nn

from spikegen.lowering.calibrate import Calibration, record_spikes
from spikegen.program import Evaluation, Lif, Program
from spikegen.runtime.readout import host_readout


@dataclass(frozen=True)
class Fidelity:
    """Agreement of a recorded evaluation with the float model on the same inputs.

    Attributes:
        agreement: Lif population -> share of equal (neuron, timestep, image) spikes, 0 .. 1.
        output_error: ``|y_int - y_float| / |y_float|`` over the whole readout (L2 norms); None if ``y_float`` is 0.
    """

    agreement: Mapping[str, float]
    output_error: float | None


def fidelity(
    program: Program, evaluation: Evaluation, model: nn.Module, images: npt.NDArray[np.float64], step: int
) -> Fidelity:
    """Compare ``evaluation`` of ``images`` (float64 [N, C, H, W], not quantised) at conditioning step ``step``."""
    spikes, output = record_spikes(model, Calibration(images, np.full(len(images), step)))
    agreement = {}
    for population in program.populations:
        if isinstance(population, Lif) and population.origin in spikes:
            start, stop = population.origin_start, population.origin_start + population.shape[0]
            expected = spikes[population.origin][:, :, start:stop]
            agreement[population.name] = float(np.mean(expected == evaluation.messages[population.name]))
    readout = next(program.readouts())
    found = host_readout(readout, evaluation.readouts[readout.name])
    size = float(np.linalg.norm(output))
    return Fidelity(agreement, float(np.linalg.norm(found - output)) / size if size else None)
