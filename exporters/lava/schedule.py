"""When things happen in a network: pure arithmetic, no Lava.

Lava time starts at 1 and never restarts. In the unrolled network frame step ``k`` (1 .. N T) of a run that starts after
``r`` earlier runs is handled by a node of level ``d`` at Lava time ``r R + k + d``, because every synapse process adds
one step and every Delay its length. The fused network handles timestep ``t`` (1 .. T) of all images at Lava time
``r T + t``. A run takes a whole number of windows of T steps, so this phase is the same in every run.

The chip's network begins with one window of T steps in which nothing is sent, because Lava takes values for Vars only
from the end of a first run on; all times above are ``start`` = T steps later, which changes no phase. Adapters between
host and chip may add ``lead`` steps before the input arrives, so that every node is as much later, and ``lag`` steps
before the host sees what a node sends.
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
        lead: steps that messages of the host take to the network.
        lag: steps that messages of the network take to the host.
        start: steps before the first run, a multiple of T.
    """

    timesteps: int
    images: int
    depth: int
    lead: int = 0
    lag: int = 0
    start: int = 0

    @staticmethod
    def unrolled(program: Program, images: int) -> Schedule:
        """The schedule of the unrolled ``program``: N images back to back, through all its levels."""
        return Schedule(program.timesteps, images, program.depth)

    @staticmethod
    def chip(program: Program, images: int, lead: int, lag: int) -> Schedule:
        """The schedule of ``program`` on a chip, whose adapters take ``lead`` and ``lag`` steps."""
        return Schedule(program.timesteps, images, program.depth, lead, lag, program.timesteps)

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
        """R, steps of a run: the least multiple of T in which the host sees the window of the deepest level."""
        return self.timesteps * -(-(self.window + self.seen(self.depth)) // self.timesteps)

    def reset_offset(self, level: int) -> int:
        """Phase of ``LIFReset`` at ``level``: the reset happens when ``time % T`` equals it."""
        return (1 + self.lead + level) % self.timesteps

    def seen(self, level: int) -> int:
        """Steps from the start of a run until the host sees the first message of a node of ``level``."""
        return self.lead + level + self.lag

    def step(self, time: int) -> int:
        """Step of the present run, 0 .. R - 1, at Lava time ``time``."""
        return (time - 1 - self.start) % self.period

    def place(self, time: int, late: int) -> tuple[int, int]:
        """Image and timestep that something handles at Lava time ``time`` that begins ``late`` steps after a run.

        ``late`` is 0 for what the host sends and :meth:`seen` of a level for what it hears.

        Before the first image of the run has arrived the image is negative; after the last of n it is n or more.
        """
        return divmod(self.step(time) - late, self.timesteps)
