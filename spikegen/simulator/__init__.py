"""The exact integer simulator: the embedded default target. Needs numpy only."""

from spikegen.simulator.simulator import Simulator as Simulator
