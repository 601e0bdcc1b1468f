"""The Program: the integer network that every target runs, its numerics, its rules and its file format."""

from spikegen.program.bounds import current_bounds as current_bounds
from spikegen.program.bounds import overflow_risks as overflow_risks
from spikegen.program.counting import Counts as Counts
from spikegen.program.ir import Conditioning as Conditioning
from spikegen.program.ir import Conv as Conv
from spikegen.program.ir import Dense as Dense
from spikegen.program.ir import Host as Host
from spikegen.program.ir import Input as Input
from spikegen.program.ir import Lif as Lif
from spikegen.program.ir import Node as Node
from spikegen.program.ir import Population as Population
from spikegen.program.ir import Program as Program
from spikegen.program.ir import Projection as Projection
from spikegen.program.ir import Readout as Readout
from spikegen.program.ir import Relay as Relay
from spikegen.program.storage import load as load
from spikegen.program.storage import save as save
from spikegen.program.target import Evaluation as Evaluation
from spikegen.program.target import Target as Target
from spikegen.program.validate import validate as validate
