"""From a PyTorch model to a Program, one pass per file."""

from spikegen.lowering.retime import retime as retime
