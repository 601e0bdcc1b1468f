"""From a PyTorch model to a Program, one pass per file."""

from spikegen.lowering.export import export_checkpoint as export_checkpoint
from spikegen.lowering.export_module import InputSpec as InputSpec
from spikegen.lowering.export_module import export_module as export_module
from spikegen.lowering.input_format import InputFormat as InputFormat
from spikegen.lowering.lower import lower as lower
from spikegen.lowering.retime import retime as retime
