"""Targets beyond the embedded simulator, one package each."""

# Fails at once when imported as top-level `exporters`: import spikegen.exporters.
from .. import __version__ as __version__
