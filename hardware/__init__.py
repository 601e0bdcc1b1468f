"""Chip limits, design rules and mapping (Loihi 2)."""

# Fails at once when imported as top-level `hardware`: import spikegen.hardware.
from .. import __version__ as __version__
