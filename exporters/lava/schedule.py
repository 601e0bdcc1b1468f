"""When things happen in a network: pure arithmetic, no Lava.

Lava time starts at 1 and never restarts. In the unrolled network frame step ``k`` (1 .. N T) of a run that starts after
``r`` earlier runs is handled by a node of level ``d`` at Lava time ``r R + k + d``, because every synapse process adds
one step and every Delay its length. The fused network handles timestep ``t`` (1 .. T) of all images at Lava time
``r T + t``. A run takes a whole number of windows of T steps, so this phase is the same in every run.
"""

from __future__ import annotations

from dataclasses import dataclass

from spikegen.program import Program


@dataclass(frozen=True)
class Schedule:
    """The timing of one built network.

    Attributes:
        timesteps: T, steps per image.
        images: images that a run handles one after the other.
        depth: steps from the first node to the last.
    """

    timesteps: int
    images: int
    depth: int

    @staticmethod
    def unrolled(program: Program, images: int) -> Schedule:
        """The schedule of the unrolled ``program``: N images back to back, through all its levels."""
        return Schedule(program.timesteps, images, program.depth)

    @staticmethod
    def fused(program: Program) -> Schedule:
        """The schedule of the fused ``program``: all images at once, all levels within a step."""
        return Schedule(program.timesteps, 1, 0)

    @property
    def window(self) -> int:
        """Steps in which a node handles the images of a run."""
        return self.images * self.timesteps

    @property
    def period(self) -> int:
        """R, steps of a run: the smallest multiple of T that holds the window of the deepest level."""
        return self.timesteps * -(-(self.window + self.depth) // self.timesteps)

    def reset_offset(self, level: int) -> int:
        """Phase of ``LIFReset`` at ``level``: the reset happens when ``time % T`` equals it."""
        return (1 + level) % self.timesteps

    def step(self, time: int) -> int:
        """Step of the present run, 0 .. R - 1, at Lava time ``time``."""
        return (time - 1) % self.period

    def place(self, time: int, level: int) -> tuple[int, int]:
        """Image and timestep that a node of ``level`` handles at Lava time ``time``.

        Before the first image of the run has arrived the image is negative; after the last of n it is n or more.
        """
        return divmod(self.step(time) - level, self.timesteps)
