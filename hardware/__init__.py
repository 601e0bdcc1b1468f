"""Chip limits, design rules and mapping (Loihi 2)."""

from .. import __version__ as __version__  # fails at once when imported as top-level `hardware`: import spikegen.hardware
