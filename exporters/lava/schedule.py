"""When things happen in the unrolled network: pure arithmetic, no Lava.

Lava time starts at 1 and never restarts. Frame step ``k`` (1 .. N T) of a run that starts after ``r`` earlier runs is
handled by a node of level ``d`` at Lava time ``r R + k + d``, because every synapse process adds one step and every
Delay its length. A run takes a whole number of windows of T steps, so this phase is the same in every run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spikegen.program import Program


@dataclass(frozen=True)
class Schedule:
    """The timing of one built network.

    Attributes:
        timesteps: T, steps per image.
        images: N, images per run.
        depth: highest level of the Program.
    """

    timesteps: int
    images: int
    depth: int

    @staticmethod
    def of(program: Program, images: int) -> Schedule:
        """The schedule of ``program`` for runs of ``images`` images."""
        return Schedule(program.timesteps, images, program.depth)

    @property
    def window(self) -> int:
        """Steps in which a node handles the images of a run: N T."""
        return self.images * self.timesteps

    @property
    def period(self) -> int:
        """R, steps of a run: the smallest multiple of T that holds the window of the deepest level."""
        return self.timesteps * -(-(self.window + self.depth) // self.timesteps)

    def reset_offset(self, level: int) -> int:
        """Phase of ``LIFReset`` at ``level``: the reset happens when ``time % T`` equals it."""
        return (1 + level) % self.timesteps

    def columns(self, frames: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """What a source sends in a run, one column per step, zero after the last image.

        Args:
            frames: int32 [n, C, H, W], each sent at all T timesteps, or [n, T, C, H, W]; n at most N.

        Returns:
            int32 [W, H, C, R].
        """
        steps = frames.reshape(-1, *frames.shape[2:]) if frames.ndim == 5 else np.repeat(frames, self.timesteps, axis=0)
        data = np.zeros((*steps.shape[:0:-1], self.period), dtype=np.int32)
        data[..., : len(steps)] = steps.transpose(3, 2, 1, 0)
        return data

    def images_of(self, data: npt.NDArray[np.int32], level: int, images: int) -> npt.NDArray[np.int32]:
        """What a sink at ``level`` received for the first ``images`` images.

        Args:
            data: int32 [W, H, C, R], one column per step of the run.
            level: level of the readout.
            images: n, at most N.

        Returns:
            int32 [n, T, C, H, W].
        """
        steps = data[..., level : level + images * self.timesteps].transpose(3, 2, 1, 0)
        return np.ascontiguousarray(steps.reshape(images, self.timesteps, *steps.shape[1:]))
