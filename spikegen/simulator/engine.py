"""What an engine of the simulator is: one pass of a batch of images through all populations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
Messages = npt.NDArray[np.int32]


class Pass(NamedTuple):
    """Result of one pass of n images.

    Attributes:
        readouts: readout -> int32 [n, T, C, H, W].
        events: node -> nonzero messages of each neuron over all images and timesteps, int64 [C, H, W].
        messages: node -> int32 [n, T, C, H, W]; empty unless they were asked for.
    """

    readouts: Mapping[str, Messages]
    events: Mapping[str, IntArray]
    messages: Mapping[str, Messages]


class Engine(Protocol):
    """A Program prepared for one way of computing it."""

    def run(self, frames: Messages, step: int, record: bool) -> Pass:
        """One pass.

        Args:
            frames: as in :meth:`spikegen.program.Target.evaluate`, checked.
            step: diffusion step, checked.
            record: keep the messages.

        Raises:
            BackendError: a current leaves the range for which the numerics are defined.
        """
