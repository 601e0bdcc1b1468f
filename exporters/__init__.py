"""Targets beyond the embedded simulator, one package each."""

from .. import __version__ as __version__  # fails at once when imported as top-level `exporters`: import spikegen.exporters
